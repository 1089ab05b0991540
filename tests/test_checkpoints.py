import collections
import errno
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path, PosixPath

import numpy
import pytest
from attempts import DAMAGED
from launching import lost
from rights import ordinary_rights

from farmx import layout
from farmx.checkpoints import Checkpoints, spare
from farmx.errors import LogxError

pytestmark = pytest.mark.usefixtures("torchless")

ROOT = Path(__file__).resolve().parent.parent
NAN = math.nan


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    """-> a function that opens the checkpoints in tmp_path, as a program that starts does."""
    return lambda: Checkpoints(str(tmp_path), said.append)


def save(store: Checkpoints, epoch: int, metric: float, **more) -> bool:
    arguments = {"higher_better": True, "delete_old": True, "keep": 1, "steps": {}} | more
    return store.save({"state_dict": {"w": epoch}}, metric, epoch, **arguments)


def files(folder: Path) -> list[str]:
    """The checkpoints in `folder`, as last5, best3; anything else by its name."""
    names = [name for name in os.listdir(folder) if name != layout.CHECKPOINTS]
    return sorted(name.replace("_checkpoint_ep", "").removesuffix(".pth") for name in names)


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("metrics", "options", "left", "verdicts"),
    [
        ([0.1, 0.2, 0.3], {}, ["best2", "last2"], [True, True, True]),
        ([0.3, 0.2, 0.1], {}, ["best0", "last2"], [True, False, False]),
        ([0.3, 0.3], {}, ["best0", "last1"], [True, False]),
        ([0.1, 0.2], {"higher_better": False}, ["best0", "last1"], [True, False]),
        ([0.1, 0.2, 0.1], {"delete_old": False}, ["best1", "last0", "last1", "last2"], [True, True, False]),
        ([NAN, NAN], {}, ["last1"], [False, False]),
        ([NAN, 0.1, NAN], {}, ["best1", "last2"], [False, True, False]),
        ([math.inf, 1.0], {}, ["best0", "last1"], [True, False]),
        ([-math.inf, 1.0], {"higher_better": False}, ["best0", "last1"], [True, False]),
        ([0.1, 0.5, 0.3, 0.2], {"keep": 2}, ["best1", "best2", "last3"], [True, True, False, False]),
        ([0.1, 0.5, 0.3], {"keep": 5}, ["best0", "best1", "best2", "last2"], [True, True, False]),
        ([0.1, 0.5, 0.3], {"keep": 2, "higher_better": False}, ["best0", "best2", "last2"], [True, False, False]),
        ([0.1, NAN, 0.3], {"keep": 3}, ["best0", "best2", "last2"], [True, False, True]),
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_the_best_ones_and_the_last_are_kept(store, tmp_path, said, metrics, options, left, verdicts, restarts):
    open_store = store()
    told = []
    for epoch, metric in enumerate(metrics):
        told.append(save(store() if restarts else open_store, epoch, metric, **options))
    assert (told, files(tmp_path), said) == (verdicts, left, [])


def test_the_record_says_which_is_best_and_last(store, tmp_path):
    save(store(), 3, 0.5, steps={"val": 4}, keep=2)
    save(store(), 4, NAN, steps={"val": 5}, keep=2)
    save(store(), 5, -math.inf, higher_better=True, keep=2)

    def entry(kind, epoch, metric, steps):
        file = f"{kind}_checkpoint_ep{epoch}.pth"
        return {"file": file, "epoch": epoch, "metric": metric, "higher_better": True, "steps": steps}

    assert json.loads((tmp_path / "checkpoints.json").read_text()) == {
        "format": 1,
        "last": entry("last", 5, "-Infinity", {}),
        "best": [entry("best", 3, 0.5, {"val": 4}), entry("best", 5, "-Infinity", {})],
        "dropped": ["last_checkpoint_ep4.pth"],
    }


def refused(*_) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_what_a_checkpoint_holds_is_on_the_disk_before_it_has_its_name(store, tmp_path, monkeypatch, links):
    done, put = [], {}

    def sync(fd, fsync=os.fsync):
        fsync(fd)
        done.append(("synced", os.fstat(fd).st_ino, os.fstat(fd).st_size))

    def named(source, target, rename=os.rename, **more):
        there = os.stat(source)
        rename(source, target, **more)
        if str(target).endswith(".pth"):
            put[os.path.basename(target)] = ("synced", there.st_ino, there.st_size) in done

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", named)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    save(store(), 0, 0.5)
    assert put == {"last_checkpoint_ep0.pth": True, "best_checkpoint_ep0.pth": True}


@pytest.mark.parametrize("links", [True, False])
def test_a_checkpoint_whose_rename_a_file_server_repeats_is_saved(store, tmp_path, monkeypatch, links):
    lost(monkeypatch, "rename", errno.ENOENT)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    for epoch in (0, 1):
        save(store(), epoch, 0.5 + epoch)
    last, best = tmp_path / "last_checkpoint_ep1.pth", tmp_path / "best_checkpoint_ep1.pth"
    assert files(tmp_path) == ["best1", "last1"]
    assert last.samefile(best) == links and last.read_bytes() == best.read_bytes()


def test_a_best_is_a_link_of_the_last_and_stays_when_that_goes(store, tmp_path):
    save(store(), 0, 0.5)
    last, best = tmp_path / "last_checkpoint_ep0.pth", tmp_path / "best_checkpoint_ep0.pth"
    assert last.samefile(best)
    save(store(), 1, 0.1)
    assert pickle.loads(best.read_bytes()) == {"epoch": 0, "state_dict": {"w": 0}, "__metric": 0.5}


def test_where_links_fail_a_best_is_a_copy(store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refused)
    save(store(), 0, 0.5)
    last, best = tmp_path / "last_checkpoint_ep0.pth", tmp_path / "best_checkpoint_ep0.pth"
    assert not last.samefile(best) and last.read_bytes() == best.read_bytes()
    assert files(tmp_path) == ["best0", "last0"]


@pytest.mark.parametrize(
    ("first", "second", "keep", "held"),
    [(0.5, 0.9, 1, 0.9), (0.9, 0.5, 1, 0.9), (0.9, 0.5, 3, 0.9), (0.5, NAN, 1, 0.5), (0.5, 0.5, 2, 0.5)],
)
def test_an_epoch_saved_again_is_best_only_if_it_beats_its_other_self(store, tmp_path, first, second, keep, held):
    save(store(), 2, first, keep=keep)
    save(store(), 2, second, keep=keep)
    assert files(tmp_path) == ["best2", "last2"]
    assert pickle.loads((tmp_path / "best_checkpoint_ep2.pth").read_bytes())["__metric"] == held
    record = json.loads((tmp_path / "checkpoints.json").read_text())
    assert [entry["metric"] for entry in record["best"]] == [held]


def test_a_smaller_keep_lets_the_others_go(store, tmp_path):
    for epoch in range(3):
        save(store(), epoch, epoch, keep=3)
    save(store(), 3, 0.5, keep=1)
    assert files(tmp_path) == ["best2", "last3"]


@pytest.mark.parametrize(
    ("keep", "shown"),
    [
        (0, "0"),
        (-1, "-1"),
        (False, "False"),
        (1.5, "1.5"),
        (2.0, "2.0"),
        (NAN, "nan"),
        ("2", "'2'"),
        ("it's\n$HOME", '"it\'s\\n$HOME"'),
        ([2], "[2]"),
        (numpy.ones(2, int), "array([1, 1])"),
        ("x" * 100, "a str"),
    ],
)
def test_keep_must_be_a_number_that_leaves_one_and_else_nothing_goes(store, tmp_path, keep, shown):
    for epoch in range(3):
        save(store(), epoch, epoch, keep=3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(LogxError) as caught:
        save(store(), 3, 0.5, keep=keep)
    assert str(caught.value) == f"save_model: keep={shown} must be a whole number from 1 on"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("keep", "left"), [(True, ["best2"]), (numpy.int64(2), ["best1", "best2"]), (10**30, ["best0", "best1", "best2"])]
)
def test_keep_may_be_any_whole_number(store, tmp_path, keep, left):
    for epoch in range(3):
        save(store(), epoch, epoch, keep=keep)
    assert files(tmp_path) == [*left, "last2"]


# ---------------------------------------------------------------- without a record, or with a wrong one


def runx(folder: Path, name: str, metric: object) -> None:
    (folder / name).write_bytes(pickle.dumps({"state_dict": {}, "__metric": metric}))


def test_without_a_record_the_names_tell_and_the_metric_of_the_best_is_looked_up_once(store, tmp_path, said):
    for name, metric in [("best_checkpoint_ep3", 0.9), ("best_checkpoint_ep12", 0.8), ("last_checkpoint_ep20", 0)]:
        runx(tmp_path, f"{name}.pth", metric)
    assert store().best() == f"{tmp_path}/best_checkpoint_ep12.pth"
    assert save(store(), 21, 0.85) is True
    assert files(tmp_path) == ["best21", "last21"] and said == []


def test_a_best_whose_metric_cannot_be_known_stays(store, tmp_path, said):
    runx(tmp_path, "best_checkpoint_ep3.pth", decimal_like())
    runx(tmp_path, "best_checkpoint_ep2.pth", None)
    assert save(store(), 4, 0.1) is True
    assert files(tmp_path) == ["best2", "best3", "best4", "last4"]
    assert [line.rpartition("; ")[2] for line in said] == [
        "so best_checkpoint_ep3.pth is not compared with, and stays",
        "so best_checkpoint_ep2.pth is not compared with, and stays",
    ]


def test_a_best_whose_metric_is_not_known_is_not_for_clean_to_remove(store, tmp_path):
    runx(tmp_path, "best_checkpoint_ep2.pth", None)
    for epoch, metric in ((4, 0.1), (5, 0.2)):
        assert save(store(), epoch, metric, keep=3) is True
    assert files(tmp_path) == ["best2", "best4", "best5", "last5"]
    assert spare(str(tmp_path), 1) == ["best_checkpoint_ep4.pth"]


def decimal_like() -> object:
    return collections.Counter("x")  # a class that a plain load refuses


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *DAMAGED.items(),
        ("{}", "not a record of ours"),
        ('{"last": {}, "best": [], "dropped": []}', "not a record of ours"),
        ('{"last": null, "best": [], "dropped": ["../../precious"]}', "not a record of ours"),
        ('{"last": {"file": "/etc/passwd", "epoch": 1, "metric": 1, "higher_better": true, "steps": {}}, "best": [], '
         '"dropped": []}', "not a record of ours"),
        ('{"last": null, "best": 3, "dropped": []}', "not a record of ours"),
    ],
)  # fmt: skip
def test_a_record_that_is_none_gives_way_to_the_names_and_says_so(store, tmp_path, said, text, why):
    runx(tmp_path, "best_checkpoint_ep3.pth", 0.9)
    (tmp_path / "checkpoints.json").write_text(text)
    assert store().best() == f"{tmp_path}/best_checkpoint_ep3.pth"
    assert said == [f"{tmp_path}/checkpoints.json: {why}; going by the names of the checkpoints"]
    assert save(store(), 4, 0.1) is False
    assert files(tmp_path) == ["best3", "last4"]


