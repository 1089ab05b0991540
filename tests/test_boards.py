import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from farmx.errors import LogxError
from farmx.logx import LogX

pytestmark = pytest.mark.usefixtures("torchless")

ROOT = Path(__file__).resolve().parent.parent

# Reads event files back with tensorboard's own reader, away from our warnings-are-errors: a folder a line -> one json.
READ = """
import base64, io, json, sys
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
def image(one):
    picture = Image.open(io.BytesIO(one.encoded_image_string))
    array = [list(pixel) if isinstance(pixel, tuple) else pixel for pixel in picture.getdata()]
    return [one.step, one.height, one.width, picture.size, picture.mode, array]
def read(folder):
    events = EventAccumulator(folder, size_guidance={'scalars': 0, 'tensors': 0, 'images': 0, 'histograms': 0})
    events.Reload()
    tags = events.Tags()
    told = {
        'scalars': {tag: [[one.step, str(one.value)] for one in events.Scalars(tag)] for tag in tags['scalars']},
        'images': {tag: [image(one) for one in events.Images(tag)] for tag in tags['images']},
        'texts': {tag: [[one.step, one.tensor_proto.string_val[0].decode()] for one in events.Tensors(tag)]
                  for tag in tags['tensors'] if tag.endswith('/text_summary')},
        'histograms': {tag: [[one.step, one.histogram_value.num, one.histogram_value.min, one.histogram_value.max,
                              sum(one.histogram_value.bucket)] for one in events.Histograms(tag)]
                       for tag in tags['histograms']},
    }
    try:
        data = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(data)
        told['hparams'] = [start.group_name, {name: getattr(value, value.WhichOneof('kind'))
                           for name, value in sorted(start.hparams.items())}]
    except KeyError:
        pass
    return told
for line in sys.stdin:
    print(json.dumps(read(json.loads(line))), flush=True)
"""


