"""Every mistake a user can make: one line that says where, what and what to do; an exit code; and nothing made."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BIN
from typed import Typed, everything, ran, write

from farmx.settings import TABLE

SWEEP = "CMD: python t.py\nHPARAMS: {lr: [1, 2]}\n"
SETTINGS = "ARG_STYLE, BREAKER, CANCEL_CMD, CODE_IGNORE_PATTERNS, CODE_INCLUDE, CODE_LINK, CODE_MAX_FILES, \
CODE_MAX_MB, CODE_STAGING, CONTAINER, ENV, ENV_PASS, EXECUTOR, FARM, JOB_ID, LOGROOT, MAX_REQUEUES, NGC_LOGROOT, \
NOTIFY, OPTIONS, PACK, PYTHONPATH, REQUEUE_CODE, RESOURCES, \
RETRY, SENTINEL, SETUP, STATUS, STATUS_CMD, STATUS_LINE, SUBMIT_CMD, SUBMIT_PARALLEL, WORKSPACE"
KEYS = SETTINGS.replace("CODE_IGNORE", "CMD, CODE_IGNORE").replace("JOB_ID,", "GOAL, HPARAMS, JOB_ID,", 1)
STATES = "cancelled, done, failed, interrupted, lost, preempted, pruned, queued, running, staged, unknown"


@pytest.fixture
def typed(monkeypatch, capfd, tmp_path) -> Typed:
    place = tmp_path / "project"
    write(place, {"sweep.yml": SWEEP, "t.py": "print(1)\n"})
    return Typed(monkeypatch, capfd, place)


def refused(typed: Typed, line: str, code: int, message: str) -> None:
    """`line` ends in `code` and one line, its program's name in front, and leaves the directory as it was."""
    before = everything(typed.cwd)
    said = typed(line)
    told = message.replace("HERE", str(typed.cwd))
    assert said == (code, "", f"{line.split()[0]}: {told}\n")
    assert everything(typed.cwd) == before


# ---------------------------------------------------------------- the sweep file