def test_what_was_deleted_by_hand_is_not_best_any_more(store, tmp_path):
    save(store(), 0, 0.9)
    (tmp_path / "best_checkpoint_ep0.pth").unlink()
    assert store().best() is None
    assert save(store(), 1, 0.1) is True
    assert files(tmp_path) == ["best1", "last1"]


def test_there_is_no_best_where_nothing_was_saved(store, tmp_path):
    (tmp_path / "best_checkpoint_epx.pth").write_text("")
    (tmp_path / "best_checkpoint_ep1.pth.bak").write_text("")
    (tmp_path / "best_checkpoint_ep\u0663.pth").write_text("")
    assert store().best() is None and store().newest(True) is None


# ---------------------------------------------------------------- resuming


def tear(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()  # a best one may be the same file
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("hurt", "epoch", "lines"),
    [
        ([], 4, 0),
        (["last4"], 2, 1),
        (["last4", "best2"], 1, 2),
        (["last4", "best2", "best1"], None, 3),
    ],
)
def test_the_newest_one_that_is_whole_is_resumed_and_torn_ones_are_told(store, tmp_path, said, hurt, epoch, lines):
    for at, metric in enumerate([0.1, 0.8, 0.9, 0.3, 0.2]):
        save(store(), at, metric, keep=2, steps={"val": at + 1})
    assert files(tmp_path) == ["best1", "best2", "last4"]
    for name in hurt:
        tear(tmp_path / f"{name[:4]}_checkpoint_ep{name[4:]}.pth")
    found = store().newest(True)
    assert (found and (found[0].epoch, found[1]["state_dict"], found[0].steps)) == (
        None if epoch is None else (epoch, {"w": epoch}, {"val": epoch + 1})
    )
    assert len(said) == lines
    assert all(line.endswith("; taking the next older checkpoint, if there is one") for line in said)


