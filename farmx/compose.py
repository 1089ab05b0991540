"""A sweep file and what surrounds it -> an Order; the one place that knows both the words of a sweep and a launch's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from farmx import config, plan, shelltext, sweep
from farmx.errors import ConfigError, SweepError, UsageError, nearest
from farmx.settings import LOCAL, NOTIFY_SLURM, OF_COMMANDS, SLURM
from farmx.spec import Point, RunSpec, Surroundings

if TYPE_CHECKING:
    from farmx import snapshot
    from farmx.orders import Order
    from farmx.yaml12 import Mark, Node


class Request(NamedTuple):
    """What a user asks for. flags: LOGROOT and FARM as given.  first: launch only so many points, None for all.
    stages: run only these, () for all."""

    sweep: str
    flags: Mapping[str, str] = {}
    config_file: str | None = None
    name: str | None = None
    tag: str | None = None
    cool: bool = True
    again: bool = False
    first: int | None = None
    stages: tuple[str, ...] = ()


class Composed(NamedTuple):
    """A sweep with every setting it runs under. text: the sweep file as it was."""

    request: Request
    sweep: sweep.Sweep
    config: config.Config
    template: plan.Template
    text: str

    def points(self) -> Iterator[Point]:
        """The points that were asked for, in order."""
        from itertools import islice

        return islice(sweep.points(self.sweep), self.request.first)

    def size(self) -> int:
        """How many points were asked for, without making them."""
        count = sweep.count(self.sweep)
        return count if self.request.first is None else min(count, self.request.first)


def read(request: Request, at: Surroundings) -> Composed:
    """Read the sweep file and every configuration file. Raises SweepError or ConfigError for what is wrong in them."""
    _check(request)
    path = os.path.join(at.cwd, request.sweep)
    text = _text(path, request.sweep)
    made = sweep.read(text, request.sweep)
    known = [stage.name for stage in made.stages]
    for name in request.stages:
        if name not in known:
            raise UsageError(f"--stage: {made.file} has no stage {name!r}{nearest(name, known)}")
    settings = config.compose(
        cwd=at.cwd,
        home=at.home,
        environ=at.environ,
        named=request.config_file,
        settings=made.settings,
        setting_marks=made.setting_marks,
        sweep_dir=os.path.dirname(path),
        own_keys=sweep.OWN_KEYS,
        flags=request.flags,
    )
    if any(stage.marks for stage in made.stages):
        settings = settings._replace(origins=_with_stages(settings.origins, made))
    return Composed(request, made, settings, _template(made, settings, request), text)


def _with_stages(origins: Mapping[str, str], made: sweep.Sweep) -> Mapping[str, str]:
    """Where each setting is from, and what stages ask for themselves."""
    from farmx import needs  # spares who has no stages

    named = [(key, stage, str(mark)) for stage in made.stages for key, mark in stage.marks.items()]
    alone = {f"RESOURCES.{key}": mark for key, _, mark in reversed(named)}
    return {**alone, **origins, **{needs.of_stage(key, stage.resources[key]): mark for key, stage, mark in named}}


def _check(request: Request) -> None:
    """Raises UsageError for what neither the command line nor a caller in Python may ask."""
    name = request.name
    if name is not None and (not name[:1].isalnum() or os.sep in name or len(os.fsencode(name)) > 255):
        raise UsageError(f"--exp-name {name!r}: a name of a directory, beginning with a letter or digit, without '/'")
    first = os.path.basename(request.sweep)[:1] if name is None and request.sweep.strip("./") else ""
    if why := {".": "its name would be a hidden experiment's",
               "-": "the experiment's name would be read as an option"}.get(first):  # fmt: skip
        raise UsageError(f"{request.sweep}: {why}; give --exp-name")
    if request.first is not None and request.first < 1:
        raise UsageError(f"--first {request.first}: launch at least one point")


def _text(path: str, shown: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise SweepError(f"{shown}: no such sweep file{_near(path)}") from None
    except IsADirectoryError:
        raise SweepError(f"{shown or repr('')}: is a directory; give a sweep file") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SweepError(f"{shown}: cannot be read: {why}") from error


def _near(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        there = [each for each in os.listdir(folder) if each.endswith((".yml", ".yaml"))]
    except OSError:
        return f"; there is no directory {folder}"
    close = nearest(name, there)
    return close if close.startswith("; did") else ""


def _template(made: sweep.Sweep, settings: config.Config, request: Request) -> plan.Template:
    shell = made.cmd if shelltext.shell_syntax(made.cmd) else None
    words = () if shell is not None else shelltext.words(made.cmd, f"{made.file}: CMD")
    return plan.Template(
        words=made.stages[0].template.program() if made.stages else words,
        shell=shell,
        arg_style=settings.arg_style,
        goal=made.goal,
        env=settings.env,
        env_pass=settings.env_pass,
        setup=settings.setup,
        pythonpath=_roots(settings),
        resources=_resources(settings),
        tag=request.tag,
        retry=settings.retry,
        container=settings.container,
        breaker=settings.breaker,
        sentinel=bool(settings.sentinel),
        stages=tuple(plan.StageTemplate(each.name, each.template, resources=each.resources) for each in made.stages),
    )


def _resources(settings: config.Config) -> Mapping[str, Any]:
    """RESOURCES, with Slurm's own mail where NOTIFY says so."""
    wanted = settings.farm.resources
    if NOTIFY_SLURM not in settings.notify or settings.farm.executor != SLURM:
        return wanted
    from farmx import needs  # spares a -n of other sweeps

    return wanted if "mail_type" in needs.spelled(wanted) else {**wanted, "mail_type": "END,FAIL"}


