"""STATUS_CMD and CANCEL_CMD: one call for many jobs, what a line of it means, and what is known without them."""

import json
import os
from pathlib import Path

import pytest
from launching import HOSTILE

from farmx import layout
from farmx.errors import ConfigError, FarmError
from farmx.farms import base, command, command_asked
from farmx.farms.base import Answer
from farmx.farms.command_asked import LINE, Asking
from farmx.spec import State

QSTAT = r"^\s*(?P<id>\d+)\s+\S+\s+\S+\s+\S+\s+(?P<state>\S+)"


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """A scheduler: `tell` prints a file and exits as it says, each call's words are kept."""
    path = tmp_path / "farm"
    path.mkdir()
    for name in ("tell", "end"):
        (path / name).write_text(
            f"#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done >> {path}/{name}.words\n"
            f"echo \"$A\" >> {path}/{name}.calls\ncat {path}/{name}.out; cat {path}/{name}.err >&2\n"
            f"exit $(cat {path}/{name}.code)\n"
        )
        (path / name).chmod(0o755)
        says(path, name=name)
    monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)
    return path


def says(farm, out="", err="", code=0, name="tell") -> None:
    for suffix, content in (("out", out), ("err", err), ("code", str(code))):
        (farm / f"{name}.{suffix}").write_text(content)


def words(farm, name="tell") -> list[str]:
    path = farm / f"{name}.words"
    return path.read_text().splitlines() if path.exists() else []


def count(farm, name="tell") -> int:
    path = farm / f"{name}.calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def helds(tmp_path: Path, *names: str | None, asking: Asking | None = None, submission: str = "s", **more: object):
    """An index of a submission for each name the farm gave, in order; the runs are r0, r1, ...; more: of job.json."""
    asking = asking or Asking("tell {ids}", cancel="end {ids}")
    path = tmp_path / "x" / ".farmx" / "submissions" / submission
    path.mkdir(parents=True)
    (path / "runs").write_text("".join(f"1.0 r{place}\n" for place in range(len(names))))
    layout.write_json(str(path / "job.json"), {"format": 1, "farm": "big", "executor": "command",
                                               "ask": asking.record({}), **more})  # fmt: skip
    for place, name in enumerate(names):
        if name is not None:
            base.record_queued(str(path), place, place, name)
    record = json.loads((path / "job.json").read_text())
    return [held for _, held in base.held(str(path), record)]


def told(helds, answers) -> list:
    return [answers.get((held.submission, held.place)) for held in helds]


# ---------------------------------------------------------------- poll


def test_one_call_asks_for_all(farm, tmp_path):
    asked = helds(tmp_path, "7", "8", "9")
    says(farm, "7 qw\n8 r\n")
    answers = told(asked, command.poll(asked))
    assert answers == [Answer(State.QUEUED, "farm big says qw"), Answer(State.RUNNING), None]
    assert (words(farm), count(farm)) == (["7", "8", "9"], 1)


FORMS = [
    ("tell {ids}", ["7", "8"]),
    ("tell -j {ids} -x", ["-j", "7", "8", "-x"]),
    ("tell --jobs={ids}", ["--jobs=7,8"]),
    ("tell '-u me'", ["-u me"]),
]


@pytest.mark.parametrize(("text", "said"), FORMS)
def test_ids_are_words_or_a_list_with_commas(farm, tmp_path, text, said):
    command.poll(helds(tmp_path, "7", "8", asking=Asking(text)))
    assert words(farm) == said


def test_leading_variables_are_in_its_environment(farm, tmp_path):
    command.poll(helds(tmp_path, "7", asking=Asking("A=here tell")))
    assert (farm / "tell.calls").read_text() == "here\n"


QSTATS = """job-ID  prior   name       user         state submit/start at     queue            slots ja-task-ID
-----------------------------------------------------------------------------------------------------------------
      7 0.50000 sweep_idle farmer       r     11/21/2026 08:00:00 all.q@localhost      1
     12 0.00000 sweep_shy- farmer       Eqw   11/21/2026 08:00:00                      1
"""
LINES = [
    (QSTATS, QSTAT,
     [Answer(State.RUNNING),
      Answer(State.FAILED, "farm big says Eqw of job 12, which failed before it could say why")]),
    ("7 RUN\n12 PEND\n", LINE, [Answer(State.RUNNING), Answer(State.QUEUED, "farm big says PEND")]),
    ("7|done|\n", r"^(?P<id>\d+)\|(?P<state>\w+)",
     [Answer(State.LOST, "its job ended without recording an end"), None]),
    ("12 mine\n7 Zz\n", LINE, [Answer(State.UNKNOWN, "farm big says 'Zz', which STATUS does not name"),
                              Answer(State.CANCELLED, "its job was cancelled")]),
    ("", LINE, [None, None]),
    ("no jobs here\n", LINE, [None, None]),
]  # fmt: skip