def test_a_torn_file_under_two_names_is_told_once(store, tmp_path, said):
    save(store(), 1, 0.5)
    with (tmp_path / "last_checkpoint_ep1.pth").open("r+b") as file:
        file.truncate(10)
    assert store().newest(True) is None and len(said) == 1


def test_what_resume_found_torn_is_no_longer_the_best(store, tmp_path):
    for at, metric in enumerate([0.1, 0.8, 0.9]):
        save(store(), at, metric, keep=3)
    for name in ("last", "best"):
        tear(tmp_path / f"{name}_checkpoint_ep2.pth")
    resumed = store()
    assert resumed.newest(True)[0].epoch == 1
    assert resumed.best() == str(tmp_path / "best_checkpoint_ep1.pth")
    assert save(resumed, 2, 0.85, keep=3) is True
    assert store().best() == str(tmp_path / "best_checkpoint_ep2.pth")
    assert store().newest(True)[1] == {"epoch": 2, "state_dict": {"w": 2}, "__metric": 0.85}
    assert files(tmp_path) == ["best0", "best1", "best2", "last2"]


@pytest.mark.parametrize("record", [True, False])
def test_where_all_is_torn_the_next_one_is_the_best(store, tmp_path, record):
    save(store(), 5, 0.9)
    for name in ("last", "best"):
        tear(tmp_path / f"{name}_checkpoint_ep5.pth")
    if not record:
        (tmp_path / layout.CHECKPOINTS).unlink()
    resumed = store()
    assert (resumed.newest(True), resumed.newest(True), resumed.best()) == (None, None, None)
    assert save(resumed, 0, 0.1) is True
    assert store().newest(True)[0].file == "last_checkpoint_ep0.pth"
    assert store().best() == str(tmp_path / "best_checkpoint_ep0.pth")


