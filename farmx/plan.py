"""Points -> RunSpecs: words, identity, names. Pure: the clock and the seed are arguments; never touches a disk."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx.spec import Goal, Point, RunSpec, Stage, Value

if TYPE_CHECKING:
    from farmx import templates

FORM = "p1"  # of the identity: a new canonical form gets a new prefix and re-keys from the preimage in run.json
STAGE = "main"  # the one stage of a sweep whose CMD is one command
TAG_BYTES = 100  # of a run's name, which with the rest of it and what is written beside it has 255


class StageTemplate(NamedTuple):
    """A stage of all points. form: what identity says of a later stage, '' for the first; see forms()."""

    name: str
    template: templates.Template
    form: str = ""
    resources: Mapping[str, Any] = {}


class Template(NamedTuple):
    """What all points of a sweep share.

    words: CMD's argv, or () when `shell` holds it as shell text.  stages: in place of both, where CMD is a mapping;
    words is then how the first begins.
    """

    words: tuple[str, ...]
    shell: str | None
    arg_style: str
    goal: Goal | None = None
    env: Mapping[str, str] = {}
    env_pass: tuple[str, ...] = ()
    setup: str = ""
    pythonpath: tuple[str, ...] = ()
    resources: Mapping[str, Any] = {}
    tag: str | None = None
    stages: tuple[StageTemplate, ...] = ()
    retry: Mapping[str, Any] = {}
    container: Mapping[str, Any] = {}
    breaker: int = 0
    sentinel: bool = False


# ---------------------------------------------------------------- words


def flag_words(key: str, value: Value, style: str) -> tuple[str, ...]:
    """The argv words of one hyperparameter in ARG_STYLE `style`: gnu, equals or hydra. () omits it."""
    if value.data is None:
        return ()
    return _STYLES[style](key, value)


def _dashed(key: str) -> str:
    return key if key.startswith("-") else "--" + key


def _gnu(key: str, value: Value) -> tuple[str, ...]:
    if isinstance(value.data, bool):
        return (_dashed(key),) if value.data else ()
    return (_dashed(key), *value.words)


def _equals(key: str, value: Value) -> tuple[str, ...]:
    if isinstance(value.data, bool):
        return (_dashed(key),) if value.data else ()
    return tuple(f"{_dashed(key)}={word}" for word in value.words)


def _hydra(key: str, value: Value) -> tuple[str, ...]:
    if isinstance(value.data, list):
        return (f"{key}=[{','.join(value.words)}]",)
    return (f"{key}={value.words[0]}",)


_STYLES: Mapping[str, Callable[[str, Value], tuple[str, ...]]] = {"gnu": _gnu, "equals": _equals, "hydra": _hydra}


def stages_of(template: Template, point: Point) -> tuple[Stage, ...]:
    """The commands of a point; LOGDIR still stands for the run's directory."""
    if not template.stages:
        last = [word for item in point.values.items() for word in flag_words(*item, template.arg_style)]
        return (Stage(STAGE, (*template.words, *last), template.shell),)
    flags = partial(flag_words, style=template.arg_style)
    return tuple(_stage_of(each, point.values, flags) for each in template.stages)


def _stage_of(stage: StageTemplate, values: Mapping[str, Value], flags: templates.Flags) -> Stage:
    from farmx import templates  # spares a sweep of one command

    given = stage.template
    shell = None if given.shell is None else templates.shell(given, values, flags)
    return Stage(stage.name, templates.words(given, values, flags), shell, stage.form, stage.resources)


def commands(template: Template, points: Iterator[Point]) -> Iterator[str]:
    """Each point's command as a shell would take it, LOGDIR as the word; a point equal to an earlier one is left out.

    Each listed value is quoted once, not once a point: what a -n of 10,000 points costs is joining strings.
    """
    base = template.shell if template.shell is not None else shlex.join(template.words)
    quoted: dict[tuple[str, int], str] = {}
    for point in _distinct(points):
        line = base
        for item in point.values.items():
            place = (item[0], id(item[1]))
            text = quoted.get(place)
            if text is None:
                words = flag_words(*item, template.arg_style)
                text = quoted[place] = " " + shlex.join(words) if words else ""
            line += text
        yield line


def stage_lines(template: Template, points: Iterator[Point]) -> Iterator[str]:
    """commands() where CMD is a mapping: a line for each stage of each point, the stage's name in front."""
    width = max(len(each.name) for each in template.stages)
    flags = partial(flag_words, style=template.arg_style)
    stages = [(f"{each.name:<{width}} ", [*_pieces(each.template)]) for each in template.stages]
    quoted: dict[tuple[int, tuple[int, ...]], str] = {}
    for point in _distinct(points):
        for line, pieces in stages:
            for piece in pieces:
                if not isinstance(piece, str):
                    place = (id(piece), tuple(id(point.values.get(name)) for name in piece.names))
                    text = quoted.get(place)
                    if text is None:
                        text = quoted[place] = piece.text(point.values, flags)
                    piece = text
                line += piece
            yield line


