"""What tests of looking share: runs whose attempts are written by hand, as runners would have left them."""

import json
from pathlib import Path

from launching import Place

from farmx import layout

TORN = "cannot be read: it is not json; restore it or move it away"
OTHER = "not a record of ours; restore it or move it away"
NEWER = "written by a newer farmx (format 99); upgrade farmx to read it"
DAMAGED = {  # the text of a record -> why it is none
    **dict.fromkeys(("", "{", "\x00", "nul"), TORN),
    **dict.fromkeys(("[]", '"x"', '{"format": "new"}'), OTHER),
    '{"format": 99}': NEWER,
}


def staged(place: Place, *stages: str, name: str = "one") -> Path:
    """A run of these stages that nobody has begun."""
    run = Path(place.run(name=name))
    record = json.loads((run / "run.json").read_text())
    record["stages"] = [{"name": stage, "words": ["true"]} for stage in stages or ("main",)]
    (run / "run.json").write_text(json.dumps(record))
    return run


def attempt(run: Path, number: str, outputs: dict[str, bytes], end: str | None = "done", **more: object) -> Path:
    """An attempt that printed `outputs`, a stage each, and ended so."""
    path = run / layout.ATTEMPTS / number
    path.mkdir(parents=True)
    owner = {"format": 1, "host": "h", "pid": 1, "started": 1.0, "submission": "s"}
    (path / layout.OWNER).write_text(json.dumps(owner))
    (path / layout.HEARTBEAT).touch()
    for stage, output in outputs.items():
        (path / f"{stage}.log").write_bytes(output)
    if end:
        ended(path, end, **more)
    return path


def ended(path: Path, state: str, **more: object) -> None:
    record = {"format": 1, "state": state, "started": 1.0, "ended": 2.0, "stages": [{"form": "", "state": state}]}
    (path / layout.END).write_text(json.dumps({**record, **more}))