def test_the_record_not_the_highest_number_says_which_is_last(store, tmp_path):
    save(store(), 9, 0.9)
    save(store(), 0, 0.1)  # trained again from the start
    assert files(tmp_path) == ["best9", "last0"]
    assert store().newest(True)[0].file == "last_checkpoint_ep0.pth"


def test_without_a_record_the_newest_name_is_resumed(store, tmp_path):
    for name in ("best_checkpoint_ep3.pth", "last_checkpoint_ep12.pth", "last_checkpoint_ep9.pth"):
        runx(tmp_path, name, 0.5)
    entry, _ = store().newest(True)
    assert (entry.file, entry.epoch, entry.steps) == ("last_checkpoint_ep12.pth", 12, {})


def test_what_is_no_dict_is_not_resumed_and_a_refusal_is_not_passed_over(store, tmp_path, said):
    (tmp_path / "last_checkpoint_ep2.pth").write_bytes(pickle.dumps([1]))
    runx(tmp_path, "last_checkpoint_ep1.pth", 0.5)
    assert store().newest(True)[0].epoch == 1
    assert said == [
        f"{tmp_path}/last_checkpoint_ep2.pth: holds a list, not what save_model writes; "
        "taking the next older checkpoint, if there is one"
    ]
    (tmp_path / "last_checkpoint_ep3.pth").write_bytes(pickle.dumps({"state_dict": Path("x")}))
    with pytest.raises(LogxError, match=rf"holds {PosixPath.__module__}\.PosixPath"):
        store().newest(True)
    assert store().newest(False)[1] == {"state_dict": Path("x")}


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(("there", "why"), [(None, "No such file or directory"), ("", "Not a directory")])
def test_where_the_directory_is_gone_nothing_is_found_and_a_save_is_one_line(store, tmp_path, said, there, why):
    opened = store()
    save(opened, 0, 0.5)
    shutil.rmtree(tmp_path)
    if there is not None:
        tmp_path.write_text(there)
    for each in (opened, store()):
        assert (each.newest(True), each.best()) == (None, None)
        with pytest.raises(LogxError) as caught:
            save(each, 1, 0.9)
        assert str(caught.value) == f"{tmp_path}/last_checkpoint_ep1.pth: cannot be written: {why}"
    assert said == []