# What Grid Engine makes of its letters: waiting, transferring, running, suspended by three, restarted, held, deleted.
LETTERS = [
    ("queued", "qw hqw hRwq hRqw Rq Rqw"),
    ("running", "r t hr ht Rr Rt hRr hRt dr dt dRr dRt"),
    ("paused", "s ts S tS T tT Rs Rts RS RtS RT RtT ds dS dT dRs dRS dRT"),
    ("failed", "Eqw Ehqw EhRqw ERqw"),
]


@pytest.mark.parametrize(("state", "word"), [(state, word) for state, words in LETTERS for word in words.split()])
def test_every_state_that_grid_engine_shows_is_known(farm, tmp_path, state, word):
    asked = helds(tmp_path, "7")
    says(farm, f"7 {word}\n")
    notes = {"running": "", "failed": f"farm big says {word} of job 7, which failed before it could say why"}
    ours = State("running" if state == "paused" else state)
    assert told(asked, command.poll(asked)) == [Answer(ours, notes.get(state, f"farm big says {word}"))]


@pytest.mark.parametrize(("output", "line", "answers"), LINES)
def test_a_line_is_read_by_status_line_and_its_word_by_status(farm, tmp_path, output, line, answers):
    asking = Asking("tell", line, {"mine": "cancelled", "done": "done"})
    asked = helds(tmp_path, "7", "12", asking=asking)
    says(farm, output)
    assert told(asked, command.poll(asked)) == answers


def test_a_farm_that_cannot_answer_is_unknown_but_for_what_it_listed(farm, tmp_path):
    asked = helds(tmp_path, "7", "8")
    says(farm, "7 r\n", "a warning\njob 8 unknown\n", 3)
    why = "farm big cannot be asked: tell exited 3: job 8 unknown"
    assert told(asked, command.poll(asked)) == [Answer(State.RUNNING), Answer(State.UNKNOWN, why)]


def test_a_farm_whose_command_is_not_here_is_unknown(tmp_path):
    asked = helds(tmp_path, "7", asking=Asking("nowhere {ids}"))
    why = "farm big cannot be asked: there is no nowhere here"
    assert told(asked, command.poll(asked)) == [Answer(State.UNKNOWN, why)]


def test_what_was_never_recorded_as_queued_is_not_asked_for(farm, tmp_path):
    asked = helds(tmp_path, "7", None)
    says(farm, "7 r\n")
    assert told(asked, command.poll(asked)) == [Answer(State.RUNNING), None]
    assert words(farm) == ["7"]
    assert command.poll([asked[1]]) == {} and count(farm) == 1


def test_submissions_asked_alike_are_one_call_and_others_another(farm, tmp_path):
    one, two = helds(tmp_path, "7"), helds(tmp_path, "8", submission="t")
    other = helds(tmp_path, "9", submission="u", asking=Asking("tell other {ids}"))
    says(farm, "7 r\n8 r\n9 r\n")
    assert told([*one, *two, *other], command.poll([*one, *two, *other])) == [Answer(State.RUNNING)] * 3
    assert (words(farm), count(farm)) == (["7", "8", "other", "9"], 2)


def test_without_status_cmd_what_has_not_begun_is_queued_and_the_rest_unknown(tmp_path):
    asked = helds(tmp_path, "7", "8", asking=Asking())
    (tmp_path / "x/r1/attempts/1.0").mkdir(parents=True)
    why = "farm big has no STATUS_CMD"
    assert told(asked, command.poll(asked)) == [Answer(State.QUEUED, why), Answer(State.UNKNOWN, why)]


def test_a_job_whose_id_nobody_said_is_queued_as_far_as_anybody_knows(farm, tmp_path):
    asked = helds(tmp_path, "?", "8")
    says(farm, "8 r\n")
    answers = told(asked, command.poll(asked))
    assert answers == [Answer(State.QUEUED, "its submit command said no id"), Answer(State.RUNNING)]
    assert words(farm) == ["8"]