def python(code: str, *argv: str, cwd: Path = ROOT) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def drawn():
    """drawn(folder) -> what TensorBoard finds in `folder`; empty kinds are left out."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", READ], env=env, **pipes) as reader:

        def read(folder: Path) -> dict:
            reader.stdin.write(json.dumps(str(folder)) + "\n")
            reader.stdin.flush()
            return {kind: found for kind, found in json.loads(reader.stdout.readline()).items() if found}

        yield read


@pytest.fixture
def logx():
    made = LogX()
    yield made
    made._close()


def test_metrics_are_drawn_under_the_phase_as_given(drawn, logx, tmp_path):
    logx.initialize(tmp_path, tensorboard=True)
    logx.metric("test", {"acc": 0.5, "größe x": 2}, 3)
    logx.metric("val", {"acc": float("nan")}, 4)
    logx.metric("trn", {"loss": float("inf")})
    logx.metric("trn", {"loss": True}, 1.5)
    logx.add_scalar("alone", 1, 7)
    assert drawn(tmp_path) == {
        "scalars": {
            "test/acc": [[3, "0.5"]],
            "test/größe x": [[3, "2.0"]],
            "val/acc": [[4, "nan"]],
            "trn/loss": [[0, "inf"], [1, "1.0"]],
            "alone": [[7, "1.0"]],
        }
    }


def test_the_proxy_draws_text_histograms_and_images_without_torch(drawn, logx, tmp_path):
    logx.initialize(tmp_path, tensorboard=True)
    logx.tensorboard.add_text("note", "it's **$HOME**\n✓ \ud800", 2)
    logx.tensorboard.add_histogram("weights", [1.0, 2.0, float("nan"), 4.0], 5)
    logx.tensorboard.add_image("picture", [[0, 255]], global_step=1, dataformats="HW")
    assert drawn(tmp_path) == {
        "texts": {"note/text_summary": [[2, "it's **$HOME**\n✓ \\ud800"]]},
        "histograms": {"weights": [[5, 3.0, 1.0, 4.0, 3.0]]},
        "images": {"picture": [[1, 1, 2, [2, 1], "L", [0, 255]]]},
    }
    assert "torch" not in sys.modules


def test_the_proxy_draws_charts_of_several_scalars_and_trials_without_torch(drawn, logx, tmp_path):
    logx.initialize(tmp_path, tensorboard=True)
    for step in (0, 1):
        logx.tensorboard.add_scalars("loss/all", {"train": step, "it's": 2.0}, step)
    logx.tensorboard.add_hparams({"lr": 0.1, "list": [1]}, {"acc": 0.5}, run_name="trial", global_step=7)
    logx.tensorboard.add_hparams({"lr": 0.2}, {})
    assert drawn(tmp_path / "loss_all_train") == {"scalars": {"loss/all": [[0, "0.0"], [1, "1.0"]]}}
    assert drawn(tmp_path / "loss_all_it's") == {"scalars": {"loss/all": [[0, "2.0"], [1, "2.0"]]}}
    told = {"hparams": ["trial", {"list": "[1]", "lr": 0.1}], "scalars": {"acc": [[7, "0.5"]]}}
    assert drawn(tmp_path / "trial") == told
    (other,) = tmp_path.glob("[0-9]*.[0-9]*")
    assert drawn(other) == {"hparams": [other.name, {"lr": 0.2}]}
    assert drawn(tmp_path) == {}
    assert logx.tensorboard.get_logdir() == str(tmp_path)
    logx.tensorboard.close()
    logx.tensorboard.add_scalars("loss/all", {"train": 3}, 2)
    assert drawn(tmp_path / "loss_all_train")["scalars"] == {"loss/all": [[0, "0.0"], [1, "1.0"], [2, "3.0"]]}


def pixels(values: list, kind: type) -> list:
    return [pixels(one, kind) if isinstance(one, list) else kind(one) for one in values]


@pytest.mark.parametrize(
    ("image", "width", "height", "mode", "told"),
    [
        ([[0, 128, 300]], 3, 1, "L", [0, 128, 255]),
        ([[0.0, 0.5], [1.0, 2.0]], 2, 2, "L", [0, 127, 255, 255]),
        ([[True, False]], 2, 1, "L", [255, 0]),
        ([[float("nan"), -1.0]], 2, 1, "L", [0, 0]),
        ([[[1, 2]]], 2, 1, "L", [1, 2]),
        ([[[1, 2]], [[3, 4]], [[5, 6]]], 2, 1, "RGB", [[1, 3, 5], [2, 4, 6]]),
        ([[[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]], 2, 2, "RGB", [[1, 2, 3], [4, 5, 6]] * 2),
        ([[[1, 2, 3, 4]], [[5, 6, 7, 8]]], 1, 2, "RGBA", [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ([list(range(256)), list(range(255, -1, -1))], 256, 2, "L", [*range(256), *range(255, -1, -1)]),
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_an_image_of_any_usual_form_arrives_without_any_library_of_images(
    drawn, logx, tmp_path, monkeypatch, image, width, height, mode, told, as_array
):
    import numpy

    monkeypatch.setitem(sys.modules, "PIL", None)
    logx.initialize(tmp_path, tensorboard=True)
    logx.add_image("a", numpy.array(image) if as_array else image, 4)
    logx.add_image("b", image)
    size = [height, width, [width, height], mode, told]
    assert drawn(tmp_path) == {"images": {"a": [[4, *size]], "b": [[0, *size]]}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda logx: logx.add_image("a", [1, 2]),
            "add_image: shape (2,) is no image: (H, W), (C, H, W) or (H, W, C) with 1, 3 or 4 channels",
        ),
        (
            lambda logx: logx.tensorboard.add_image("a", [[1]], 0),
            "image 'a': shape (1, 1) is not of the form CHW; CHW, HWC and HW are known",
        ),
        (
            lambda logx: logx.tensorboard.add_image("a", [[1]], 0, dataformats="XY"),
            "image 'a': shape (1, 1) is not of the form XY; CHW, HWC and HW are known",
        ),
        (
            lambda logx: logx.tensorboard.add_image("a", [[[1, 2], [1, 2]]], 0, dataformats="HWC"),
            "image 'a': 2 channels are none of 1, 3, 4",
        ),
        (lambda logx: logx.add_image("a", [[]]), "image 'a': shape (1, 0) holds no pixel"),
        (lambda logx: logx.add_scalar("a", "x", 0), "scalar 'a': 'x' is not a number"),
        (lambda logx: logx.add_scalar("a", 1, "x"), "global_step: 'x' is not a number"),
        (lambda logx: logx.tensorboard.add_histogram("h", []), "histogram 'h': no finite value to draw"),
        (
            lambda logx: logx.tensorboard.add_graph(None),
            "tensorboard.add_graph: SummaryWriter of torch may have it: import torch before logx.initialize(); "
            "without it there are add_scalar, add_scalars, add_image, add_text, add_histogram, add_hparams",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(logx, tmp_path, call, message):
    logx.initialize(tmp_path, tensorboard=True)
    with pytest.raises(LogxError) as caught:
        call(logx)
    assert str(caught.value) == message


@pytest.mark.parametrize("hparams", ["given", "of the run"])
def test_hparams_are_on_their_tab_beside_the_scalars(drawn, logx, tmp_path, hparams):
    values = {"lr": 0.1, "n": 3, "flag": True, "name": "it's $HOME", "none": None, "list": [1, "a"]}
    values |= {"format": "png"}
    folder = tmp_path / "athletic-wallaby"
    if hparams == "of the run":
        folder.mkdir()
        (folder / "hparams.json").write_text(json.dumps(values))
    logx.initialize(folder, tensorboard=True, hparams=values if hparams == "given" else None)
    logx.metric("val", {"acc": 0.5})
    told = {"flag": True, "list": "[1, 'a']", "lr": 0.1, "n": 3.0, "name": "it's $HOME", "none": "None"}
    told |= {"format": "png"}
    assert drawn(folder) == {"hparams": ["athletic-wallaby", told], "scalars": {"val/acc": [[0, "0.5"]]}}


TORN = [("{", "it is not json; restore it or move it away"), (None, "Is a directory")]


@pytest.mark.parametrize("content, why", TORN)
def test_a_record_of_hparams_that_cannot_be_read_is_one_line(logx, tmp_path, content, why):
    path = tmp_path / "hparams.json"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(LogxError) as caught:
        logx.initialize(tmp_path, tensorboard=True)
    assert str(caught.value) == f"{path}: cannot be read: {why}"


def test_inside_a_run_event_files_are_beside_the_checkpoints(logx, tmp_path, monkeypatch):
    attempt = tmp_path / "run" / "attempts" / "1.0"
    attempt.mkdir(parents=True)
    monkeypatch.setenv("FARMX_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("FARMX_ATTEMPT_DIR", str(attempt))
    logx.initialize(tensorboard=True)
    logx.add_scalar("a", 1, 0)
    assert len(list((tmp_path / "run").glob("events.out.tfevents*"))) == 1
    assert list(attempt.glob("events*")) == []


@pytest.mark.parametrize("asked", [False, True])
def test_nothing_is_drawn_unless_it_was_asked_for(logx, tmp_path, asked):
    logx.initialize(tmp_path, tensorboard=asked)
    logx.metric("val", {"acc": 1})
    assert bool(list(tmp_path.glob("events*"))) == asked
    if not asked:
        assert logx.tensorboard.add_anything("x", y=1) is None
        assert logx.add_image("a", "no image") is None


SURVIVES = """
import os, signal
from farmx.logx import logx
logx.initialize('d', tensorboard=True, eager_flush={eager})
{call}
os.kill(os.getpid(), signal.SIGKILL)"""


@pytest.mark.parametrize(
    ("eager", "call", "found"),
    [
        (True, "logx.add_scalar('a', 1, 0)", True),
        (True, "logx.metric('val', {'a': 1})", True),
        (True, "with logx.suspend_flush(): logx.add_scalar('a', 1, 0)", True),
        (True, "with logx.suspend_flush():\n  with logx.suspend_flush(): pass\n  logx.add_scalar('a', 1, 0)", True),
        (False, "for _ in range(50): logx.add_scalar('a', 1, 0)", False),
        (True, "with logx.suspend_flush(False):\n  for _ in range(50): logx.add_scalar('a', 1, 0)", False),
    ],
)
def test_what_was_flushed_survives_sigkill(drawn, tmp_path, eager, call, found):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    code = SURVIVES.format(eager=eager, call=call)
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env).returncode == -9
    scalars = drawn(tmp_path / "d").get("scalars", {})
    assert scalars == {"val/a" if "metric" in call else "a": [[0, "1.0"]]} if found else len(scalars.get("a", ())) < 50


def test_what_is_drawn_after_close_opens_a_new_file_as_of_torch(drawn, logx, tmp_path):
    logx.initialize(tmp_path, tensorboard=True)
    logx.add_scalar("before", 1, 0)
    logx.tensorboard.close()
    logx.tensorboard.close()
    logx.tensorboard.flush()
    with logx.suspend_flush():
        pass
    assert len(list(tmp_path.glob("events*"))) == 1
    logx.metric("val", {"acc": 0.5}, 3)
    logx.add_scalar("after", 2, 1)
    assert len(list(tmp_path.glob("events*"))) == 2
    assert drawn(tmp_path)["scalars"] == {"before": [[0, "1.0"]], "after": [[1, "2.0"]], "val/acc": [[3, "0.5"]]}


FULL = """
import os, resource, sys
from farmx.errors import LogxError
from farmx.logx import logx
def suspended():
    with logx.suspend_flush():
        logx.add_scalar('x', 2, 1)