UNREADABLE = [
    (0o300, ": cannot be read: Permission denied", ": cannot be read: Permission denied"),
    (0o600, "/last_checkpoint_ep0.pth: cannot be read: Permission denied",
     "/last_checkpoint_ep1.pth: cannot be written: Permission denied"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "found", "saved"), UNREADABLE)
def test_where_the_directory_cannot_be_read_that_is_one_line(store, tmp_path, mode, found, saved):
    save(store(), 0, 0.5)
    (tmp_path / layout.CHECKPOINTS).unlink()
    tmp_path.chmod(mode)
    with ordinary_rights():
        with pytest.raises(LogxError) as of_newest:
            store().newest(True)
        with pytest.raises(LogxError) as of_save:
            save(store(), 1, 0.9)
    tmp_path.chmod(0o700)
    assert (str(of_newest.value), str(of_save.value)) == (f"{tmp_path}{found}", f"{tmp_path}{saved}")
    assert files(tmp_path) == ["best0", "last0"]


def test_a_copy_that_cannot_be_made_is_one_line(store, tmp_path, monkeypatch):
    """Of a file system without links, whose checkpoint somebody removes just when it is written."""
    monkeypatch.setattr(os, "link", lambda source, target: (os.unlink(source), os.stat(source)))
    with pytest.raises(LogxError) as caught:
        save(store(), 0, 0.5)
    assert str(caught.value) == f"{tmp_path}/best_checkpoint_ep0.pth: cannot be written: No such file or directory"


def test_what_cannot_be_written_leaves_all_as_it_was(store, tmp_path):
    save(store(), 0, 0.5)
    with pytest.raises(LogxError, match=r"^save_model: save_dict cannot be saved: [^\n]+$"):
        store().save({"f": lambda: None}, 0.9, 1, True, True, 1, {})
    assert files(tmp_path) == ["best0", "last0"]
    assert store().newest(True)[1]["state_dict"] == {"w": 0}


def test_a_full_disk_leaves_all_as_it_was(store, tmp_path):
    save(store(), 0, 0.5)
    code = """
import resource, sys
from farmx.logx import logx
logx.initialize('.')
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try: logx.save_model({'state_dict': b'x' * 10_000}, 0.9, 1)
except Exception as error: print(type(error).__name__, error)"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == f"LogxError {tmp_path}/last_checkpoint_ep1.pth: cannot be written: File too large\n"
    assert [name for name in files(tmp_path) if name[0] in ".bl" and name[-1].isdecimal()] == ["best0", "last0"]


@pytest.mark.parametrize(
    ("pid", "stays"), [("999999999", False), ("ours", False), ("1", True), ("9" * 30, False)]
)
def test_what_a_dead_process_left_half_written_goes_at_the_first_save(store, tmp_path, pid, stays):
    pid = str(os.getpid()) if pid == "ours" else pid
    left = [f".last_checkpoint_ep3.pth.{pid}.0123abcd", f".checkpoints.json.{pid}.0123abcd"]
    others = [".last_checkpoint_ep3.pth.1.0123abcd.mine", ".vimrc", "last_checkpoint_ep3.pth.12.0123abcd"]
    for name in (*left, *others):
        (tmp_path / name).write_text("")
    store().best()
    assert sorted(os.listdir(tmp_path)) == sorted((*left, *others))
    save(store(), 4, 0.5)
    assert {name for name in left if (tmp_path / name).exists()} == (set(left) if stays else set())
    assert all((tmp_path / name).exists() for name in others)


# Each system call that changes the directory, in turn, is where the program dies: before it, and half way through the
# content. An audit hook sees the calls, so nothing of ours is replaced. One process forks all the others.
KILLED = """
import json, os, pickle, sys
from farmx.checkpoints import Checkpoints
folder, calls = sys.argv[1], ('open', 'os.rename', 'os.link', 'os.remove')
state = {'at': 0, 'die': None}
def hook(event, args):
    if event not in calls or not any(folder in str(arg) for arg in args): return
    if state['die'] is None: return
    state['at'] += 1
    if state['at'] == state['die']: os.kill(os.getpid(), 9)
