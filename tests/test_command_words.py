"""SUBMIT_CMD: what becomes of its words, and what is no SUBMIT_CMD."""

import shlex

import pytest
from launching import HOSTILE

from farmx.errors import ConfigError
from farmx.farms import command_words

HERE = ".farmx.yaml:3:3: SUBMIT_CMD"
OWN = {
    "name": "sweep_brave-otter", "logdir": "/logs/sweep/brave-otter", "log": "/s/0.log", "script": "/s/0.sh",
    "command": "sh /s/0.sh", "experiment": "sweep", "env_pass": "A,B", "workspace": None, "ngc_logroot": None,
}  # fmt: skip
NAMED = "--name sweep_brave-otter -c 'sh /s/0.sh'"
EVERY = {"gpu": 2, "mem": 1.5, "image": "a b", "fast": True, "slow": False, "queue": None, "l": ["x=1", "y"]}


def filled(text, resources=None, **own):
    resources = EVERY if resources is None else resources
    template = command_words.read(text, HERE)

    return command_words.fill(template, {**OWN, **own}, resources)


def line(text, resources=None, **own):
    return shlex.join(filled(text, resources, **own)[1])


FILLED = [
    # runx's form
    ("submit_job", f"submit_job --gpu 2 --mem 1.5 --image 'a b' --fast --l x=1 --l y {NAMED}"),
    ("ssh host 'submit it'",
     f"ssh host 'submit it' --gpu 2 --mem 1.5 --image 'a b' --fast --l x=1 --l y {NAMED}"),
    # templates
    ("qsub -terse -N {name} -o {log} -j y {script}", "qsub -terse -N sweep_brave-otter -o /s/0.log -j y /s/0.sh"),
    ("q {experiment} {logdir} {command} {env_pass}", "q sweep /logs/sweep/brave-otter 'sh /s/0.sh' A,B"),
    ("q -l gpu={gpu},mem={mem} '{image}:it' {script}", "q -l gpu=2,mem=1.5 'a b:it' /s/0.sh"),
    ('q "-l gpu={gpu} $x" {script}'.replace("$", "_"), "q '-l gpu=2 _x' /s/0.sh"),
    # nothing: the word goes, and the option before it
    ("q -q {queue} -z {script}", "q -z /s/0.sh"),
    ("q -q{queue} -z {script}", "q -z /s/0.sh"),
    ("q -l gpu={gpu},q={queue} -l mem={mem} {script}", "q -l mem=1.5 /s/0.sh"),
    ("q {queue} {script}", "q /s/0.sh"),
    ("q -x {slow} {script}", "q /s/0.sh"),
    ("q -x --y={queue} {script}", "q -x /s/0.sh"),
    # an option of two values; what follows its value and is none of RESOURCES is no second one
    ("q -pe {image} {gpu} {script}", "q -pe 'a b' 2 /s/0.sh"),
    ("q -pe {queue} {gpu} {script}", "q /s/0.sh"),
    ("q -pe {image} {queue} {script}", "q /s/0.sh"),
    ("q -pe {queue} {slow} -z {script}", "q -z /s/0.sh"),
    ("q -pe {image} {gpu} {mem} {script}", "q -pe 'a b' 2 1.5 /s/0.sh"),
    ("q -pe {gpu} {l} {script}", "q -pe 2 x=1 -pe 2 y /s/0.sh"),
    ("q -pe {queue} '' {script}", "q '' /s/0.sh"),
    ("q -q {queue} x{gpu} {script}", "q x2 /s/0.sh"),
    ("q -q {queue} {name} {script}", "q sweep_brave-otter /s/0.sh"),
    ("q -N {name} {gpu} {script}", "q -N sweep_brave-otter 2 /s/0.sh"),
    # true, lists
    ("q -x {fast} {script}", "q -x true /s/0.sh"),
    ("q -l {l} {script}", "q -l x=1 -l y /s/0.sh"),
    ("q --l={l}@{gpu} {script}", "q --l=x=1@2 --l=y@2 /s/0.sh"),
    ("q {l} {script}", "q x=1 y /s/0.sh"),
    # the rest as flags
    ("q {resources} -n {gpu} {script}", "q --mem 1.5 --image 'a b' --fast --l x=1 --l y -n 2 /s/0.sh"),
    ("q -t {resources} {script}", "q -t --gpu 2 --mem 1.5 --image 'a b' --fast --l x=1 --l y /s/0.sh"),
    # braces that are text
    ("q {{name}} {} '{\"a\": 1}' {1} {script}", "q '{name}' '{}' '{\"a\": 1}' '{1}' /s/0.sh"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), FILLED, ids=[row[0] for row in FILLED])
def test_a_submit_cmd_is_filled_in_word_by_word(text, said):
    assert line(text) == said


@pytest.mark.parametrize("text", ["ngc batch run", "/opt/ngc/ngc batch run"])
def test_ngc_takes_other_options(text):
    made = line(text, {"image": "i", "ace": None}, workspace="ws", ngc_logroot="/mnt/it s")
    assert made == (f"{text} --image i --name sweep_brave-otter --commandline 'sh /s/0.sh' "
                    "--workspace 'ws:/mnt/it s:RW'")  # fmt: skip


def test_ngc_without_a_workspace_has_no_such_option():
    assert line("ngc batch run", {}).endswith("--commandline 'sh /s/0.sh'")