def _roots(settings: config.Config) -> tuple[str, ...]:
    colons = "LOGDIR/code" if settings.pythonpath is None else settings.pythonpath
    return tuple(filter(None, colons.split(":")))


def order(made: Composed, at: Surroundings, user: str, here: bool = False) -> Order:
    """All that a launch by `user` needs, in values. Nothing is on disk yet.

    here: whether it runs in our terminal, whatever farm is configured. Raises ConfigError for a setting that its runs,
    where they run, cannot have.
    """
    from farmx import interpreter  # these spare a -n
    from farmx.orders import Order

    settings = made.config
    experiment = os.path.join(settings.logroot, made.request.name or made.sweep.name)
    roots = interpreter.pythonpath(made.template.pythonpath, made.template.words[:4], at.environ, at.cwd)
    template = made.template._replace(pythonpath=roots)
    specs = tuple(plan.specs(template, made.points()))
    if not here and settings.farm.executor != LOCAL:  # here nothing is asked for
        kinds = plan.kinds(specs)
        if settings.retry:
            _check_retry(settings, kinds)
        _check_pack(settings, kinds, made.request.stages)
    return Order(
        id=launch_id(at.now, experiment),
        source=at.cwd,
        experiment=experiment,
        sweep=os.path.abspath(os.path.join(at.cwd, made.request.sweep)),
        specs=specs,
        wish=_wish(settings),
        environ=at.environ,
        now=at.now,
        farm=settings.farm.name,
        arg_style=settings.arg_style,
        staging=settings.code_staging,
        cool=made.request.cool,
        again=made.request.again,
        told=_told(made, at, user),
        only=made.request.stages,
        notify=tuple(url for url in settings.notify if url != NOTIFY_SLURM),
        notes=tuple(idle(settings, here)),
    )


def _wish(settings: config.Config) -> snapshot.Wish:
    """What of a source is code."""
    from farmx import snapshot  # spares a -n

    return snapshot.Wish(settings.code_ignore_patterns, settings.code_include, settings.code_link,
                         settings.code_max_files, settings.code_max_mb)  # fmt: skip