# Each setting but for those that take any text, with each kind of wrong value.
WRONG_SETTINGS = [
    ("LOGROOT: [a]", 10, "LOGROOT: a list is not allowed; it must be a path"),
    ("LOGROOT: {a: b}", 10, "LOGROOT: a mapping is not allowed; it must be a path"),
    ("LOGROOT: ''", 10, "LOGROOT: '' is not allowed; it must be a path"),
    ("LOGROOT: true", 10, "LOGROOT: 'true' is not allowed; it must be a path"),
    ("LOGROOT: $NOPE/runs", 1, "LOGROOT: $NOPE is not set; export it, or write the path"),
    ("LOGROOT: ${NOPE}", 1, "LOGROOT: $NOPE is not set; export it, or write the path"),
    ("LOGROOT: ~bob/runs", 1, "LOGROOT: '~bob/runs': only ~ and ~/ are replaced; write the path"),
    ("FARM: mars", 1, "no farm named 'mars' in any configuration file; known: local"),
    ("FARM: [a]", 7, "FARM: a list is not allowed; it must be a name"),
    ("EXECUTOR: slrm", 11, "EXECUTOR: 'slrm' is not allowed; it must be local, slurm or command; did you mean slurm?"),
    ("EXECUTOR: [slurm]", 11, "EXECUTOR: a list is not allowed; it must be local, slurm or command"),
    ("OPTIONS: 3", 10, "OPTIONS: '3' is not allowed; it must be a mapping"),
    ("SUBMIT_CMD: true", 13, "SUBMIT_CMD: 'true' is not allowed; it must be a command"),
    ("SUBMIT_CMD: [sbatch]", 13, "SUBMIT_CMD: a list is not allowed; it must be a command"),
    ("SUBMIT_PARALLEL: 0", 18, "SUBMIT_PARALLEL: '0' is not allowed; it must be a whole number above 0"),
    ("JOB_ID: job", 9, "JOB_ID: 'job' is not allowed; it must be a regular expression with a group"),
    ("STATUS_CMD: [qstat]", 13, "STATUS_CMD: a list is not allowed; it must be a command"),
    ("STATUS_LINE: (.*)", 14, "STATUS_LINE: '(.*)' is not allowed; it must be a regular expression with groups named "
                              "id and state"),
    ("STATUS: {qw: waiting}", 14,
     "STATUS: 'waiting' is not allowed; it must be queued, running, done, failed or cancelled"),
    ("CANCEL_CMD: {a: b}", 13, "CANCEL_CMD: a mapping is not allowed; it must be a command"),
    ("RESOURCES: 3", 12, "RESOURCES: '3' is not allowed; it must be a mapping"),
    ("RESOURCES: {gpu: {n: 1}}", 18,
     "RESOURCES: gpu holds a mapping; it takes text, numbers, true, false and lists"),
    ("CODE_IGNORE_PATTERNS: {a: 1}", 23,
     "CODE_IGNORE_PATTERNS: a mapping is not allowed; it must be a comma list or a list"),
    ("CODE_LINK: {a: 1}", 12, "CODE_LINK: a mapping is not allowed; it must be a path or a list"),
    ("CODE_LINK: [false]", 13, "CODE_LINK: 'false' is not allowed; it must be a path or a list"),
    ("CODE_INCLUDE: {a: 1}", 15, "CODE_INCLUDE: a mapping is not allowed; it must be a path or a list"),
    ("CODE_STAGING: none", 15, "CODE_STAGING: 'none' is not allowed; it must be link, copy or share"),
    ("CODE_STAGING: linked", 15,
     "CODE_STAGING: 'linked' is not allowed; it must be link, copy or share; did you mean link?"),
    ("CODE_MAX_FILES: 0", 17, "CODE_MAX_FILES: '0' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: 1.5", 17, "CODE_MAX_FILES: '1.5' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: '9'", 17, "CODE_MAX_FILES: '9' is not allowed; it must be a whole number above 0"),
    ("CODE_MAX_FILES: lots", 17, "CODE_MAX_FILES: 'lots' is not allowed; it must be a whole number above 0"),
    ("CONTAINER: {image: x, mount: /a}", 23, "CONTAINER: there is no 'mount'; did you mean mounts?"),
    ("CONTAINER: {image: $NOPE/x.sif}", 1, "CONTAINER: $NOPE is not set; export it, or write the path"),
    ("NOTIFY: [discord]", 9,
     "NOTIFY: an address begins with what takes it, as json://host or mailto://; or write slurm"),
    ("PACK: 4", 7, "PACK: '4' is not allowed; it must be a mapping of runs or per_gpu, and each, to whole numbers"),
    ("RETRY: {oom: {mem: x}}", 20, "RETRY: oom: 'x' is not allowed; it must be a factor above 1, such as x1.5"),
    ("BREAKER: five", 10, "BREAKER: 'five' is not allowed; it must be a whole number, 0 for never"),
    ("SENTINEL: on", 11, "SENTINEL: 'on' is not allowed; it must be true or false"),
    ("CODE_MAX_MB: -1", 14, "CODE_MAX_MB: '-1' is not allowed; it must be a number above 0"),
    ("CODE_MAX_MB: .inf", 14, "CODE_MAX_MB: '.inf' is not allowed; it must be a number above 0"),
    ("CODE_MAX_MB: [1]", 14, "CODE_MAX_MB: a list is not allowed; it must be a number above 0"),
    ("ENV: 3", 6, "ENV: '3' is not allowed; it must be a mapping of names to texts"),
    ("ENV: [A]", 6, "ENV: a list is not allowed; it must be a mapping of names to texts"),
    ("ENV: {A B: 1}", 7, "ENV: 'A B' is no name of a variable; it must be letters, digits and _"),
    ("ENV: {A: [1]}", 10, "ENV: A is a list; it must be text or a number, '' for an empty one"),
    ("ENV: {A: }", 10, "ENV: A is nothing; it must be text or a number, '' for an empty one"),
    ("ENV: {LOGDIR: x}", 7, "ENV: LOGDIR is set by farmx itself; choose another name"),
    ("ENV: {PYTHONPATH: x}", 7, "ENV: PYTHONPATH is a setting of its own; write PYTHONPATH: at the top level"),
    ("ENV_PASS: {A: 1}", 11, "ENV_PASS: a mapping is not allowed; it must be a comma list or a list"),
    ("ENV_PASS: 'A, 9B'", 11, "ENV_PASS: '9B' is no name of a variable; it must be letters, digits and _"),
    ("ENV_PASS: [FARMX_RUN]", 12, "ENV_PASS: FARMX_RUN is set by farmx itself; choose another name"),
    ("SETUP: {a: 1}", 8, "SETUP: a mapping is not allowed; it must be text or a list of lines"),
    ("SETUP: [[a]]", 9, "SETUP: a list is not allowed; it must be text or a list of lines"),
    ("PYTHONPATH: {a: 1}", 13, "PYTHONPATH: a mapping is not allowed; it must be a colon list or a list"),
    ("ARG_STYLE: hydr", 12, "ARG_STYLE: 'hydr' is not allowed; it must be gnu, equals or hydra; did you mean hydra?"),
    ("ARG_STYLE: [gnu]", 12, "ARG_STYLE: a list is not allowed; it must be gnu, equals or hydra"),
    ("NGC_LOGROOT: [a]", 14, "NGC_LOGROOT: a list is not allowed; it must be a path"),
    ("MAX_REQUEUES: 1.5", 15, "MAX_REQUEUES: '1.5' is not allowed; it must be a whole number, 0 for never"),
    ("REQUEUE_CODE: 1.5", 15, "REQUEUE_CODE: '1.5' is not allowed; it must be a whole number from 1 to 255"),
    ("WORKSPACE: []", 12, "WORKSPACE: a list is not allowed; it must be a name"),
]  # fmt: skip