VARIABLES = [
    ("SUBMIT_SUBPROJECT_NAME=runx submit_job", {"SUBMIT_SUBPROJECT_NAME": "runx"}),
    ("A=1 B='two words' C= D=$x=y q {script}".replace("$", ""), {"A": "1", "B": "two words", "C": "", "D": "x=y"}),
    ("A={gpu} Q={queue} L=/l/{name} q {script}", {"A": "2", "L": "/l/sweep_brave-otter"}),
]


@pytest.mark.parametrize(("text", "env"), VARIABLES, ids=[row[0] for row in VARIABLES])
def test_leading_assignments_are_the_environment_of_the_submit_command(text, env):
    assert filled(text)[0] == env


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_no_value_is_split_or_read_by_a_shell(value):
    assert filled("q -x {v} --v={v} {v}{v} {script}", {"v": value})[1] == [
        "q", "-x", value, f"--v={value}", value + value, "/s/0.sh"]  # fmt: skip
    assert filled("q", {"v": value})[1][:3] == ["q", "--v", value]


def test_logdir_in_a_resource_is_the_runs_directory():
    found = {"result": "LOGDIR/out", "paths": ["LOGDIR", "/x"]}
    argv = filled("q {resources} {script}", found)[1]
    assert argv == ["q", "--result", f"{OWN['logdir']}/out", "--paths", OWN["logdir"], "--paths", "/x", "/s/0.sh"]


def test_a_path_of_ours_that_says_logdir_stays_as_it_is():
    assert filled("q {script}", {}, script="/LOGDIR/0.sh")[1] == ["q", "/LOGDIR/0.sh"]


def test_zero_is_a_value():
    assert filled("q -p {nice} {resources} {script}", {"nice": 0, "gpu": 0.0})[1] == [
        "q", "-p", "0", "--gpu", "0.0", "/s/0.sh"]  # fmt: skip


WRONG = [
    ("q 'open {script}", "no closing quotation; quote it as in a shell"),
    ("A=1", "it sets variables and calls nothing; write the command after them"),
    ("q -N {name}", "it has placeholders, but neither {script} nor {command}: nothing would run"),
    ("q {scrpt} {script}", "{scrpt} is no resource and none of farmx's; did you mean script?; {{scrpt}} is that text"),
    ("q {gpus} {script}", "{gpus} is no resource and none of farmx's; did you mean gpu?; {{gpus}} is that text"),
    ("A={gpus} q {script}", "{gpus} is no resource and none of farmx's; did you mean gpu?; {{gpus}} is that text"),
    ("q x{resources} {script}", "{resources} becomes several words; let it stand alone, outside quotes"),
    ("q {l}{m} {resources} {script}", "the word {l}{m} holds two lists; write them in two words"),
    ("q -x {l} {m} {resources} {script}", "-x {l} {m} holds two lists; write them in two options"),
]


@pytest.mark.parametrize(("text", "problem"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_submit_cmd_is_told_with_its_place(text, problem):
    with pytest.raises(ConfigError) as error:
        command_words.check(command_words.read(text, HERE), HERE, {"gpu": 1, "l": [1], "m": [2]}, {})
    assert str(error.value) == f"{HERE}: {problem}"


@pytest.mark.parametrize("text", ["cd /x && q {script}", "q {script} > log", "$HOME/bin/q {script}", "~/bin/q", "q *",
                                  "A=1 q; r", 'q "$X"', "A=$HOME q", "`q`"])  # fmt: skip
def test_what_only_a_shell_would_understand_is_refused(text):
    with pytest.raises(ConfigError) as error:
        command_words.read(text, HERE)
    assert str(error.value) == f"{HERE}: no shell reads it, and this is written for one; quote it, or write sh -c '...'"


@pytest.mark.parametrize("text", ["q '$HOME' '*' {script}", "sh -c 'cd /x && exec q \"$@\"' q {script}"])
def test_what_is_quoted_is_plain_text(text):
    assert filled(text)[1][-1] == "/s/0.sh"


UNUSED = [
    ("q {script}", {"gpu": 1}, "SUBMIT_CMD does not say {gpu}, so no job would get it; write it there, or {resources} "
                               "for all"),
    ("q {name} {script}", {"name": 1}, "{name} in SUBMIT_CMD is farmx's own; call the resource otherwise"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "resources", "problem"), UNUSED)
def test_a_resource_that_no_job_would_get_is_told(text, resources, problem):
    (key,) = resources
    with pytest.raises(ConfigError) as error:
        command_words.check(command_words.read(text, HERE), HERE, resources, {f"RESOURCES.{key}": "f:9:1"})
    assert str(error.value) == f"f:9:1: RESOURCES.{key}: {problem}"


@pytest.mark.parametrize(("text", "resources"), [
    ("q", {"gpu": 1}), ("q {resources} {script}", {"gpu": 1}), ("q {gpu} {script}", {"gpu": 1}),
    ("q {script}", {"gpu": None}), ("q", {"name": "also"}),
])  # fmt: skip
def test_every_other_resource_is_fine(text, resources):
    command_words.check(command_words.read(text, HERE), HERE, resources, {})


def test_a_resource_of_our_name_goes_beside_ours_as_runx_had_it():
    assert filled("q", {"name": "x"})[1] == ["q", "--name", "x", "--name", OWN["name"], "-c", OWN["command"]]