def idle(settings: config.Config, here: bool) -> Iterator[str]:
    """What is set and does nothing on this farm, or, where it runs `here`, in our terminal; a line each."""
    name, executor = settings.farm.name, settings.farm.executor
    if settings.sentinel and not _sentinels(executor):
        yield f"SENTINEL is for EXECUTOR: slurm; of farm {name} farmx tend, or the next launch, does what RETRY says"
    if NOTIFY_SLURM in settings.notify and executor != SLURM:
        yield f"NOTIFY: slurm is Slurm's own mail, and farm {name} sends none; name an address, as json://host"
    elif settings.notify == (NOTIFY_SLURM,) and here:
        yield "NOTIFY: slurm is Slurm's own mail, of which runs here send none; name an address, as json://host"
    if settings.farm.pack not in ({}, {"runs": 1}) and (here or executor in ("", LOCAL)):
        yield "PACK is for jobs; on this machine -j, --gpus or the farm's RESOURCES say how many runs work at once"
    unread = [key for key in OF_COMMANDS if settings.origins.get(key, config.DEFAULT) != config.DEFAULT]
    if unread and not here and executor in (SLURM, LOCAL) and name != LOCAL:
        says, out = ("says", "it") if len(unread) == 1 else ("say", "them")
        yield f"{', '.join(unread)} {says} nothing to farm {name}, which is EXECUTOR: {executor}; take {out} out"


def _sentinels(executor: str) -> bool:
    """Whether farms of this kind have what SENTINEL asks for."""
    from farmx import farms  # spares a -n

    return farms.can(executor).sentinels


def _check_pack(settings: config.Config, specs: Sequence[RunSpec], only: Sequence[str]) -> None:
    """Raises ConfigError for a PACK that does not fit a job of these runs, whose stages may have jobs of their own.

    only: the stages to run, () for all.
    """
    from farmx import farms, needs  # these spare a -n
    from farmx.farms import together

    pack = settings.farm.pack
    apart = (stage.name for spec in specs for stage in spec.stages if stage.resources)
    name = next(apart, None) if pack not in ({}, {"runs": 1}) else None
    if name and farms.can(settings.farm.executor).chains:
        raise ConfigError(f"{settings.origins['PACK']}: PACK: stage {name} has RESOURCES, and so a job of its own, "
                          "which runs cannot share; take out one of the two, or write PACK: {runs: 1}")  # fmt: skip
    begins = ((spec, next(each for each in spec.stages if not only or each.name in only)) for spec in specs)
    wanted = (needs.over(spec.resources, stage.resources) for spec, stage in begins)
    together.check(pack, needs.distinct(wanted), settings.origins)


def _check_retry(settings: config.Config, specs: Iterable[RunSpec]) -> None:
    """Raises ConfigError when RETRY lets a resource grow that a run of the farm lacks."""
    from farmx import needs, policy  # spares who has no RETRY

    wanted = ((each, needs.over(spec.resources, each.resources)) for spec in specs for each in spec.stages)
    for stage, resources in {repr(wants): (each, wants) for each, wants in wanted}.values():
        if problem := policy.misfit(settings.retry, resources):
            where = f"stage {stage.name}: " if stage.resources else ""
            raise ConfigError(f"{settings.origins['RETRY']}: RETRY: {where}{problem}")


# ---------------------------------------------------------------- of a launch that was


def settled(experiment: str | None, at: Surroundings, config_file: str | None = None,
            flags: Mapping[str, str] = {}) -> config.Config:  # fmt: skip
    """The settings of the experiment directory's newest launch, as its sweep file and its configuration say them today;
    those of here where there was no launch, or its directory is gone.

    A sweep file that is gone or wrong counts as it was launched, but for NOTIFY, which is kept nowhere.
    config_file: in place of the launch's.  flags: LOGROOT and FARM of the command line.  Raises ConfigError.
    """
    from farmx import records  # spares a -n

    told = records.last_launch(experiment) if experiment else {}
    cwd = str(told.get("cwd")) if os.path.isdir(str(told.get("cwd"))) else at.cwd
    named = told.get("config")
    if config_file is not None:
        named = config_file if cwd == at.cwd else os.path.join(at.cwd, config_file)
    for settings, marks in (*_sweeps(told), ({}, {})):
        try:
            return config.compose(
                cwd=cwd, home=at.home, environ=at.environ, named=named, flags=flags, settings=settings,
                setting_marks=marks, sweep_dir=os.path.dirname(told.get("sweep", "")) or None, own_keys=sweep.OWN_KEYS,
            )  # fmt: skip
        except SweepError as error:
            wrong = error
    raise wrong  # never: of what says nothing, nothing is wrong