def test_where_records_are_elsewhere_the_farm_is_believed(farm, tmp_path):
    asked = [held._replace(record={**held.record, "elsewhere": "/mnt"}) for held in helds(tmp_path, "7", "8", "9")]
    says(farm, "7 DONE\n8 RUN\n")
    assert told(asked, command.poll(asked)) == [
        Answer(State.DONE, "farm big says DONE"),
        Answer(State.RUNNING),
        Answer(State.UNKNOWN, "its records are in /mnt"),
    ]


@pytest.mark.parametrize("text", ["tell {ids}", "tell --jobs={ids}"])
def test_more_jobs_than_the_system_takes_in_one_call_are_asked_in_several(farm, tmp_path, text):
    names = [f"{number}.server" for number in range(10_000_000, 10_020_000)]
    asked = helds(tmp_path, *names, asking=Asking(text, cancel=text.replace("tell", "end")))
    says(farm, f"{names[0]} r\n{names[-1]} r\n")
    answers = command.poll(asked)
    assert answers == {(asked[0].submission, place): Answer(State.RUNNING) for place in (0, len(names) - 1)}
    command.cancel(asked)
    for name in ("tell", "end"):
        said = ",".join(words(farm, name)).replace("--jobs=", "")
        assert (said.split(","), count(farm, name)) == (names, 4)


def test_of_several_calls_one_that_fails_leaves_what_it_did_not_list_unknown(farm, tmp_path, monkeypatch):
    monkeypatch.setattr(command_asked, "ROOM", 4)
    asked = helds(tmp_path, "7", "8", "9")
    says(farm, "7 r\n8 r\n", "no job 9\n", 1)
    why = "farm big cannot be asked: tell exited 1: no job 9"
    assert told(asked, command.poll(asked)) == [Answer(State.RUNNING)] * 2 + [Answer(State.UNKNOWN, why)]
    assert count(farm) == 2


# ---------------------------------------------------------------- a number that is another job's now

NAMING = r"^(?P<id>\S+) (?P<state>\S+) (?P<name>.*)"
IT = "it's 1"  # the experiment; a scheduler is told it_s_1_r0
NUMBERS = [
    # line, more of job.json, what is listed -> the states of 7 (r0) and 8 (r1), and what is cancelled
    (NAMING, {"experiment": IT}, "7 r it_s_1_r0\n8 r it_s_1_r1\n", "running running", ["7", "8"]),
    (NAMING, {"experiment": IT}, "7 r it_s_1_r0\n8 r somebody\n", "running none", ["7"]),
    (NAMING, {"experiment": IT}, "7 r it_s_1_r1\n8 r it_s_1_r1x\n", "none none", []),
    (NAMING, {"experiment": IT}, "7 r it_s\n8 r it_s*\n", "running running", ["7", "8"]),  # all that is shown
    (NAMING, {"experiment": IT}, "8 r it_s_1_r1\n", "none running", ["8"]),  # what is not listed has ended
    (NAMING, {"experiment": IT, "pack": {"slots": 1, "each": 2}}, "7 r it_s_1_r0\n8 r it_s_1_r0\n", "running running",
     ["7", "8"]),  # named for the first that the job holds
    (NAMING, {}, "7 r somebody\n8 r somebody\n", "running running", ["7", "8"]),  # SUBMIT_CMD names it otherwise
    (LINE, {"experiment": IT}, "7 r somebody\n8 r somebody\n", "running running", ["7", "8"]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "more", "listed", "states", "ends"), NUMBERS)
def test_a_job_of_another_name_is_neither_believed_nor_cancelled(farm, tmp_path, line, more, listed, states, ends):
    asked = helds(tmp_path, "7", "8", asking=Asking("tell {ids}", line, cancel="end {ids}"), **more)
    says(farm, listed)
    assert [str(each.state) if each else "none" for each in told(asked, command.poll(asked))] == states.split()
    command.cancel(asked)
    assert words(farm, "end") == ends


def test_where_all_numbers_are_others_cancel_calls_nothing(farm, tmp_path):
    asked = helds(tmp_path, "7", asking=Asking("tell", NAMING, cancel="end {ids}"), experiment="x")
    says(farm, "7 r somebody\n")
    command.cancel(asked)
    assert count(farm, "end") == 0


