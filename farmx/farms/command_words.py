"""SUBMIT_CMD as words, and what each job puts in them; no shell ever reads what they are filled with."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from farmx import errors, shelltext
from farmx.errors import ConfigError, nearest

RESOURCES = "resources"  # every resource that has no placeholder of its own, as flags
OWN = ("name", "logdir", "log", "script", "command", "experiment", "env_pass", "workspace", "ngc_logroot",
       "requeue_code", RESOURCES)  # fmt: skip
PLAIN = ("{resources}", "--name", "{name}", "-c", "{command}")  # after a SUBMIT_CMD without placeholders, as runx
NGC = ("{resources}", "--name", "{name}", "--commandline", "{command}", "--workspace", "{workspace}:{ngc_logroot}:RW")

_NAME = r"[A-Za-z_][\w.-]*"
_REFERENCE = re.compile(rf"\{{\{{({_NAME})\}}\}}|\{{({_NAME})\}}")  # {{name}} is that text itself
_ASSIGNMENTS = re.compile(r"^(?:\s*[A-Za-z_]\w*=(?:'[^']*'|\"[^\"$`]*\"|\\.|[^\s'\"\\$`;&|<>()])*(?:\s+|$))+")
_VARIABLE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


class Template(NamedTuple):
    """units: words that come and go together, an option and its value, or its two values that are resources (Grid
    Engine's -pe), or one word alone.  env: VAR -> its text."""

    env: Mapping[str, str]
    units: tuple[tuple[str, ...], ...]

    def program(self) -> str:
        """What is called."""
        return self.units[0][0]

    def names(self) -> list[str]:
        """Every placeholder, in order."""
        return [name for word in (*self.env.values(), *self.words()) for name in references(word)]

    def words(self) -> list[str]:
        """The template's words, in order."""
        return [word for unit in self.units for word in unit]


def references(word: str) -> list[str]:
    """The placeholders in a word, in order."""
    return [match[2] for match in _REFERENCE.finditer(word) if match[2]]


def read(text: str, where: str) -> Template:
    """SUBMIT_CMD; one without placeholders gets those of its form. Raises ConfigError, beginning with `where`."""
    env, words = assigned(split(text, where))
    if not words:
        raise ConfigError(f"{where}: it sets variables and calls nothing; write the command after them")
    if not any(references(word) for word in words):
        words += NGC if is_ngc(words) else PLAIN
    template = Template(env, tuple(_units(words)))
    if not {"script", "command"} & set(template.names()):
        raise ConfigError(f"{where}: it has placeholders, but neither {{script}} nor {{command}}: nothing would run")
    return template


def split(text: str, where: str) -> list[str]:
    """The words of a command that no shell reads. Raises ConfigError for what only a shell would understand."""
    line = shelltext.one_line(text)
    command = _ASSIGNMENTS.sub("", line)
    if shelltext.shell_syntax(command):
        raise ConfigError(f"{where}: no shell reads it, and this is written for one; quote it, or write sh -c '...'")
    try:
        return shlex.split(line)
    except ValueError as problem:
        raise ConfigError(f"{where}: {str(problem).lower()}; quote it as in a shell") from None


def assigned(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(variables, words) of a command whose first words may be VAR=value."""
    env: dict[str, str] = {}
    for place, word in enumerate(words):
        if not (found := _VARIABLE.fullmatch(word)):
            return env, list(words[place:])
        env[found[1]] = found[2]
    return env, []


def job_name(run: str) -> str:
    """EXPERIMENT_RUN, of characters that schedulers take for a job's name, a letter first."""
    experiment, name = os.path.split(run)
    plain = re.sub(r"[^A-Za-z0-9._+=-]", "_", f"{os.path.basename(experiment)}_{name}")
    return plain if plain[0].isalpha() else f"exp_{plain}"


def is_ngc(words: Sequence[str]) -> bool:
    """Whether the command is NVIDIA's cloud's, which takes other options than runx's submit_job."""
    return words[0].rpartition("/")[2] == "ngc" and list(words[1:3]) == ["batch", "run"]


def _units(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    place = 0
    while place < len(words):
        word, after = words[place], words[place + 1 : place + 2]
        option = place > 0 and word.startswith("-") and not references(word)
        value = bool(after) and not after[0].startswith("-") and references(after[0]) not in ([], [RESOURCES])
        unit = (word, *(after if option and value else ()))
        if len(unit) == 2 and all(map(_is_resource, words[place + 1 : place + 3])):
            unit = (*unit, *words[place + 2 : place + 3])
        yield unit
        place += len(unit)


def _is_resource(word: str) -> bool:
    """Whether the word is a resource and nothing else."""
    names = references(word)
    return bool(names) and word == f"{{{names[0]}}}" and names[0] not in OWN


# ---------------------------------------------------------------- what may stand there


def check(template: Template, where: str, wanted: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raises ConfigError for a placeholder of nothing and for a resource that no job would get.

    wanted: every resource that some job has, or that the configuration names.  origins: as Config's.
    """
    names = template.names()
    for name in names:
        if name not in OWN and name not in wanted:
            hint = f"{nearest(name, [*OWN, *wanted])}; {{{{{name}}}}} is that text"
            raise ConfigError(f"{where}: {{{name}}} is no resource and none of farmx's{hint}")
    for unit in template.units:
        for word in unit:
            _check_word(word, where)
        lists = [name for word in unit for name in references(word) if name not in OWN]
        if sum(isinstance(wanted.get(name), list) for name in lists) > 1:
            told = f"the word {unit[-1]} holds two lists; write them in two words"
            two = f"{' '.join(unit)} holds two lists; write them in two options"
            raise ConfigError(f"{where}: {told if len(unit) < 3 else two}")
    for key, value in wanted.items():
        if value is None or RESOURCES in names or (key in names and key not in OWN):
            continue
        told = errors.where(f"RESOURCES.{key}", origins)
        if key in OWN:
            raise ConfigError(f"{told}: {{{key}}} in SUBMIT_CMD is farmx's own; call the resource otherwise")
        raise ConfigError(f"{told}: SUBMIT_CMD does not say {{{key}}}, so no job would get it; write it there, or "
                          "{resources} for all")  # fmt: skip


def _check_word(word: str, where: str) -> None:
    if RESOURCES in references(word) and word != f"{{{RESOURCES}}}":
        raise ConfigError(f"{where}: {{resources}} becomes several words; let it stand alone, outside quotes")


# ---------------------------------------------------------------- filling in


def fill(
    template: Template, own: Mapping[str, str | None], resources: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """(variables, argv) of a job. own: what each name in OWN but RESOURCES is; LOGDIR in resources is its `logdir`."""
    names, logdir = template.names(), own.get("logdir") or ""
    given = {key: [_spelled(one, logdir) for one in _elements(value)] for key, value in resources.items()}
    values = {**given, **{key: [] if text is None else [text] for key, text in own.items()}}
    env = {name: texts[0] for name, text in template.env.items() for texts in _rows((text,), values)[:1]}
    argv: list[str] = []
    for unit in template.units:
        if unit == (f"{{{RESOURCES}}}",):
            rest = (key for key in given if key not in names or key in OWN)
            argv += [word for key in rest for word in _flags(key, resources[key], given[key])]
        else:
            argv += [word for row in _rows(unit, values) for word in row]
    return env, argv


def _flags(key: str, value: Any, texts: Sequence[str]) -> Iterator[str]:
    """`--key text` for each of the texts; the flag alone where the value is true."""
    for text in texts:
        yield key if key.startswith("-") else f"--{key}"
        if value is not True:
            yield text


def _elements(value: Any) -> list[Any]:
    each = value if isinstance(value, (list, tuple)) else [value]
    return [one for one in each if one is not None and one is not False]


def _spelled(value: Any, logdir: str) -> str:
    return "true" if value is True else str(value).replace("LOGDIR", logdir)


def _rows(unit: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """What a unit becomes: its words once, once for each element of a list in it, or never where a value is null or
    false."""
    found = {name: values.get(name, ()) for word in unit for name in references(word)}
    if not all(found.values()):
        return []
    count = max(map(len, found.values()), default=1)
    rows = [{name: texts[place % len(texts)] for name, texts in found.items()} for place in range(count)]
    return [[_text(word, row) for word in unit] for row in rows]


def _text(word: str, texts: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda match: f"{{{match[1]}}}" if match[1] else texts[match[2]], word)