def test_every_setting_has_a_wrong_value_in_the_table():
    assert {text.partition(":")[0] for text, _, _ in WRONG_SETTINGS} == {each.key for each in TABLE}


@pytest.mark.parametrize(("text", "column", "message"), WRONG_SETTINGS, ids=[row[0] for row in WRONG_SETTINGS])
def test_a_wrong_setting_is_told_with_its_place_in_the_sweep_file(typed, text, column, message):
    write(typed.cwd, {"sweep.yml": f"{SWEEP}{text}\n"})
    refused(typed, "farmx sweep.yml -i", 2, f"sweep.yml:3:{column}: {message}")


@pytest.mark.parametrize(("text", "column", "message"), WRONG_SETTINGS, ids=[row[0] for row in WRONG_SETTINGS])
def test_a_wrong_setting_is_told_with_its_place_in_the_configuration(typed, text, column, message):
    message = message.replace("any configuration file", ".farmx.yaml")
    write(typed.cwd, {".farmx.yaml": f"# mine\n{text}\n"})
    refused(typed, "farmx sweep.yml -i", 2, f".farmx.yaml:2:{column}: {message}")


SWEEPS = [
    ("", ": the file is empty; write at least CMD: <command>"),
    ("# nothing\n", ": the file is empty; write at least CMD: <command>"),
    ("3\n", ":1:1: a sweep file is a mapping; write CMD: <command> and HPARAMS: <name>: <values>"),
    ("[a]\n", ":1:1: a sweep file is a mapping; write CMD: <command> and HPARAMS: <name>: <values>"),
    (b"\xff\xfe\0", ": cannot be read: it is not UTF-8 text"),
    (b"\x7fELF\x02\x01\x01\0", ":1:1: the character U+007F cannot stand in yaml; remove it"),
    ("CMD: x\0\n", ":1:7: the character U+0000 cannot stand in yaml; remove it"),
    ('CMD: "\\0"\n', ":1:6: a NUL character cannot be passed to a program"),
    ("HPARAMS: {a: 1}\n", ": there is no CMD; write CMD: <command>"),
    ("CMDD: x\n", ":1:1: unknown key 'CMDD'; did you mean CMD?"),
    ("cmd: x\n", ":1:1: unknown key 'cmd'; did you mean CMD?"),
    ("CMD:\n", ":1:5: CMD is empty; write CMD: <command>"),
    ("CMD: ' '\n", ":1:6: CMD is empty; write CMD: <command>"),
    ("CMD: [a]\n", ":1:6: CMD must be one command, not a list; write CMD: <command>, or a mapping of stages"),
    ("CMD:\n  a: x [n]\n", ":2:6: a: [n] names no hyperparameter; there are none; [[n]] is that text itself"),
    ("CMD: x 'y\n", ":1:6: CMD: no closing quotation; quote it as in a shell"),
    ("CMD: 'x # y'\n",
     ":1:6: CMD holds a comment (#), which would swallow the values; quote the # or leave the comment out"),
    ("CMD: x;\n", ":1:6: CMD ends with ;, so the values would be a command of their own; leave it out"),
    ("CMD: x\nCMD: y\n", ":2:1: 'CMD' is written twice, first at line 1; keep one"),
    ("CMD: x\nHPARAMS: {a: 1, a: 2}\n", ":2:17: 'a' is written twice, first at line 2; keep one"),
    ("CMD: x\nhparams: {a: 1}\n", ":2:1: unknown key 'hparams'; did you mean HPARAMS?"),
    ("CMD: x\nfoo: {a: 1}\n", f":2:1: unknown key 'foo'; known: {KEYS}"),
    ("CMD: x\n1: 2\n", f":2:1: unknown key '1'; known: {KEYS}"),
    ("CMD: x\nRUNX.TAG: a\n", ":2:1: RUNX.TAG stands among the values of HPARAMS; write HPARAMS: {RUNX.TAG: ...}"),
    ("CMD: x\nHPARAMS: {a: 1}\nFARMX.SKIP: true\n",
     ":3:1: FARMX.SKIP stands among the values of HPARAMS; write HPARAMS: {FARMX.SKIP: ...}"),
    ("SUBMIT_JOB.NODES: 2\nCMD: x\n",
     ":1:1: SUBMIT_JOB.NODES stands among the values of HPARAMS; write HPARAMS: {SUBMIT_JOB.NODES: ...}"),
    ("CMD: x\nrunx.tag: a\n", ":2:1: unknown key 'runx.tag'; did you mean RUNX.TAG?"),
    ("CMD: x\nRUNX.FOO: a\n", ":2:1: unknown key 'RUNX.FOO'; did you mean RUNX.TAG?"),
    ("CMD: x\nHPARAMS: 3\n",
     ":2:10: HPARAMS takes <name>: <values>, or a list of such mappings; this is '3'"),
    ("CMD: x\nHPARAMS: [3]\n",
     ":2:11: HPARAMS takes <name>: <values>, or a list of such mappings; this is '3'"),
    ("CMD: x\nHPARAMS: []\n", ":2:10: HPARAMS is an empty list; leave HPARAMS out for a single run"),
    ("CMD: x\nHPARAMS: {lr: []}\n",
     ":2:15: lr is an empty list, which is no run at all; give it values, or None to leave it out"),
    ("CMD: x\nHPARAMS: {RUNX.SKIP: []}\n",
     ":2:22: RUNX.SKIP is an empty list, which is no run at all; give it true or false"),
    ("CMD: x\nHPARAMS: {RUNX.TAG: []}\n",
     ":2:21: RUNX.TAG is an empty list, which is no run at all; give it values, or None to leave it out"),
    ("CMD: x\nHPARAMS: {a: {b: 1}}\n",
     ":2:14: a holds a mapping; a value is text, a number, true, false, None or a list of these"),
    ("CMD: x\nHPARAMS: {a: [[{b: 1}]]}\n",
     ":2:16: a holds a mapping; a value is text, a number, true, false, None or a list of these"),
    ("CMD: x\nHPARAMS: {'': 1}\n", ":2:11: '' names no hyperparameter; write a name"),
    ("CMD: x\nHPARAMS: {--: 1}\n", ":2:11: '--' names no hyperparameter; write a name"),
    ("CMD: x\nHPARAMS: {? [a] : 1}\n", ":2:13: a key must be text, not a list or a mapping; quote it"),
    ("CMD: x\nHPARAMS: {RUNX.TGA: a}\n", ":2:11: unknown key 'RUNX.TGA' in HPARAMS; did you mean RUNX.TAG?"),
    ("CMD: x\nHPARAMS: {farmx.tag: a}\n", ":2:11: unknown key 'farmx.tag' in HPARAMS; did you mean FARMX.TAG?"),
    ("CMD: x\nHPARAMS: {SUBMIT_JOB.GPUS: 1}\n",
     ":2:11: unknown key 'SUBMIT_JOB.GPUS' in HPARAMS; did you mean SUBMIT_JOB.NODES?"),
    ("CMD: x\nHPARAMS: {RUNX.TAG: {lr}}\n",
     ":2:21: RUNX.TAG is a mapping; it must be text or a list of texts, braces in quotes: '{lr}'"),
    ("CMD: x\nHPARAMS: {RUNX.TAG: '{nope}'}\n",
     ":2:11: the tag '{nope}' names no hyperparameter 'nope'; there are none"),
    ("CMD: x\nHPARAMS: {lr: 1, RUNX.TAG: '{rl}'}\n",
     ":2:18: the tag '{rl}' names no hyperparameter 'rl'; known: lr"),
    ("CMD: x\nHPARAMS: {RUNX.SKIP: 'true'}\n",
     ":2:22: RUNX.SKIP is 'true'; it must be true or false, without quotes, or a list of these"),
    ("CMD: x\nHPARAMS: {RUNX.TAG: a, FARMX.TAG: b}\n", ":2:24: RUNX.TAG and FARMX.TAG are the same; keep one"),
    ("CMD: x\nHPARAMS: {SUBMIT_JOB.NODES: true}\n",
     ":2:29: SUBMIT_JOB.NODES is 'true'; it must be text, a number or a list of these"),
    ("CMD: x\nGOAL: 3\n", ":2:7: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}"),
    ("CMD: x\nGOAL: {mode: min}\n", ":2:7: GOAL needs the name of a metric; write GOAL: {metric: acc, mode: max}"),
    ("CMD: x\nGOAL: {metrc: acc}\n", ":2:8: unknown key 'metrc' in GOAL; did you mean metric?"),
    ("CMD: x\nGOAL: {metric: acc, mode: up}\n", ":2:27: the mode of GOAL is 'up'; it must be min or max"),
    ("CMD: x\nHPARAMS: {a: *b}\n", ":2:14: *b names no anchor above it; define it with & first"),
    ("CMD: x\nHPARAMS: &a [*a]\n", ":2:10: an anchor cannot contain itself"),
    ("CMD: x\n\tA: b\n", ":2:1: a tab cannot indent; use spaces"),
    ("CMD: x\nHPARAMS:\n\tlr: 1\n", ":3:1: a tab cannot indent; use spaces"),
    ("CMD: x\nHPARAMS: {a: 1\n", ":2:10: the { opened here is never closed, or a comma is missing after it"),
    ("CMD: x\nHPARAMS: {a: [1}\n", ":2:14: the [ opened here is never closed, or a comma is missing after it"),
    ("CMD: 'x\n", ":1:6: the quote opened here is never closed"),
    ("CMD: a: b\n", ":1:7: a ':' cannot stand here; quote the value or mend the indentation"),
    ("CMD: x\nHPARAMS: {a: @b}\n", ":2:14: a value cannot start with @; quote it"),
    ("CMD: x\nHPARAMS: {a: !!python/name:os.system 1}\n", ":2:14: unknown tag !!python/name:os.system; leave it out"),
    ("CMD: x\nHPARAMS: {<<: 3}\n", ":2:15: << takes a mapping or a list of mappings"),
    ("CMD: x\n---\nCMD: y\n", ":2:1: a second document begins here; keep one in the file"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), SWEEPS, ids=[repr(row[0]) for row in SWEEPS])