sys.addaudithook(hook)
class Half:
    def __reduce__(self): os.kill(os.getpid(), 9)
def save(folder, epoch, metric, **more):
    store = Checkpoints(folder, print)
    return store.save({'state_dict': {'w': epoch}, **more}, metric, epoch, True, True, 2, {})
def state_of(folder):
    found = Checkpoints(folder, print).newest(True)
    best = Checkpoints(folder, print).best()
    return [found and found[0].epoch, found and found[1]['state_dict']['w'],
            best and pickle.load(open(best, 'rb'))['state_dict']['w']]
def prepare(folder):
    os.mkdir(folder)
    for epoch, metric in enumerate([0.5, 0.7, 0.6, 0.1]): save(folder, epoch, metric)
results, step = [], 0
while True:
    step += 1
    here = os.path.join(folder, str(step)); prepare(here)
    pid = os.fork()
    if pid == 0:
        state['die'] = step if step < 100 else None
        save(here, 4, float(sys.argv[2]), half=Half()) if step == 100 else save(here, 4, float(sys.argv[2]))
        os._exit(0)
    died = os.waitpid(pid, 0)[1] != 0
    between = state_of(here)
    pid = os.fork()
    if pid == 0:
        save(here, 4, float(sys.argv[2])); os._exit(0)
    os.waitpid(pid, 0)
    results.append([died, between, state_of(here), sorted(os.listdir(here))])
    if step == 100: break
    if not died: step = 99
print(json.dumps(results))
"""


@pytest.mark.parametrize(
    ("metric", "best", "left"),
    [
        (0.9, 4, ["best_checkpoint_ep1.pth", "best_checkpoint_ep4.pth"]),
        (0.65, 1, ["best_checkpoint_ep1.pth", "best_checkpoint_ep4.pth"]),
        (0.2, 1, ["best_checkpoint_ep1.pth", "best_checkpoint_ep2.pth"]),
        (NAN, 1, ["best_checkpoint_ep1.pth", "best_checkpoint_ep2.pth"]),
    ],
)
def test_killed_at_any_call_a_save_leaves_a_checkpoint_and_its_repetition_cleans_up(tmp_path, metric, best, left):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(metric)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [died for died, *_ in results] == [True] * (len(results) - 2) + [False, True]
    assert len(results) >= 7
    for died, (epoch, weights, first), after, names in results:
        assert epoch == weights and (epoch, first) in {(3, 1), (4, best)} | ({(3, best)} if died else set())
        assert after == [4, 4, best]
        assert names == [*left, "checkpoints.json", "last_checkpoint_ep4.pth"]


def test_a_best_that_was_never_recorded_goes_when_its_epoch_is_saved_again_and_is_worse(store, tmp_path):
    save(store(), 0, 0.5)
    runx(tmp_path, "best_checkpoint_ep1.pth", 0.9)  # killed between the link and the record
    assert save(store(), 1, 0.1) is False
    assert files(tmp_path) == ["best0", "last1"]


def test_a_run_copied_by_hand_keeps_its_best_and_last(store, tmp_path):
    save(store(), 0, 0.9)
    save(store(), 1, 0.1)
    shutil.copytree(tmp_path, tmp_path / "copy")
    copy = Checkpoints(str(tmp_path / "copy"), print)
    assert copy.best() == f"{tmp_path}/copy/best_checkpoint_ep0.pth" and copy.newest(True)[0].epoch == 1
