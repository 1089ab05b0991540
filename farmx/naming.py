"""What people type -> experiments and runs: exact names, names shortened while they are unique, what Tab offers.

No record is opened to tell which run is meant; a name that is exact always wins.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from farmx import layout, status
from farmx.errors import RecordError, UsageError, nearest
from farmx.spec import Run

NAMED_AT_MOST = 6  # candidates that a message names
COMPARED_AT_MOST = 2000  # runs that are compared with a name of nothing


class Named(NamedTuple):
    """home: the directory of an experiment.  run: the name of a run in it; None: all of its runs are meant."""

    home: str
    run: str | None

    def __str__(self) -> str:
        name = os.path.basename(self.home)
        return name if self.run is None else f"{name}/{self.run}"


def find(
    logroot: str, names: Sequence[str], newest: bool = False, problems: list[str] | None = None, full: bool = False
) -> list[Run]:
    """The runs that `names` name, each once: all of an EXPERIMENT, an EXPERIMENT/RUN, a RUN, or a run's path.

    newest: of an EXPERIMENT only the newest generation of each point.  Claims follow renamed runs first.  problems:
    takes a line for each run whose records cannot be read, which is left out; None: RecordError is raised at the first.
    full: no name may be shortened.  Raises UsageError for a name that is nothing of these, or of several.
    """
    from farmx import claims  # only who changes runs

    meant = []
    for name in names:
        named = resolve(logroot, name)
        if full and not _is_whole(logroot, named, name.rstrip("/")):
            raise UsageError(f"'{name}' alone begins {named}; where nobody is asked names are whole: write {named}")
        if named.run is None:
            claims.holders(named.home)
        meant.append(named)
    found: dict[str, Run] = {}
    for named, look in zip(meant, looks(meant)):
        if look.problems and problems is None:
            raise RecordError(look.problems[0])
        if problems is not None:
            problems += [problem for problem in look.problems if problem not in problems]
        found.update({run.path: run for run in (_newest(look) if newest and named.run is None else look).runs})
    return list(found.values())


def alone(logroot: str, names: Sequence[str]) -> set[str]:
    """The paths of the runs that are named by themselves, not with their experiment. Raises UsageError as find does."""
    meant = [resolve(logroot, name) for name in names]
    return {os.path.join(named.home, named.run) for named in meant if named.run is not None}


def read(named: Named, cache: str | None = None) -> status.Look:
    """The runs that are meant, as they stand; nothing is changed. cache: as status.read's.

    Raises UsageError for an experiment without runs.
    """
    return looks([named], cache)[0]


def looks(meant: Sequence[Named], cache: str | None = None) -> list[status.Look]:
    """What read() tells of each, with the problems of all that are meant in its experiment. An experiment's records are
    read once, and every farm is asked once."""
    wanted: dict[str, dict[str, None]] = {}
    for home, run in meant:
        wanted.setdefault(home, {}).update(dict.fromkeys(layout.names(home) if run is None else [run]))
    found = status.several(wanted, cache)
    runs = {run.path: run for look in found.values() for run in look.runs}
    return [_of(named, found[named.home], runs, cache) for named in meant]


def _of(named: Named, look: status.Look, runs: Mapping[str, Run], cache: str | None) -> status.Look:
    """What is meant, of the look at its experiment."""
    if named.run is not None:
        path = os.path.join(named.home, named.run)
        return look._replace(runs=(runs[path],) if path in runs else ())
    return look if look.runs else status.read(os.path.dirname(named.home), os.path.basename(named.home), cache)


def one(logroot: str, name: str) -> Run:
    """The one run that is meant; an experiment that holds a single run may stand for it.

    Raises UsageError where several are meant or none, RecordError when its record cannot be read.
    """
    named = resolve(logroot, name, runs_first=True)
    look = read(named)
    if look.problems:
        raise RecordError(look.problems[0])
    if len(look.runs) == 1:
        return look.runs[0]
    if not look.runs:
        raise UsageError(f"'{named}' holds no runs; name one that does")
    some = ", ".join([f"{named}/{run.name}" for run in look.runs[:2]] + ["..."] * (len(look.runs) > 2))
    raise UsageError(f"'{named}' is an experiment of {len(look.runs)} runs; name one of them: {some}")


def _newest(look: status.Look) -> status.Look:
    """Without the runs whose point was launched --again since: to run them again is for who names them."""
    last: dict[str | None, int] = {}
    for run in look.runs:
        last[run.identity] = max(run.generation, last.get(run.identity, 0))
    return look._replace(runs=tuple(run for run in look.runs if run.generation == last[run.identity]))


# ---------------------------------------------------------------- which is meant


def resolve(logroot: str, name: str, runs_first: bool = False) -> Named:
    """What `name` names: exactly, an experiment before a run of its name; else what alone begins with it.

    runs_first: a shortened name that fits experiments and runs means the run.  Raises UsageError.
    """
    name = name.rstrip("/")
    experiments = status.experiments(logroot)
    if name in experiments or (os.path.isabs(name) and status.is_experiment(name)):
        return Named(os.path.join(logroot, name), None)
    exact = [Named(os.path.dirname(path), os.path.basename(path)) for path in _paths(logroot, name, experiments)]
    if len(exact) > 1:
        raise UsageError(f"'{name}' is a run of {' and of '.join(_home(one) for one in exact)}; name it {exact[0]}")
    if exact:
        return exact[0]
    fit = list(islice(_shortened(logroot, name, experiments), NAMED_AT_MOST + 1)) if name else []
    if runs_first and len(runs := [one for one in fit if one.run is not None]) == 1:
        fit = runs
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise ambiguous(name, [str(one) for one in fit])
    every = (run for each in experiments for run in _visible(os.path.join(logroot, each)))
    known = list(dict.fromkeys((*experiments, *islice(every, COMPARED_AT_MOST))))
    close = nearest(name, known)  # where nothing is, a list of all runs tells nobody anything
    close = close if close.startswith("; did") else nearest(name, experiments)
    raise UsageError(f"no experiment or run named '{name}' in {logroot}{close}")


def experiment(logroot: str, name: str) -> str:
    """The name of the experiment that `name` names or alone shortens; `name` itself where there is none such.

    Raises UsageError when it shortens several.
    """
    experiments = status.experiments(logroot)
    fit = [each for each in experiments if each.startswith(name)] if name and name not in experiments else []
    if len(fit) > 1:
        raise ambiguous(name, fit)
    return fit[0] if fit else name


def ambiguous(name: str, candidates: Sequence[str]) -> UsageError:
    """The error for a shortened name that several fit."""
    some = candidates[:NAMED_AT_MOST]
    last = " or others" if len(candidates) > NAMED_AT_MOST else f" or {some[-1]}"
    told = ", ".join(some if len(candidates) > NAMED_AT_MOST else some[:-1]) + last
    return UsageError(f"'{name}' may be {told}; type more of it")


def _is_whole(logroot: str, named: Named, name: str) -> bool:
    """Whether nothing of what is meant is left out in `name`, which may be a path."""
    return name in (named.run, str(named)) or os.path.lexists(os.path.join(logroot, name))


def _home(named: Named) -> str:
    return os.path.basename(named.home)


def _paths(logroot: str, name: str, experiments: Sequence[str]) -> list[str]:
    if os.path.basename(name) in ("", os.curdir, os.pardir):
        return []
    paths = [path for each in ("", *experiments) if _is_run(path := os.path.join(logroot, each, name))]
    return list(dict.fromkeys(paths))


def _shortened(logroot: str, name: str, experiments: Sequence[str]) -> Iterator[Named]:
    """What begins with `name`; with a / in it, the runs that begin with what follows, of what begins so."""
    home, slash, run = name.rpartition("/")
    fit = [each for each in experiments if home and each.startswith(home)]
    if not slash:
        yield from (Named(os.path.join(logroot, each), None) for each in experiments if each.startswith(name))
        fit = list(experiments)
    elif home in experiments:
        fit = [home]
    for each in fit:
        path = os.path.join(logroot, each)
        names = _visible(path)
        for one in [run] if run in names else sorted(names):
            if one.startswith(run) and _is_run(os.path.join(path, one)):
                yield Named(path, one)


def _visible(path: str) -> list[str]:
    return [name for name in layout.names(path) if not name.startswith(".")]


def _is_run(path: str) -> bool:
    return any(os.path.lexists(os.path.join(path, mark)) for mark in layout.RUN_MARKS)


# ---------------------------------------------------------------- what Tab offers


def offered(logroot: str, typed: str, runs: bool) -> list[str]:
    """What begins with `typed`: experiments; `runs`: also EXPERIMENT/RUN after a slash, and runs after one letter.

    Directories are listed, nothing in them is opened: any visible name in an experiment counts as a run. A name that
    no shell would take on one line is not offered.
    """
    return [name for name in _offered(logroot, typed, runs) if name.isprintable()]


def _offered(logroot: str, typed: str, runs: bool) -> list[str]:
    experiments = status.experiments(logroot)
    home, slash, begin = typed.rpartition("/")
    if not runs or not typed:
        return [each for each in experiments if each.startswith(typed)]
    if slash:
        names = sorted(_visible(os.path.join(logroot, home))) if home in experiments else []
        return [f"{home}/{name}" for name in names if name.startswith(begin)]
    within = {name for each in experiments for name in _visible(os.path.join(logroot, each)) if name.startswith(typed)}
    return [*(each for each in experiments if each.startswith(typed)), *sorted(within)]