class _Piece(NamedTuple):
    """A part of a line that values change. names: of these values.  text: what it is for some."""

    names: tuple[str, ...]
    text: Callable[[Mapping[str, Value], templates.Flags], str]


def _pieces(template: templates.Template) -> Iterator[str | _Piece]:
    """A template's line, each word with the blank before it."""
    from farmx import templates  # spares a sweep of one command

    if template.shell is not None:
        yield " "
        for part in template.shell:
            yield part if isinstance(part, str) else _Piece((part.name,), partial(templates.quoted, part))
    for parts in template.words:
        names = tuple(part.name for part in parts if not isinstance(part, str))
        yield _Piece(names, partial(_joined, parts)) if names else f" {shlex.quote(''.join(map(str, parts)))}"


def _joined(parts: tuple[templates.Part, ...], values: Mapping[str, Value], flags: templates.Flags) -> str:
    from farmx import templates  # spares a sweep of one command

    return "".join(f" {shlex.quote(word)}" for word in templates.word_of(parts, values, flags))


def _distinct(points: Iterator[Point]) -> Iterator[Point]:
    """Of equal points the first."""
    seen: set[Any] = set()
    key_of = _Keys()
    for point in points:
        if (key := key_of(point)) not in seen:
            seen.add(key)
            yield point


# ---------------------------------------------------------------- identity


def canonical(value: Any) -> Any:
    """A value as identity sees it: numbers compare as numbers, a quoted string is a string."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        whole = isinstance(value, int) or value.is_integer()
        return {"n": str(int(value)) if whole else repr(value)}
    if isinstance(value, list):
        return [canonical(each) for each in value]
    return str(value)


class _Keys:
    """A cheap key of a point, equal exactly for points of one identity in one sweep. Remembers each listed value."""

    def __init__(self) -> None:
        self._known: dict[int, str | None] = {}

    def __call__(self, point: Point) -> frozenset[tuple[str, str]]:
        pairs = [(name, self._of(value)) for name, value in point.values.items()]
        if point.swept:
            pairs += [(f"\0{name}", self._of(value)) for name, value in point.swept.items()]
        return frozenset((name, text) for name, text in pairs if text is not None)

    def _of(self, value: Value) -> str | None:
        place = id(value)
        if place not in self._known:
            self._known[place] = None if value.data is None else repr(canonical(value.data))
        return self._known[place]


def preimage(template: Template, point: Point) -> dict[str, Any]:
    """What makes a point this point: CMD's words and the values, in no order; an omitted argument is not set.

    Not in it: code, resources that are not swept, ENV, SETUP, ARG_STYLE.
    """
    values = {key: canonical(value.data) for key, value in sorted(point.values.items()) if value.data is not None}
    swept = {key: canonical(value.data) for key, value in sorted(point.swept.items()) if value.data is not None}
    return {**_command(template, values), "values": values, **({"swept": swept} if swept else {})}


def _command(template: Template, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a preimage says of the first stage's command.

    A stage that ends with the flags of all values, and has them nowhere else, is the one command it was before CMD
    became a mapping.
    """
    if not template.stages:
        return {"command": template.shell if template.shell is not None else list(template.words)}
    from farmx import templates  # spares a sweep of one command

    first = template.stages[0].template
    base, flags = templates.without_flags(first)
    whole = set(values) <= set(flags) and not any(True for _ in base.references())
    source = (base if whole else first).source()
    return {"command" if whole else "template": source if isinstance(source, str) else list(source)}


def forms(sources: Sequence[tuple[str, ...] | str]) -> list[str]:
    """What tells whether a stage is the same as in an earlier launch, for the templates of all stages in order.

    '' for the first, which identity holds. Another's changes with its own template and with each one before it.
    """
    import hashlib  # spares a -n

    found = [""] * len(sources)
    for place, source in list(enumerate(sources))[1:]:
        text = repr((found[place - 1], source))
        found[place] = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return found


def identity(image: Mapping[str, Any]) -> str:
    """The digest of a preimage, with the canonical form it was made by in front."""
    encode, sha256 = _digesting()
    return f"{FORM}-{sha256(encode(image).encode(errors='surrogatepass')).hexdigest()[:20]}"


@cache
def _digesting() -> tuple[Callable[[Any], str], Callable[[bytes], Any]]:
    import hashlib  # these spare a -n
    import json

    return json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode, hashlib.sha256


# ---------------------------------------------------------------- specs


def specs(template: Template, points: Iterator[Point]) -> Iterator[RunSpec]:
    """A RunSpec for each distinct point, in order; of equal points the first."""
    seen: set[str] = set()
    template, asked = _formed(template), _Asked(template.resources)
    for point in points:
        image = preimage(template, point)
        key = identity(image)
        if key not in seen:
            seen.add(key)
            yield _spec(template, point, image, key, asked(point.resources))


