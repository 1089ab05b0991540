"""NOTIFY: who is told what, once each; what cannot be sent is kept; addresses are written nowhere."""

import json
import re
import sys
from pathlib import Path

import pytest
from commands import Project, project

from farmx.spec import Job, Submission


@pytest.fixture
def told(tmp_path, posting, post):
    """A project whose NOTIFY names a file."""
    made = project(tmp_path, posting)
    made.write(".farmx.yaml", "NOTIFY: file://$TOLD\n")
    return made


def names(project: Project) -> list[str]:
    return [run.name for run in project.runs()]


# ---------------------------------------------------------------- Slurm's own mail

OWN = "Slurm's own mail, on farms that are Slurm"
SLURMS = {
    "whom": ("slurm", (), f"tells  {OWN}\n", ""),
    "of two": ("[slurm, 'file://$TOLD']", (), f"tells  {OWN}\ntells  file://...\n", ""),
    "a cron job": ("slurm", ("--flush",), "", "      0 sent\n"),
    "a test": ("slurm", ("--test",), f"{OWN}  not tried: only Slurm sends it\n", ""),
    "a test of two": ("['file://$TOLD', slurm]", ("--test",),
                      f"{OWN}  not tried: only Slurm sends it\nfile://...  took it\n", ""),
}  # fmt: skip


@pytest.mark.parametrize(("notify", "options", "out", "err"), SLURMS.values(), ids=SLURMS)
def test_slurms_own_mail_is_somebody_who_is_told_and_no_address_of_ours(told, notify, options, out, err):
    told.write(".farmx.yaml", f"NOTIFY: {notify}\n")
    done = told.ok("notify", *options)
    assert (done.out, done.err) == (out, err)


WAITS = {"experiment": "sweep", "event": "ended"}
ANSWERS = [
    {"address": OWN, "took": None, "answer": "not tried: only Slurm sends it"},
    {"address": "file://...", "took": False, "answer": "Failed to send to ...: no route"},
]


@pytest.mark.parametrize(("options", "answer", "code"), [
    ((), {"waits": [{**WAITS, "tries": 1}], "tells": ["file://...", OWN]}, 0),
    (("--flush",), {"sent": 0, "waits": [{**WAITS, "tries": 2}]}, 1),
    (("--test",), {"answers": ANSWERS}, 1),
])  # fmt: skip
def test_the_same_as_json(told, post, options, answer, code):
    told.write(".farmx.yaml", "NOTIFY: ['file://$TOLD', slurm]\n")
    post.down.touch()
    told.ok("sweep.yml", "-i")
    done = told("notify", "--json", *options)
    assert (json.loads(done.out), done.code) == (answer, code)
    post.down.unlink()
    done = told.ok("notify", "--json", "--flush")
    assert (json.loads(done.out), done.err) == ({"sent": 1, "waits": []}, "      1 sent\n")


def test_slurms_own_mail_where_no_slurm_is_is_said_at_launch(told, post):
    told.write(".farmx.yaml", "NOTIFY: slurm\n")
    said = "note  NOTIFY: slurm is Slurm's own mail, and farm local sends none; name an address, as json://host\n"
    assert said in told.ok("sweep.yml", "-i").err
    assert told.ok("notify", "--flush").err == "      0 sent\n"


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("how", [("-i",), ("-j", "2")], ids=str)
def test_the_end_of_a_launch_is_told_once(told, post, how):
    told.ok("sweep.yml", *how)
    assert post.told() == ["sweep: 2 done|sumx sweep"]
    told.ok("sweep.yml", *how)
    told.ok("notify", "--flush")
    assert len(post.told()) == 1


# ---------------------------------------------------------------- what is told


def failing(told: Project, error: str = "it is broken") -> None:
    told.write("t.py", f"import sys\nif sys.argv[2] != '1': raise ValueError('{error}')\n")
    told.sweep("{n: [1, 2, 3]}", f"{sys.executable} t.py")


def named(told: Project, lines: list[str]) -> list[str]:
    """The lines, R for each run's name."""
    for name in names(told):
        lines = [line.replace(name, "R") for line in lines]
    return lines


def test_the_first_failure_is_told_with_its_last_line_and_then_the_end(told, post):
    failing(told)
    assert told("sweep.yml", "-i").code == 1
    assert named(told, post.told()) == [
        "sweep: R failed|ValueError: it is broken (t.py:2)||farmx why sweep/R",
        "sweep: 1 done, 2 failed|sumx sweep|farmx retry sweep",
    ]


def test_a_failure_is_told_while_other_runs_go_on(told, post):
    told.write("t.sh", '[ "$2" = 1 ] && exit 3; until grep -q failed "$TOLD"; do sleep 0.05; done\n')
    told.sweep("{n: [1, 2]}", "sh t.sh")
    assert told("sweep.yml", "-j", "2").code == 1
    assert named(told, post.told())[0] == "sweep: R failed|it said nothing||farmx why sweep/R"
    assert len(post.told()) == 2


def test_a_held_rest_is_told_in_place_of_an_end(told, post):
    failing(told)
    told.sweep("{n: [2, 3, 4]}", f"{sys.executable} t.py", "BREAKER: 2\n")
    assert told("sweep.yml", "-i").code == 1
    why = "the first 2 runs failed with: ValueError: it is broken (t.py:2)"
    assert post.told()[1] == f"sweep: the rest is held|{why}||farmx retry --release sweep  # once that is mended"
    assert len(post.told()) == 2