@pytest.mark.parametrize("how", ["-n", "-i", "-j 2"])
def test_a_wrong_sweep_file_is_told_with_its_place(typed, text, message, how):
    write(typed.cwd, {"sweep.yml": text})
    refused(typed, f"farmx sweep.yml {how}", 2, f"sweep.yml{message}")


# ---------------------------------------------------------------- the configuration

CONFIGS = [
    (".farmx.yaml", "3\n", ":1:1: a configuration file is a mapping; write LOGROOT: <directory>"),
    (".farmx.yaml", b"\xff", ": cannot be read: it is not UTF-8 text"),
    (".farmx.yaml", "\tA: 1\n", ":1:1: a tab cannot indent; use spaces"),
    (".farmx.yaml", "LOGROT: x\n", ":1:1: unknown key 'LOGROT'; did you mean LOGROOT?"),
    (".farmx.yaml", "CMD: x\n", f":1:1: unknown key 'CMD'; known: {SETTINGS}"),
    (".farmx.yaml", "RESORCES: {a: 1}\n", ":1:1: unknown key 'RESORCES'; did you mean RESOURCES?"),
    (".farmx.yaml", "moon: 3\n", f":1:1: unknown key 'moon'; known: {SETTINGS}"),
    (".farmx.yaml", "moon: {RESORCES: {a: 1}}\n", ":1:8: unknown key 'RESORCES'; did you mean RESOURCES?"),
    (".farmx.yaml", "moon: {SUBMIT_CMD: [1]}\n", ":1:20: SUBMIT_CMD: a list is not allowed; it must be a command"),
    (".farmx.yaml", "moon: {FARM: x}\n", ":1:8: FARM has no place in the farm moon; take it out"),
    (".farmx.yaml", "local: {SUBMIT_CMD: x}\n",
     ":1:9: SUBMIT_CMD has no place in the farm local, which is built in and runs here; take it out"),
    (".farmx.yaml", "FARM: moon\nmoon: {EXECUTOR: command}\n",
     ":2:8: the farm moon has EXECUTOR command and no SUBMIT_CMD; add it"),
    (".farmx.yaml", "FARM: mars\nmoon: {SUBMIT_CMD: x}\n",
     ":1:1: no farm named 'mars' in .farmx.yaml; known: local, moon"),
    (".runx", "3\n", ":1:1: a configuration file is a mapping; write LOGROOT: <directory>"),
    (".runx", "CODE_MAX_MB: x\n", ":1:14: CODE_MAX_MB: 'x' is not allowed; it must be a number above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), CONFIGS, ids=[repr(row[1]) for row in CONFIGS])
@pytest.mark.parametrize("line", ["farmx sweep.yml -i", "farmx status", "sumx sweep", "farmx retry sweep"])
def test_a_wrong_configuration_is_told_with_its_place_by_every_command(typed, name, text, message, line):
    write(typed.cwd, {name: text})
    refused(typed, line, 2, f"{name}{message}")


ENVIRONMENTS = [
    ("FARMX_LOGROOT", "$NOPE", "LOGROOT: $NOPE is not set; export it, or write the path"),
    ("FARMX_LOGROOT", "~bob", "LOGROOT: '~bob': only ~ and ~/ are replaced; write the path"),
    ("FARMX_FARM", "mars", "no farm named 'mars' in any configuration file; known: local"),
]


@pytest.mark.parametrize(("name", "value", "message"), ENVIRONMENTS, ids=[row[1] for row in ENVIRONMENTS])
def test_a_wrong_variable_is_named(typed, monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    refused(typed, "farmx sweep.yml -i", 2, f"{name}: {message}")


# ---------------------------------------------------------------- the command line

LINES = [
    ("farmx --zzzzz", "no such option --zzzzz; see farmx launch --help"),
    ("farmx stauts", "there is no command and no sweep file 'stauts'; did you mean status?"),
    ("farmx lanch sweep.yml", "there is no command and no sweep file 'lanch'; did you mean launch?"),
    ("farmx launch", "SWEEP.YML is missing; see farmx launch --help"),
    ("farmx -n", "SWEEP.YML is missing; see farmx launch --help"),
    ("farmx sweeep.yml -n", "sweeep.yml: no such sweep file; did you mean sweep.yml?"),
    ("farmx sweep.yaml -n", "sweep.yaml: no such sweep file; did you mean sweep.yml?"),
    ("farmx other/sweep.yml -n", "other/sweep.yml: no such sweep file; there is no directory HERE/other"),
    ("farmx . -n", ".: is a directory; give a sweep file"),
    ("farmx '' -n", "'': is a directory; give a sweep file"),
    ("farmx sweep.yml", "no farm is set up; give -i to run here, -j N to run N at a time, --farm local to leave "
                        "them to a pool of this machine"),
    ("farmx sweep.yml t.py", "got unexpected extra argument (t.py); see farmx launch --help"),
    ("farmx sweep.yml --tga x", "no such option --tga; did you mean --tag?"),
    ("farmx sweep.yml --no-run=3", "option '--no-run' does not take a value; see farmx --help"),
    ("farmx sweep.yml -i -c", "option '-c' requires an argument; see farmx --help"),
    ("farmx sweep.yml -j 0", "-j: '0' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml -j -1", "-j: '-1' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml -j many", "-j: 'many' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml -n --jobs 1.5", "-j: '1.5' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml --first 0", "--first: '0' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml --first ''", "--first: '' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml --max-runs 0", "--max-runs: '0' is not a whole number above 0; see farmx launch --help"),
    ("farmx sweep.yml -i --max-runs 1",
     "sweep.yml makes 2 runs, more than --max-runs 1; give --max-runs 2 if you mean it, or --first N to try a few"),
    ("farmx sweep.yml --gpus ''", "--gpus '': '' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ("farmx sweep.yml --gpus 0,,1", "--gpus '0,,1': '' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ("farmx sweep.yml --gpus 0+", "--gpus '0+': '0+' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ("farmx sweep.yml --gpus a,1", "--gpus 'a,1': 'a' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ("farmx sweep.yml --gpus -1", "--gpus '-1': '-1' is no GPU; give 0,1 or 0+1,2+3 or free"),
    ("farmx sweep.yml -n --exp-name ''",
     "--exp-name '': a name of a directory, beginning with a letter or digit, without '/'"),
    ("farmx sweep.yml -n --exp-name ../x",
     "--exp-name '../x': a name of a directory, beginning with a letter or digit, without '/'"),
    ("farmx sweep.yml -n --exp_name a/b",
     "--exp-name 'a/b': a name of a directory, beginning with a letter or digit, without '/'"),
    ("farmx sweep.yml -n --exp-name .x",
     "--exp-name '.x': a name of a directory, beginning with a letter or digit, without '/'"),
    ("farmx sweep.yml -i --farm mars", "no farm named 'mars' in any configuration file; known: local"),
    ("farmx sweep.yml -i --farm ''", "command line: FARM: '' is not allowed; it must be a name"),
    ("farmx sweep.yml -i --logroot ''", "command line: LOGROOT: '' is not allowed; it must be a path"),
    ("farmx sweep.yml -i --logroot '~bob'",
     "command line: LOGROOT: '~bob': only ~ and ~/ are replaced; write the path"),
    ("farmx sweep.yml -i -c nope.yaml",
     "nope.yaml: there is no such configuration file; give -c an existing one"),
    ("farmx sweep.yml -i -c .", ".: there is no such configuration file; give -c an existing one"),
    ("farmx status nope", "no experiment or run named 'nope' in HERE/runs; there are none"),
    ("farmx status a b", "no experiment or run named 'a' in HERE/runs; there are none"),
    ("farmx status --watch", "--watch needs a terminal; leave it out here"),
    ("farmx status --watch --json", "--watch and --json do not go together; take one of them"),
    ("farmx status --jsn", "no such option --jsn; did you mean --json?"),
    ("farmx retry", "EXPERIMENT|RUN... is missing; see farmx retry --help"),
    ("farmx retry nope", "no experiment or run named 'nope' in HERE/runs; there are none"),
    ("farmx retry ''", "no experiment or run named '' in HERE/runs; there are none"),
    ("farmx retry nope --state nonsense", f"--state: there is no state 'nonsense'; known: {STATES}"),
    ("farmx retry nope --state failed,lots", "--state: there is no state 'lots'; did you mean lost?"),
    ("farmx retry nope --state ''", f"--state: there is no state ''; known: {STATES}"),
    ("farmx retry nope --code maybe", "--code: 'maybe' is not one of 'now', 'own'; see farmx retry --help"),
    ("farmx retry nope -j 0", "-j: '0' is not a whole number above 0; see farmx retry --help"),
    ("farmx cancel", "EXPERIMENT|RUN... is missing; see farmx cancel --help"),
    ("farmx cancel nope", "no experiment or run named 'nope' in HERE/runs; there are none"),
    ("sumx", "EXPERIMENT... is missing; see sumx --help"),
    ("sumx nope", "no experiment named 'nope' in HERE/runs; there are none"),
    ("sumx nope --sortwit acc", "no such option --sortwit; did you mean --sortwith?"),
    ("sumx nope -s", "option '-s' requires an argument; see sumx --help"),
    ("sumx nope --min --max", "--min and --max do not go together; take one of them"),
    ("sumx nope --max --min", "--min and --max do not go together; take one of them"),
    ("sumx nope --json --csv -", "--json and --csv - both write to stdout; take one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), LINES, ids=[row[0] for row in LINES])
def test_a_wrong_command_line_is_told_in_one_line(typed, line, message):
    refused(typed, line, 2, message)


def test_gpus_that_cannot_be_listed_are_told(typed, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    told = "--gpus 'free': there is no nvidia-smi to ask; name the GPUs: '0,1'"
    refused(typed, "farmx sweep.yml --gpus free", 4, told)


SHELLS = [
    (2, "ENV_PASS: [NOPE]", "ENV_PASS: NOPE is not set in this shell; export it or take it off the list"),
    (2, "CODE_LINK: nope", "CODE_LINK: nope does not exist in HERE; name a path of the source tree"),
    (3, "CODE_MAX_FILES: 1",
     "the code is 4 files, 0.1 kB, above the guard of 1 files and 200 MB; largest: .gitignore (1 file), other (1 "
     "file), sweep.yml (1 file); keep data out with CODE_IGNORE_PATTERNS or CODE_LINK, or raise CODE_MAX_FILES or "
     "CODE_MAX_MB"),
    (2, "CODE_IGNORE_PATTERNS: t.py",
     "'t.py' is here but not in the snapshot of the code, so a run would not find it; name it in CODE_LINK (a live "
     "path) or CODE_INCLUDE (copied), or give an absolute path"),
    (2, "CODE_LINK: /etc", "CODE_LINK: /etc is not inside HERE; name a path of the source tree"),
    (2, "CODE_LINK: ../other", "CODE_LINK: ../other is not inside HERE; name a path of the source tree"),
    (2, "LOGROOT: other", "LOGROOT: HERE/other is a file; name a directory"),
    (3, "LOGROOT: /proc/x",
     "/proc/x/sweep: cannot be made: No such file or directory; set LOGROOT to a directory you can write"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "message"), SHELLS, ids=[row[1] for row in SHELLS])
def test_what_does_not_fit_the_place_is_told_before_anything_is_made(typed, code, text, message):
    write(typed.cwd, {"sweep.yml": f"{SWEEP}{text}\n", ".gitignore": "", "other": ""})
    refused(typed, "farmx sweep.yml -i", code, message)


def test_a_vanished_directory_is_told(typed, monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    typed.cwd = gone
    monkeypatch.setattr(os, "getcwd", os.getcwd)  # put back by pytest whatever happens
    said = []
    for line in ("farmx sweep.yml -n", "farmx status", "sumx sweep"):
        script = f"cd {gone} && rmdir {gone} && {line}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        said.append((done.returncode, done.stdout, done.stderr))
        gone.mkdir()
    told = "the current directory no longer exists; cd to one that does\n"
    assert said == [(2, "", f"{name}: {told}") for name in ("farmx", "farmx", "sumx")]


# ---------------------------------------------------------------- records on disk


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> Path:
    """A project whose two runs, `run` and `run_2`, are done."""
    place = tmp_path_factory.mktemp("launched") / "project"
    write(place, {"sweep.yml": SWEEP, "t.py": "print(1)\n"})
    command = [f"{BIN}/farmx", "sweep.yml", "-i", "--tag", "run", "--no-cooldir"]
    environ = {"HOME": str(place), "PATH": f"{BIN}:/usr/bin:/bin"}
    subprocess.run(command, cwd=place, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environ)
    return place


@pytest.fixture
def place(launched, monkeypatch, capfd, tmp_path) -> Typed:
    shutil.copytree(launched, tmp_path / "project", symlinks=True)
    return Typed(monkeypatch, capfd, tmp_path / "project")


RUN, ATTEMPT = "runs/sweep/run", "runs/sweep/run/attempts/1.0"
DAMAGED, FOREIGN = "cannot be read: it is not json; restore it or move it away", "not a record of ours; restore it or \
move it away"
NEWER = "written by a newer farmx (format 99); upgrade farmx to read it"
RECORDS = [
    (f"{RUN}/run.json", '{"a', DAMAGED),
    (f"{RUN}/run.json", "", DAMAGED),
    (f"{RUN}/run.json", b"\xff\0", DAMAGED),
    (f"{RUN}/run.json", "[" * 100_000, DAMAGED),
    (f"{RUN}/run.json", "[]", FOREIGN),
    (f"{RUN}/run.json", "{}", FOREIGN),
    (f"{RUN}/run.json", '{"format": "x"}', FOREIGN),
    (f"{RUN}/run.json", '{"format": 99}', NEWER),
    (f"{ATTEMPT}/end.json", "{", DAMAGED),
    (f"{ATTEMPT}/end.json", "3", FOREIGN),
    (f"{ATTEMPT}/end.json", '{"format": 99}', NEWER),
]


@pytest.mark.parametrize(("name", "text", "message"), RECORDS, ids=[f"{Path(r[0]).name} {r[1]!r:.20}" for r in RECORDS])
def test_a_damaged_record_stops_a_launch_that_wants_the_run(place, name, text, message):
    (place.cwd / name).unlink()
    write(place.cwd, {name: text})
    refused(place, "farmx sweep.yml -i", 3, f"HERE/{name}: {message}")


@pytest.mark.parametrize(("name", "text", "message"), RECORDS, ids=[f"{Path(r[0]).name} {r[1]!r:.20}" for r in RECORDS])
@pytest.mark.parametrize(("line", "did"), [("farmx retry sweep --state done -j 1", "runs  1 again"),
                                           ("farmx cancel sweep", "run_2  done")])  # fmt: skip
def test_a_damaged_record_stops_retry_and_cancel_of_its_run_alone(place, name, text, message, line, did):
    (place.cwd / name).unlink()
    write(place.cwd, {name: text})
    before = everything(place.cwd / "runs" / "sweep" / "run")
    said = place(line)
    assert (said.code, said.err.count("left alone: ")) == (3, 1)
    assert f"left alone: {place.cwd}/{name}: {message}\n" in said.err
    assert did in said.out + said.err
    assert everything(place.cwd / "runs" / "sweep" / "run") == before


@pytest.mark.parametrize(("name", "text", "message"), RECORDS, ids=[f"{Path(r[0]).name} {r[1]!r:.20}" for r in RECORDS])
def test_a_damaged_record_hides_no_other_run(place, name, text, message):
    (place.cwd / name).unlink()
    write(place.cwd, {name: text})
    told = f"{place.cwd}/{name}: {message}"
    status, table = place("farmx status sweep"), place("sumx sweep")
    assert (status.code, status.err) == (0, f"unreadable: {told}\n")
    assert (table.code, table.err) == (0, f"1 run unreadable: {told}\n")
    assert [line.split()[0] for line in status.out.splitlines()] == ["run", "run_2", "1"]
    assert [line.split()[0] for line in table.out.splitlines()] == ["run", "-----", "run_2"]


def test_a_stray_file_beside_the_runs_is_no_run(place):
    write(place.cwd, {"runs/sweep/notes.txt": "mine", "runs/sweep/plots/a.png": b"\x89", "runs/notes": ""})
    assert place("farmx status sweep").err == ""
    assert place("farmx retry sweep") == (0, "", "runs  0 again, 2 left alone\nleft  2 done (--state done runs them)\n")
    assert place("sumx sweep").err == ""


def test_a_hyperparameter_called_format_is_no_format(typed):
    write(typed.cwd, {"sweep.yml": "CMD: python t.py\nHPARAMS: {format: [png, 99]}\n"})
    assert ran("farmx sweep.yml -i", typed.cwd).code == 0
    assert typed("farmx status sweep").err == ""


NEAREST = [
    ("farmx status swep", "no experiment or run named 'swep' in HERE/runs; did you mean sweep?"),
    ("farmx retry swep", "no experiment or run named 'swep' in HERE/runs; did you mean sweep?"),
    ("farmx retry run_3", "no experiment or run named 'run_3' in HERE/runs; did you mean run_2?"),
    ("farmx cancel sweep/run_3", "no experiment or run named 'sweep/run_3' in HERE/runs; did you mean sweep?"),
    ("sumx swep", "no experiment named 'swep' in HERE/runs; did you mean sweep?"),
    ("sumx zzz", "no experiment named 'zzz' in HERE/runs; known: sweep"),
    ("sumx sweep --csv /nope/t.csv", "/nope/t.csv: cannot be written: No such file or directory"),
    ("sumx sweep --csv .", ".: cannot be written: Is a directory"),
]


@pytest.mark.parametrize(("line", "message"), NEAREST, ids=[row[0] for row in NEAREST])
def test_the_nearest_name_is_told(place, line, message):
    refused(place, line, 2, message)