logx.initialize('d', tensorboard=True)
logx.tensorboard.add_text('text', 'x' * 1000)
(events,) = [name for name in os.listdir('d') if name.startswith('events')]
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f'd/{events}') + 10, hard))
for _ in range(5):  # tensorboard's thread may tell the next call
    try:
        eval(sys.argv[1])
    except LogxError as error:
        print(error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
eval(sys.argv[1])
print(len([name for name in os.listdir('d') if name.startswith('events')]))
"""


@pytest.mark.parametrize("call", ["logx.metric('val', {'a': 1.0}, 1)", "suspended()", "logx.add_scalar('x', 2, 1)"])
def test_event_files_on_a_full_disk_are_one_line_and_the_next_is_written_once_there_is_room(tmp_path, call):
    assert python(FULL, call, cwd=tmp_path) == f"{tmp_path}/d: cannot be written: File too large\n2\n"


def test_an_end_without_flushes_loses_nothing(drawn, tmp_path):
    code = "from farmx.logx import logx; logx.initialize('d', tensorboard=True, eager_flush=False)\n"
    python(code + "for i in range(50): logx.add_scalar('a', i, i)", cwd=tmp_path)
    assert drawn(tmp_path / "d") == {"scalars": {"a": [[i, f"{i}.0"] for i in range(50)]}}
