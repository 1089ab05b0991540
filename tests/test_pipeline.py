"""pipeline, and what sweep checks of it: CMD as a mapping of stages."""

import pytest

from farmx import pipeline, sweep, templates
from farmx.errors import SweepError
from farmx.yaml12 import Mark

STAGES = """\
CMD:
  train: >
    python train.py data-bin/{data}
      --save {_output} [moment] [early-stop]
  avg: python avg.py --inputs {_output} > {_output}/log.{_time}
  test: {cmd: "python test.py {data}", RESOURCES: {gpus: 2, time: 1h}}
HPARAMS:
  - {data: [a, b], moment: 0.1}
  - {early-stop: [true, false]}
"""


def read(text: str) -> sweep.Sweep:
    return sweep.read(text, "s.yml")


def test_a_mapping_is_stages_in_order_each_a_template_with_resources_of_its_own():
    found = read(STAGES)
    assert found.cmd == ""
    assert found.stages == (
        pipeline.Stage(
            "train",
            templates.read("python train.py data-bin/{data}   --save {_output} [moment] [early-stop]", ""),
            {},
            Mark("s.yml", 2, 10),
        ),
        pipeline.Stage(
            "avg", templates.read("python avg.py --inputs {_output} > {_output}/log.{_time}", ""), {},
            Mark("s.yml", 5, 8),
        ),
        pipeline.Stage(
            "test", templates.read("python test.py {data}", ""), {"gpus": 2, "time": "1h"}, Mark("s.yml", 6, 15),
            {"gpus": Mark("s.yml", 6, 52), "time": Mark("s.yml", 6, 61)},
        ),
    )  # fmt: skip
    assert found.warnings == ()


def test_one_command_has_no_stages():
    assert read("CMD: python t.py {x} [y]").stages == ()


def test_a_hyperparameter_that_no_stage_uses_is_told_and_those_of_one_command_are_not():
    cmd = "CMD:\n  a: x {lr} && y\n  b: y [seed]\n"
    hparams = "HPARAMS:\n  lr: 1\n  depth: [1, 2]\n  seed: 2\n  width: 3\n  RUNX.TAG: '{width}'\n"
    assert read(cmd + hparams).warnings == (
        "s.yml:6:3: no stage uses depth; it still tells runs apart",
        "s.yml:8:3: no stage uses width; it still tells runs apart",
    )
    assert read("CMD: a\nHPARAMS: {lr: 1}").warnings == ()


def test_what_later_mappings_of_hparams_inherit_is_told_once():
    told = read("CMD:\n  a: x [lr]\nHPARAMS:\n  - {lr: 1, old: 2}\n  - {new: 3}\n  - {old: 3}\n").warnings
    assert told == (
        "s.yml:4:13: no stage uses old; it still tells runs apart",
        "s.yml:5:6: no stage uses new; it still tells runs apart",
    )


NAME = "names a stage and its log; write letters, digits, _, . and -, the first no sign"
REFUSED = [
    ("CMD: {}", "s.yml:1:6: CMD is an empty mapping; write CMD: <command>, or a <stage>: <command> a line"),
    ("CMD:\n  a:", "s.yml:2:5: a is empty; write a: <command>"),
    ("CMD:\n  a: ' '", "s.yml:2:6: a is empty; write a: <command>"),
    ("CMD:\n  a: [x]",
     "s.yml:2:6: a must be one command, not a list; write a: <command>, in quotes where it begins with [ or {"),
    ("CMD:\n  a: x\n  a: y", "s.yml:3:3: 'a' is written twice, first at line 2; keep one"),
    ("CMD:\n  a/b: x", f"s.yml:2:3: 'a/b' {NAME}"),
    ("CMD:\n  .a: x", f"s.yml:2:3: '.a' {NAME}"),
    ("CMD:\n  größe: x", f"s.yml:2:3: 'größe' {NAME}"),
    ("CMD:\n  a b: x", f"s.yml:2:3: 'a b' {NAME}"),
    ("CMD:\n  a: {CMD: x}", "s.yml:2:7: unknown key 'CMD' in stage a; did you mean cmd?"),
    ("CMD:\n  a: {RESOURCES: {}}", "s.yml:2:6: stage a has no command; write a: {cmd: <command>, RESOURCES: ...}"),
    ("CMD:\n  a: {cmd: x, RESOURCES: 3}", "s.yml:2:26: RESOURCES: '3' is not allowed; it must be a mapping"),
    ("CMD:\n  a: {cmd: x, RESOURCES: {g: {}}}",
     "s.yml:2:30: RESOURCES: g holds a mapping; it takes text, numbers, true, false and lists"),
    ("CMD:\n  a: x 'y", "s.yml:2:6: a: no closing quotation; quote it as in a shell"),
    ("CMD:\n  a: 'x # y'", "s.yml:2:6: a holds a comment (#), which would swallow what comes after it; quote the # or "
     "leave the comment out"),
    ("CMD:\n  a: x &", "s.yml:2:6: a ends with &; leave it out"),
    ("CMD:\n  a: x\n  b: y {lrr}\nHPARAMS: {lr: 1}",
     "s.yml:3:6: b: {lrr} names no hyperparameter; did you mean lr?; {{lrr}} is that text itself"),
    ("CMD:\n  a: x [LR]\nHPARAMS: {lr: 1}",
     "s.yml:2:6: a: [LR] names no hyperparameter; did you mean lr?; [[LR]] is that text itself"),
    ("CMD:\n  a: x {b}\nHPARAMS: [{a: 1}, {b: 2}]",
     "s.yml:2:6: a: {b} has no value in mapping 1 of HPARAMS; give it one there, None for nothing"),
    ("CMD:\n  a: x\nHPARAMS: {_output: 1}",
     "s.yml:3:11: {_output} stands for something else in a stage; choose another name"),
    ("CMD:\n  a: '{p} x'\nHPARAMS: {p: [python, None]}",
     "s.yml:2:6: a: {p} is nothing for some runs; begin with a program"),
    ("CMD:\n  a: '[p] x'\nHPARAMS: {p: [python]}", "s.yml:2:6: a: begins with [p], a flag; begin with a program"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_wrong_is_one_line_with_its_place(text, told):
    with pytest.raises(SweepError) as error:
        read(text)
    assert str(error.value) == told


def test_a_flag_may_be_missing_from_some_mappings_and_a_program_may_be_a_value():
    found = read("CMD:\n  a: '{p} x [b]'\nHPARAMS: [{p: python}, {b: 2}]")
    assert [stage.name for stage in found.stages] == ["a"]


def test_null_resources_are_none():
    assert read("CMD:\n  a: {cmd: x, RESOURCES: }").stages[0].resources == {}