def kinds(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """One spec for all that ask for the very same, themselves and their stages: of ten thousand one is looked at."""
    asking = ((id(spec.resources), *(id(each.resources) for each in spec.stages)) for spec in specs)
    return list(dict(zip(asking, specs)).values())


def _formed(template: Template) -> Template:
    found = forms([each.template.source() for each in template.stages])
    stages = (each._replace(form=form) for each, form in zip(template.stages, found))
    return template._replace(stages=tuple(stages))


def _spec(template: Template, point: Point, image: Mapping[str, Any], key: str, asked: Mapping[str, Any]) -> RunSpec:
    return RunSpec(
        identity=key,
        preimage=image,
        stages=stages_of(template, point),
        hparams={name: value.data for name, value in point.values.items()},
        tag=_tag(point.tag if point.tag is not None else template.tag, point.values),
        env=template.env,
        env_pass=template.env_pass,
        setup=template.setup,
        pythonpath=template.pythonpath,
        resources=asked,
        goal=template.goal,
        retry=template.retry,
        container=template.container,
        breaker=template.breaker,
        sentinel=template.sentinel,
    )


class _Asked:
    """What points ask for, beside what all do; the same object where that is the same: it is compared in no time."""

    def __init__(self, common: Mapping[str, Any]) -> None:
        self._common = common
        self._known: dict[tuple[object, ...], tuple[Mapping[str, Value], Mapping[str, Any]]] = {}

    def __call__(self, own: Mapping[str, Value]) -> Mapping[str, Any]:
        if not own:
            return self._common
        place = (*own, *map(id, own.values()))
        if place not in self._known:
            self._known[place] = own, {**self._common, **{name: value.data for name, value in own.items()}}
        return self._known[place][1]


def _tag(tag: str | None, values: Mapping[str, Value]) -> str | None:
    """The tag with each {param} filled in, fit for a directory name; None when nothing is left."""
    if tag is None:
        return None
    filled = re.sub(r"\{([^{}]+)\}", lambda match: str(values[match[1]]) if match[1] in values else match[0], tag)
    fit = re.sub(r"[^\w.+=,@-]+", "-", filled).strip("-.")
    return fit.encode()[:TAG_BYTES].decode(errors="ignore") or None


# ---------------------------------------------------------------- names


class Names:
    """Where the runs of a launch get their names, each once, whichever thread asks; none of them in `taken`.

    A name is [TAG_]<adjective>-<noun>_<date>_<time>, or the bare tag. now: seconds since the epoch, shown in local time
    to the minute.  cool: False gives TAG, TAG_2, ... ('run' without a tag).  Each begins with a letter or a digit.
    """

    def __init__(self, taken: Collection[str], now: float, seed: str, cool: bool) -> None:
        from threading import Lock  # spares a -n

        self._used, self._lock = set(taken), Lock()
        self._slugs = _slugs(seed) if cool else iter(())
        self._stamp = time.strftime("%Y.%m.%d_%H.%M", time.localtime(now))
        self._numbered: dict[str, Iterator[str]] = {}

    def next(self, tag: str | None) -> str:
        """A name for a run of this tag."""
        base = tag if tag is None or tag[0].isalnum() else "run" + tag
        lead = f"{base}_" if base else ""
        with self._lock:
            for slug in islice(self._slugs, 100):
                if (name := f"{lead}{slug}_{self._stamp}") not in self._used:
                    break
            else:  # all are taken, or there are none: numbers tell the runs apart
                name = self._bare(base or "run")
            self._used.add(name)
            return name

    def _bare(self, base: str) -> str:
        if base not in self._numbered:
            self._numbered[base] = _numbered(base)
        return next(each for each in self._numbered[base] if each not in self._used)


def _numbered(base: str) -> Iterator[str]:
    yield base
    for number in count(2):
        yield f"{base}_{number}"


def _slugs(seed: str) -> Iterator[str]:
    """What coolname's default generator draws of two words, which begin differently."""
    import random  # spares a -n, and a launch where nothing is new

    draw = random.Random(seed).random
    adjectives, nouns = _words()
    while True:
        adjective, noun = adjectives[int(draw() * len(adjectives))], nouns[int(draw() * len(nouns))]
        if adjective[:4] != noun[:4]:
            yield f"{adjective}-{noun}"


def _words() -> tuple[Sequence[str], Sequence[str]]:
    """coolname's adjectives and nouns. Its data is loaded and not itself, which takes ten times as long to try out each
    generator that it has."""
    from importlib import util  # spares a -n, and a launch where nothing is new
    from importlib.machinery import PathFinder

    package = util.find_spec("coolname")
    assert package
    found = PathFinder.find_spec("coolname.data", package.submodule_search_locations)
    assert found and found.loader
    data = util.module_from_spec(found)
    found.loader.exec_module(data)
    adjectives, nouns = (sorted({*_below(data.config, name)}) for name in data.config["an"]["lists"])
    return adjectives, nouns


def _below(lists: Mapping[str, Any], name: str) -> Iterator[str]:
    """The words of a list of coolname's, which may be made of others."""
    yield from lists[name].get("words", ())
    for each in lists[name].get("lists", ()):
        yield from _below(lists, each)