def recipe(experiment: str, settings: config.Config) -> dict[str, Any]:
    """What run.json says that goes with the code, as the experiment's newest launch would make it with these settings:
    its `code`, but None for a staging that goes by the number of files, its sweep file, and what surrounds the program;
    {} where there was no launch."""
    from farmx import records  # spares a -n

    last = records.last_launch(experiment)
    source = last.get("cwd")
    code = {"staging": settings.code_staging, "source": source, **_wish(settings)._asdict()}
    around = {"env": dict(settings.env), "env_pass": list(settings.env_pass), "setup": settings.setup,
              "pythonpath": list(_roots(settings))}  # fmt: skip
    return {"code": code, "sweep": last["sweep"], **around} if source else {}


def _sweeps(told: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Node], Mapping[str, Mark]]]:
    """The settings of a launch's sweep file and their places, as it is now and as it was; none where it is no sweep."""
    path = str(told.get("sweep"))
    with suppress(SweepError):
        made = sweep.read(_text(path, path), path)
        yield made.settings, made.setting_marks
    with suppress(SweepError):
        made = sweep.read(str(told.get("text") or ""), path)
        yield {key: node for key, node in made.settings.items() if key != "NOTIFY"}, made.setting_marks


def launch_id(now: float, experiment: str) -> str:
    """A name for a launch of the experiment directory, and its submissions, that sorts by time.

    It comes after all there are, whatever clock named those: the one that is made last has the newest settings.
    Raises RecordError.
    """
    stamp = _stamp(int(now * 1000))
    from farmx import layout  # spares a -n

    homes = (os.path.join(experiment, layout.FARMX, name) for name in (layout.LAUNCHES, layout.SUBMISSIONS))
    there = (name for home in homes for name in layout.names(home) if _STAMP.match(name))
    newest = max(there, default="")[: len(stamp)]
    if newest >= stamp:
        with suppress(ValueError):  # it is no time
            stamp = _stamp(1 + _moment(newest))
    return f"{stamp}-{os.urandom(3).hex()}"


_STAMP = re.compile(r"\d{8}-\d{6}\.\d{3}-")


def _stamp(moment: int) -> str:
    """Milliseconds since the epoch, as text."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(moment // 1000))}.{moment % 1000:03d}"


def _moment(stamp: str) -> int:
    """The same the other way round. Raises ValueError."""
    import calendar  # only where clocks differ

    day, _, part = stamp.partition(".")
    return calendar.timegm(time.strptime(day, "%Y%m%d-%H%M%S")) * 1000 + int(part)


def _without_addresses(made: Composed) -> str:
    """The sweep file without what NOTIFY has in it, which may be secret; '' where that is spelled another way there."""
    text, given = made.text, made.config.notify if "NOTIFY" in made.sweep.settings else ()
    for url in sorted((url for url in given if "://" in url), key=len, reverse=True):
        if url not in made.text:
            return ""
        text = text.replace(url, "...")
    return text


def _told(made: Composed, at: Surroundings, user: str) -> dict[str, Any]:
    origins = {key: origin for key, origin in made.config.origins.items() if origin != config.DEFAULT}
    who = {"argv": list(at.argv), "cwd": at.cwd, "user": user, "host": at.host}
    named = made.request.config_file
    read = {} if named is None else {"config": os.path.abspath(os.path.join(at.cwd, named))}
    return {**who, **read, "text": _without_addresses(made), "origins": origins}