def test_the_best_run_by_the_goal_is_told(told, post, home):
    told.write("t.py", "import sys\nfrom farmx.logx import logx\nlogx.metric('val', {'acc': int(sys.argv[2])}, 7)\n")
    told.sweep("{n: [1, 2]}", f"{sys.executable} t.py", "GOAL: acc\n")
    told.ok("sweep.yml", "-i")
    (best,) = [run.name for run in told.runs() if json.loads((run / "hparams.json").read_text())["n"] == 2]
    assert post.told() == [f"sweep: 2 done|best acc 2 at step 7: {best}||sumx sweep"]
    assert len(list((home / ".cache/farmx/metrics").iterdir())) == 1  # the next message opens what is new


def test_a_retry_is_told_of_as_a_launch_is(told, post):
    failing(told)
    told("sweep.yml", "-i")
    post.path.unlink()
    told.write("t.py", "")
    told.ok("retry", "sweep", "-j", "2")
    assert post.told() == ["sweep: 2 done|sumx sweep"]


def test_a_detached_pool_is_told_of(told, post):
    told.write(".farmx.yaml", "FARM: pool\npool: {EXECUTOR: local}\nNOTIFY: file://$TOLD\n")
    told.ok("sweep.yml")
    assert post.told() == ["sweep: 2 done|sumx sweep"]


# ---------------------------------------------------------------- what cannot be sent


def test_what_cannot_be_sent_is_kept_and_sent_once_there_is_a_route(told, post):
    post.down.write_text("")
    failing(told)
    done = told("sweep.yml", "-i")
    why = "file://...: Failed to send to ...: no route (tried "
    assert f"note  NOTIFY: 2 messages kept in .farmx/outbox: {why}" in done.err
    assert done.code == 1
    shown = told.ok("notify")
    tried = re.sub(r"tried (once|\d times)", "TRIED", shown.out)  # a slow launch tries more than once
    assert tried == "waits  sweep: failed, TRIED\nwaits  sweep: ended\ntells  file://...\n"
    post.down.unlink()
    assert told.ok("notify", "--flush").err == "      2 sent\n"
    assert told.ok("notify").out == "tells  file://...\n"
    assert len(post.told()) == 2


def test_what_is_sent_late_says_how_the_runs_stand_then(told, post):
    post.down.write_text("")
    failing(told)
    told("sweep.yml", "-i")
    told.write("t.py", "")
    told.ok("retry", "sweep", "-i", "--state", "failed", "--code", "now")
    told.write("t.py", "raise ValueError")
    told("sweep.yml", "-i", "--again")
    post.down.unlink()
    told.ok("notify", "--flush")
    ends = [line for line in post.told() if "failed|" not in line or "farmx why" not in line]
    again = "sweep: 3 failed|sumx sweep|farmx retry sweep"
    assert ends == ["sweep: 3 done|sumx sweep", "sweep: 2 done|sumx sweep", again]


def test_a_late_end_of_what_is_gone_or_cannot_be_read_is_told_as_it_was(told, post):
    post.down.write_text("")
    told.ok("sweep.yml", "-i")
    for run in told.runs():
        (run / "run.json").write_text("{")
    post.down.unlink()
    told.ok("notify", "--flush")
    assert post.told() == ["sweep: 2 done|sumx sweep"]


def test_one_address_that_has_it_is_not_told_again_for_another_that_has_not(told, post):
    other = post.path.parent / "other"
    told.write(".farmx.yaml", f"NOTIFY: [file://{other}, file://$TOLD]\n")
    post.down.write_text("")
    told.ok("sweep.yml", "-i")
    post.down.unlink()
    told.ok("notify", "--flush")
    assert post.told() == other.read_text().splitlines() == ["sweep: 2 done|sumx sweep"]


def test_an_address_in_a_file_that_is_copied_with_the_code_is_told(told, post):
    note = "note  .farmx.yaml is copied with the code, and NOTIFY in it, too; write $VAR for what is secret"
    assert note not in told.ok("sweep.yml", "-i").err
    told.write(".farmx.yaml", f"NOTIFY: file://{post.path}?key=hunter2\n")
    assert note in told.ok("sweep.yml", "-i", "--again").err


def test_a_sender_that_cannot_be_started_keeps_no_launch_from_running(told, tmp_path, monkeypatch, capsys):
    from farmx.cli import notifying

    class Farm:
        executor, counts = "local", None
        check = batches = None

        def submit(self, submissions, heard):
            heard(submissions[0], 1)

    home = tmp_path / "logs/sweep/.farmx/submissions/one"
    home.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    heard = []
    made = Submission("one", str(home), (Job(str(home), "1.0"),))
    notifying.telling(Farm(), ["json://host"]).submit([made], lambda _, count: heard.append(count))
    assert heard == [1]
    assert capsys.readouterr().err == (
        "note  NOTIFY: its sender cannot be started: No such file or directory; what there is to tell is kept\n"
    )


def test_a_launch_that_has_no_place_for_its_messages_is_refused_in_one_line(told, post):
    (told.experiment / ".farmx").mkdir(parents=True)
    (told.experiment / ".farmx/outbox").touch()
    done = told("sweep.yml", "-i")
    assert (done.code, done.err.splitlines()[-1]) == (
        3, f"farmx: {told.experiment}/.farmx/outbox: messages cannot be kept there: File exists"
    )  # fmt: skip
    assert post.told() == []


def test_no_address_is_written_below_logroot(told, post):
    told.write(".farmx.yaml", "")
    told.write(".gitignore", "sweep.yml\n")
    (told.path / ".git").mkdir()
    address = f"file://{post.path}?key=hunter2"
    told.sweep(more=f'NOTIFY: ["{address}"]  # here\nCODE_IGNORE_PATTERNS: sweep.yml\n')
    told.ok("sweep.yml", "-i")
    found = [path for path in told.root.rglob("*") if path.is_file() and "hunter2" in path.read_text(errors="replace")]
    assert found == []
    assert Path(f"{post.path}?key=hunter2").read_text() == "sweep: 2 done|sumx sweep\n"
