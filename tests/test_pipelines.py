"""Stages from end to end, as people type them: run in order, retried, chosen, changed, killed in between."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from commands import Project, hparams, read, runs
from faults import KILL
from launching import HOSTILE, gone, number, until
from test_faults import CHUNKS, found, steps
from typed import timeless

from farmx import metrics, status
from farmx.cli import options

WORK = """\
echo "$@"
printf '%s %s\\n' "${1%%:*}" "${FARMX_ATTEMPT_DIR##*/}" >> "$SIDE"
[ ! -e "${SIDE%/*}/fail-$1" ]
"""
CMD = """\
CMD:
  train: sh work.sh train [n]
  avg: sh work.sh avg {n} > {_output}/avg.txt
  test: sh work.sh test {_output}/avg.txt
HPARAMS: {n: [1]}
"""


WAITS = 'until [ -e "$SIDE.go" ]; do sleep 0.05; done; echo {n}'


@pytest.fixture
def pipeline(project):
    """A sweep of one run and three stages; a file fail-STAGE beside the project makes that stage fail."""
    project.write("work.sh", WORK)
    project.write("sweep.yml", CMD)
    return project


def did(project: Project) -> list[str]:
    """The stages that ran since this was last asked, each with its attempt: 'train 1.0'."""
    lines = project.side.read_text().splitlines() if project.side.exists() else []
    project.side.unlink(missing_ok=True)
    return lines


def fails(project: Project, stage: str, yes: bool = True) -> None:
    path = project.side.parent / f"fail-{stage}"
    path.touch() if yes else path.unlink()


def change(project: Project, old: str, new: str) -> None:
    text = (project.path / "sweep.yml").read_text()
    assert old in text
    project.write("sweep.yml", text.replace(old, new))


def counts(err: str) -> str:
    """What a launch says of how many runs it does what about."""
    return re.search(r"^runs  (.*)  in ", err, re.MULTILINE)[1]


def only(project: Project) -> Path:
    (run,) = project.runs()
    return run


def ended(run: Path, attempt: str) -> list[tuple[str, str]]:
    told = read(run / "attempts" / attempt / "end.json")
    return [(stage["name"], stage["state"]) for stage in told["stages"]]


def test_stages_run_in_order_in_one_directory_with_a_log_each(pipeline):
    done = pipeline.ok("sweep.yml", "-i")
    run = only(pipeline)
    assert did(pipeline) == ["train 1.0", "avg 1.0", "test 1.0"]
    assert counts(done.err) == "1: 1 new"
    assert done.out == (
        "train  sh work.sh train --n 1\n"
        "avg    sh work.sh avg 1 > LOGDIR/avg.txt\n"
        "test   sh work.sh test LOGDIR/avg.txt\n"
        f"train --n 1\ntest {run}/avg.txt\n"
    )
    logs = {path.name: path.read_text() for path in run.glob("attempts/1.0/*.log")}
    assert logs == {"train.log": "train --n 1\n", "avg.log": "", "test.log": f"test {run}/avg.txt\n"}
    assert (run / "avg.txt").read_text() == "avg 1\n"
    assert (run / "output.log").read_text() == logs["test.log"]
    assert ended(run, "1.0") == [("train", "done"), ("avg", "done"), ("test", "done")]
    assert pipeline.states() == {run.name: "done"}
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 done"
    assert did(pipeline) == []


def test_a_failed_stage_stops_the_rest_and_a_retry_begins_at_it(pipeline):
    fails(pipeline, "avg")
    assert pipeline("sweep.yml", "-i").code == 1
    run = only(pipeline)
    assert did(pipeline) == ["train 1.0", "avg 1.0"]
    assert ended(run, "1.0") == [("train", "done"), ("avg", "failed"), ("test", "left")]
    assert counts(pipeline("sweep.yml", "-i").err) == "1: 1 failed"
    fails(pipeline, "avg", False)
    fails(pipeline, "test")
    assert pipeline("retry", "sweep").code == 1
    assert did(pipeline) == ["avg 2.0", "test 2.0"]
    fails(pipeline, "test", False)
    pipeline.ok("retry", "sweep", "-j", "1")
    assert did(pipeline) == ["test 3.0"]
    assert ended(run, "3.0") == [("train", "kept"), ("avg", "kept"), ("test", "done")]
    rows = [json.loads(line) for line in (run / "attempts/3.0/events.jsonl").read_text().splitlines()]
    assert [(row["event"], row["stage"]) for row in rows] == [
        ("kept", "train"), ("kept", "avg"), ("started", "test"), ("ended", "test")
    ]  # fmt: skip
    assert pipeline.states() == {run.name: "done"}
    pipeline.ok("retry", "sweep", "--state", "done")
    assert did(pipeline) == ["train 4.0", "avg 4.0", "test 4.0"]


def test_a_launch_of_some_stages_leaves_the_others_to_the_next(pipeline):
    assert counts(pipeline.ok("sweep.yml", "-i", "--stage", "train").err) == "1: 1 new"
    assert did(pipeline) == ["train 1.0"]
    run = only(pipeline)
    assert pipeline.states() == {run.name: "staged"}
    told = timeless(pipeline.ok("status", "sweep").out)
    assert "staged  1         T  train done; avg, test to come\n" in told
    assert counts(pipeline.ok("sweep.yml", "-i", "--stage", "train").err) == "1: 1 staged"
    assert did(pipeline) == []
    assert counts(pipeline.ok("sweep.yml", "--stage", "avg", "train", "-j", "1").err) == "1: 1 from avg"
    assert did(pipeline) == ["avg 2.0"]
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from test"
    assert did(pipeline) == ["test 3.0"]
    assert pipeline.states() == {run.name: "done"}


def test_a_retry_of_some_stages_runs_these_though_they_are_done(pipeline):
    pipeline.ok("sweep.yml", "-i")
    did(pipeline)
    pipeline.ok("retry", "--stage", "avg,test", "sweep")
    assert did(pipeline) == ["avg 2.0", "test 2.0"]
    pipeline.ok("retry", "sweep", "--state", "done", "--stage", "avg")
    assert did(pipeline) == ["avg 3.0"]
    assert pipeline.states() == {only(pipeline).name: "staged"}  # what test read is another now
    pipeline.ok("retry", "sweep", "--stage", "avg")
    assert did(pipeline) == ["avg 4.0"]
    done = pipeline.ok("retry", "sweep", "--stage", "avg", "--state", "failed")
    assert "left  1 staged (--state staged runs it)\n" in done.err
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from test"


def test_a_new_or_changed_later_stage_runs_in_the_same_run_with_todays_code(pipeline):
    pipeline.ok("sweep.yml", "-i")
    did(pipeline)
    pipeline.write("more.sh", 'sh work.sh "more:$(cat "$LOGDIR/avg.txt")"\n')
    change(pipeline, "HPARAMS", "  more: sh more.sh\nHPARAMS")
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from more"
    assert did(pipeline) == ["more 2.0"]
    change(pipeline, "avg {n}", "avg x{n}")
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from avg"
    assert did(pipeline) == ["avg 3.0", "test 3.0", "more 3.0"]
    run = only(pipeline)
    assert (run / "attempts/3.0/more.log").read_text() == "more:avg x1\n"
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 done"
    change(pipeline, "train [n]", "train {n}")
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 new"
    assert did(pipeline) == ["train 1.0", "avg 1.0", "test 1.0", "more 1.0"]


def test_a_failed_run_takes_a_stage_that_was_mended_and_waits_with_one_it_did_not_come_to(pipeline):
    fails(pipeline, "avg")
    assert pipeline("sweep.yml", "-i").code == 1
    did(pipeline)
    change(pipeline, "sh work.sh test", "sh work.sh test2")
    assert counts(pipeline("sweep.yml", "-i").err) == "1: 1 failed"
    assert did(pipeline) == []
    change(pipeline, "avg {n}", "avg2 {n}")
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from avg"
    assert did(pipeline) == ["avg2 2.0", "test2 2.0"]


def test_a_launch_tells_of_stages_that_a_run_under_way_was_not_asked_for(pipeline):
    late = "note  1 under way with the stages they began with; launch again when they have ended\n"
    pipeline.ok("sweep.yml", "-i", "--stage", "train")
    change(pipeline, "sh work.sh avg {n}", WAITS)
    behind = pipeline.behind("sweep.yml", "-j", "1", "--stage", "avg")
    until(lambda: any(pipeline.experiment.glob("*/attempts/2.0/avg.log")))
    told = {stages: late in pipeline.ok("sweep.yml", "-i", *filter(None, [stages and f"--stage={stages}"])).err
            for stages in ("train", "avg", "train,avg", "test", "avg,test", "")}  # fmt: skip
    assert told == {"train": False, "avg": False, "train,avg": False, "test": True, "avg,test": True, "": True}
    Path(f"{pipeline.side}.go").touch()
    assert behind.wait() == 0
    did(pipeline)
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from test"
    assert did(pipeline) == ["test 3.0"]


def test_a_run_under_way_keeps_the_stages_it_began_with_and_the_next_launch_tells(pipeline):
    change(pipeline, "sh work.sh avg {n}", WAITS)
    behind = pipeline.behind("sweep.yml", "-j", "1")
    until(lambda: any(pipeline.experiment.glob("*/attempts/1.0/avg.log")))
    change(pipeline, "echo {n}", "echo x{n}")
    done = pipeline.ok("sweep.yml", "-i")
    assert counts(done.err) == "1: 1 running"
    assert "note  1 under way with the stages they began with; launch again when they have ended\n" in done.err
    Path(f"{pipeline.side}.go").touch()
    assert behind.wait() == 0
    assert (only(pipeline) / "avg.txt").read_text() == "1\n"
    assert did(pipeline) == ["train 1.0", "test 1.0"]
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from avg"
    assert did(pipeline) == ["test 2.0"]
    assert (only(pipeline) / "avg.txt").read_text() == "x1\n"


def test_a_cancelled_run_goes_on_at_the_stage_that_was_cancelled(pipeline):
    change(pipeline, "sh work.sh avg {n}", WAITS)
    behind = pipeline.behind("sweep.yml", "-j", "1")
    until(lambda: any(pipeline.experiment.glob("*/attempts/1.0/avg.log")))
    pipeline.ok("cancel", "sweep")
    behind.wait()
    assert ended(only(pipeline), "1.0") == [("train", "done"), ("avg", "cancelled"), ("test", "left")]
    Path(f"{pipeline.side}.go").touch()
    pipeline.ok("retry", "sweep", "-i")
    assert did(pipeline) == ["train 1.0", "test 2.0"]


WISHED = [
    ("train", [("train", "done"), ("avg", "left"), ("test", "left")], "cancelled", "before avg began"),
    ("avg", [("train", "done"), ("avg", "done"), ("test", "left")], "cancelled", "before test began"),
    ("test", [("train", "done"), ("avg", "done"), ("test", "done")], "done", ""),
]


@pytest.mark.parametrize(("last", "stages", "state", "note"), WISHED)
def test_a_wish_to_cancel_that_comes_as_a_stage_ends_well_lets_no_later_one_begin(pipeline, last, stages, state, note):
    pipeline.write("work.sh", f'{WORK}[ "$1" != {last} ] || touch "$FARMX_ATTEMPT_DIR/cancel"\n')
    pipeline("sweep.yml", "-i")
    end = read(only(pipeline) / "attempts/1.0/end.json")
    assert (ended(only(pipeline), "1.0"), end["state"], end["note"]) == (stages, state, note)
    pipeline.write("work.sh", WORK)
    did(pipeline)
    pipeline("retry", "sweep", "-i")
    assert did(pipeline) == [f"{name} 2.0" for name, how in stages if how == "left"]


LEFT = """\
setsid sh -c 'echo $$ > "$LOGDIR/left"; until [ -e "$FARMX_ATTEMPT_DIR/end.json" ]; do sleep 0.05; done
touch "$LOGDIR/outlived"' > /dev/null 2>&1 &
until [ -s "$LOGDIR/left" ]; do sleep 0.01; done
touch "$FARMX_ATTEMPT_DIR/cancel"
"""


def test_what_a_stage_left_behind_does_not_outlive_a_cancel_between_two(pipeline):
    pipeline.write("work.sh", LEFT)
    pipeline("sweep.yml", "-i")
    run = only(pipeline)
    assert read(run / "attempts/1.0/end.json")["note"] == "before avg began"
    gone(number(f"{run}/left"))
    assert not (run / "outlived").exists()


def test_one_command_that_becomes_the_first_stage_keeps_its_runs(pipeline):
    pipeline.write("sweep.yml", "CMD: sh work.sh train\nHPARAMS: {n: [1]}\n")
    pipeline.ok("sweep.yml", "-i")
    pipeline.write("sweep.yml", CMD)
    assert counts(pipeline.ok("sweep.yml", "-i").err) == "1: 1 from avg"
    assert did(pipeline) == ["train 1.0", "avg 2.0", "test 2.0"]
    assert pipeline.states() == {only(pipeline).name: "done"}


def test_a_stage_has_resources_of_its_own(pipeline):
    change(pipeline, "test: sh work.sh test {_output}/avg.txt", "test: {cmd: 'sh work.sh test', RESOURCES: {gpus: 2}}")
    pipeline.ok("sweep.yml", "-i")
    told = read(only(pipeline) / "run.json")["stages"]
    assert [stage.get("resources") for stage in told] == [None, None, {"gpus": 2}]


def test_every_stages_command_is_printed_behind_its_name(pipeline):
    change(pipeline, "[1]", "[1, 2, 1]")
    change(pipeline, "{n}", "{{n}}")
    done = pipeline.ok("sweep.yml", "-n")
    assert done.out == "".join(
        f"train  sh work.sh train --n {n}\navg    sh work.sh avg {{n}} > LOGDIR/avg.txt\n"
        "test   sh work.sh test LOGDIR/avg.txt\n" for n in (1, 2)
    )  # fmt: skip
    assert done.err == "3 grid, 1 equal to another: 2 runs\n"
    some = pipeline.ok("sweep.yml", "-n", "--stage", "test,train")
    test = "test   sh work.sh test LOGDIR/avg.txt\n"
    assert some.out == "".join(f"train  sh work.sh train --n {n}\n{test}" for n in (1, 2))
    assert some.err == done.err


def test_every_value_arrives_in_every_stage_as_it_was_written(project):
    texts = [text for text in HOSTILE if len(text) < 1000]
    code = "import json, os, sys\nopen(os.environ['SIDE'], 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    project.write("argv.py", code)
    cmd = {"a": "python argv.py x{a} '{a}' [a]", "b": "true && python argv.py {a} \"{a}\" '{a}' {_name} '{_name}'"}
    project.write("sweep.yml", yaml.safe_dump({"CMD": cmd, "HPARAMS": {"a": texts}}, allow_unicode=True))
    project.ok("sweep.yml", "-i")
    told = [json.loads(line) for line in project.side.read_text().splitlines()]
    assert told[::2] == [["x" + text, text, "--a", text] for text in texts]
    names = {hparams(run)["a"]: run.name for run in runs(project.experiment)}
    assert told[1::2] == [[text, text, text, names[text], names[text]] for text in texts]


def test_the_time_is_that_of_the_attempt_in_all_its_stages(project):
    project.write("sweep.yml", "CMD:\n  a: echo {_time} && true\n  b: echo {_time}\n")
    project.ok("sweep.yml", "-i")
    (run,) = project.runs()
    first, second = ((run / "attempts/1.0" / name).read_text() for name in ("a.log", "b.log"))
    assert first == second and re.fullmatch(r"\d{8}\.\d{6}\n", first)


@pytest.mark.parametrize(("stage", "same"), [("b", True), ("a", False)])
def test_a_stage_that_goes_on_with_what_an_attempt_made_has_its_time(project, stage, same):
    project.write("sweep.yml", "CMD:\n  a: echo {_time} >>{_output}/a; [ -e $SIDE.a ]\n"
                               "  b: echo {_time} >>{_output}/b; [ -e $SIDE.b ]\n")  # fmt: skip
    other = {"a": "b", "b": "a"}[stage]
    Path(f"{project.side}.{other}").touch()
    project("sweep.yml", "-i")
    (run,) = project.runs()
    owner = run / "attempts/1.0/owner.json"
    told = json.loads(owner.read_text())
    owner.write_text(json.dumps({**told, "started": 86400.0 * 365}))  # 1971, here too
    Path(f"{project.side}.{stage}").touch()
    project.ok("retry", "sweep", "-i")
    times = [line[:4] for line in (run / "b").read_text().split()]
    assert (times[-1] == "1971") is same


REFUSED = [
    ("sweep.yml -i --stage tset", "--stage: sweep.yml has no stage 'tset'; did you mean test?"),
    ("sweep.yml -n --stage tset", "--stage: sweep.yml has no stage 'tset'; did you mean test?"),
    ("sweep.yml -i --stage train,", "--stage: a name is missing; see farmx launch --help"),
    ("one.yml -i --stage main", "--stage: one.yml has no stage 'main'; there are none"),
]


@pytest.mark.parametrize(("line", "told"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_stage_that_is_not_there_is_told_before_anything_is_made(pipeline, line, told):
    pipeline.write("one.yml", "CMD: 'true'\n")
    assert pipeline(*shlex.split(line)).line(2) == told
    assert not pipeline.root.exists()


def test_a_retry_of_a_stage_that_a_run_has_not_is_told(pipeline):
    fails(pipeline, "train")
    pipeline("sweep.yml", "-i")
    name = only(pipeline).name
    assert pipeline("retry", "sweep", "--stage", "tset").line(2) == (
        f"--stage: {name} has no stage 'tset'; did you mean test?"
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_launch_of_a_changed_stage_killed_at_any_step_is_finished_by_the_same_command(pipeline, tmp_path, chunk):
    pipeline.ok("sweep.yml", "-i")
    pipeline.root.rename(tmp_path / "begin")
    change(pipeline, "avg {n}", "avg2 {n}")
    killed = 0
    for step, done in steps(pipeline, chunk, "sweep.yml", "-i", how=KILL, begin=tmp_path / "begin"):
        assert done.code == -9, step
        run = only(pipeline)
        pipeline.ok("sweep.yml", "-i")
        assert found(pipeline) == {(1, 1): "done"}
        assert "train" not in {line.split()[0] for line in did(pipeline)}
        assert (run / "avg.txt").read_text() == "avg2 1\n"
        killed += 1
    assert killed > 3


STAGES = [
    ("launch s.yml --stage a b", "launch s.yml --stage a,b"),
    ("launch s.yml --stage a b -i", "launch s.yml --stage a,b -i"),
    ("retry x y --stage a b --json", "retry x y --stage a,b --json"),
    ("launch s.yml --stage a,b", "launch s.yml --stage a,b"),
    ("launch s.yml --stage", "launch s.yml --stage"),
    ("launch s.yml --stage -i", "launch s.yml --stage -i"),
    ("launch --stage a s.yml", "launch --stage a s.yml"),  # who knows which of them is a stage
    ("logs run --stage a", "logs run --stage a"),
    ("launch", "launch"),
]


@pytest.mark.parametrize(("typed", "taken"), STAGES)
def test_stages_may_be_given_as_words(typed, taken):
    assert options.joined_stages(typed.split()) == taken.split()


# ---------------------------------------------------------------- what they log

LOGS = """\
import os, sys
from farmx.logx import logx
logx.initialize()
if sys.argv[1] == "train":
    for epoch in range(3):
        logx.metric("val", {"acc": epoch / 10}, epoch)
elif os.environ["FARMX_ATTEMPT"] == "1":
    sys.exit(1)
else:
    logx.metric("val", {"bleu": 30}, 0)
"""


def test_what_a_later_stage_logs_in_another_attempt_leaves_what_an_earlier_one_did(project):
    project.write("t.py", LOGS)
    python = shlex.quote(sys.executable)
    project.write("sweep.yml", f"CMD:\n  train: {python} t.py train\n  test: {python} t.py test\n")
    project("sweep.yml", "-i")
    project.ok("retry", "sweep", "-i")
    (log,) = metrics.read(status.read(str(project.root), "sweep").runs, None, 0.0).values()
    assert {name: (one.last, one.last_step) for name, one in log.series.items()} == {
        "val/acc": (0.2, 2), "val/bleu": (30, 0)
    }  # fmt: skip