# ---------------------------------------------------------------- cancel


def test_one_call_cancels_all(farm, tmp_path):
    command.cancel(helds(tmp_path, "7", "8", None, "8"))
    assert (words(farm, "end"), count(farm, "end"), count(farm)) == (["7", "8"], 1, 0)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.strip() == name and name and "\n" not in name],
                         ids=repr)  # fmt: skip
def test_no_id_is_read_by_a_shell(farm, tmp_path, name):
    command.cancel(helds(tmp_path, name))
    assert words(farm, "end") == [name]


def test_a_refused_cancel_is_told_unless_the_jobs_have_gone(farm, tmp_path):
    asked = helds(tmp_path, "7")
    says(farm, err="denied: no job 7\n", code=1, name="end")
    command.cancel(asked)
    says(farm, "7 r\n")
    with pytest.raises(FarmError, match="^end exited 1: denied: no job 7$"):
        command.cancel(asked)


# What was given to CANCEL_CMD, which failed -> of which that is told.
STAYING = [
    ("8 r\n9 dr\n10 qw\n", 0, ["8", "10"]),
    ("8 dRt\n9 ds\n10 done\n", 0, []),
    ("8 somehow\n", 0, ["8"]),  # a word that STATUS does not name
    ("9 dr\n", 1, ["7", "8", "10", "11"]),  # what it could not say
]


@pytest.mark.parametrize(("listed", "code", "left"), STAYING)
def test_a_refused_cancel_is_told_of_the_jobs_that_stay(farm, tmp_path, listed, code, left):
    words = {"done": "done", "r": "running", "qw": "queued"}
    asked = helds(tmp_path, "7", "8", "9", "10", "11", asking=Asking("tell {ids}", words=words, cancel="end {ids}"))
    says(farm, 'denied: job "7" does not exist\nme has registered the job 8 for deletion\n', code=1, name="end")
    says(farm, listed, code=code)
    told = []
    try:
        command.cancel(asked)
    except base.Refused as refused:
        assert str(refused) == 'end exited 1: denied: job "7" does not exist'
        told = [held.name for held in refused.helds]
    assert told == left


@pytest.mark.parametrize(("code", "ends"), [(0, ["8"]), (1, ["7", "8"])])
def test_where_names_are_listed_a_job_that_is_gone_is_not_cancelled(farm, tmp_path, code, ends):
    asked = helds(tmp_path, "7", "8", asking=Asking("tell", NAMING, cancel="end {ids}"), experiment="x")
    says(farm, "8 r x_r1\n", code=code)
    command.cancel(asked)
    assert words(farm, "end") == ends


REFUSED = [
    (Asking("tell"), "7", "farm big has no CANCEL_CMD"),
    (Asking("tell", cancel="end {ids}"), "?", "farm big did not say what it calls the job"),
]


@pytest.mark.parametrize(("asking", "name", "why"), REFUSED)
def test_what_cannot_be_cancelled_is_told(farm, tmp_path, asking, name, why):
    with pytest.raises(FarmError) as error:
        command.cancel(helds(tmp_path, name, asking=asking))
    assert (str(error.value), count(farm, "end")) == (why, 0)


# ---------------------------------------------------------------- what is recorded

WRONG = [
    (Asking("tell {id}"), "f:2:1: STATUS_CMD: {id} is nothing here; did you mean ids?"),
    (Asking("tell | grep x"), "f:2:1: STATUS_CMD: no shell reads it, and this is written for one; quote it, or write "
                              "sh -c '...'"),
    (Asking(cancel="end"), "CANCEL_CMD: it does not say which jobs; write {ids} where their ids go"),
]  # fmt: skip


@pytest.mark.parametrize(("asking", "problem"), WRONG)
def test_a_wrong_command_is_told_with_its_place(asking, problem):
    with pytest.raises(ConfigError) as error:
        asking.record({"STATUS_CMD": "f:2:1"})
    assert str(error.value) == problem


def test_the_words_of_common_schedulers_are_known_and_may_be_changed():
    made = Asking("q", words={"qw": "running", "mine": "done"}).record({})["words"]
    assert (made["qw"], made["mine"], made["r"], made["PEND"]) == ("running", "done", "running", "queued")
    assert set(command_asked.WORDS.values()) == {"queued", "running", "done", "failed", "cancelled"}
