"""farmx launch: from the command line to an order; -n, which ends there."""

import gc
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from farmx import compose, config, plan, sweep
from farmx.cli.surroundings import tell, user
from farmx.compose import Composed, Request
from farmx.errors import UsageError
from farmx.settings import LOCAL, SLURM
from farmx.spec import Surroundings

# What may be wrong in a way that only a look at the code and the shell tells; a -n without any spares that look.
CHECKED = ("CODE_IGNORE_PATTERNS", "CODE_LINK", "CODE_INCLUDE", "ENV_PASS", "RETRY", "PACK", "CONTAINER")

if TYPE_CHECKING:  # spares a -n
    from farmx.farms.base import Farm
    from farmx.farms.beside import Ask
    from farmx.orders import Order


def launch(given: Mapping[str, Any], at: Surroundings, ask: "Ask | None" = None) -> int:
    """Do what the command line says; return the exit code. ask: of a child that has submitit, where there is one."""
    request = request_of(given)
    made = compose.read(request, at)
    for warning in made.sweep.warnings:
        tell(warning)
    asked_here = given["interactive"] or given["jobs"] is not None or given["gpus"] is not None
    if given["no_run"]:
        for note in compose.idle(made.config, asked_here):
            tell(f"note  {note}")
        if any(made.config.origins.get(key, config.DEFAULT) != config.DEFAULT for key in CHECKED):
            _check(made, at, asked_here)
        _print(made)
        if given["prune"]:
            from farmx.cli import pruning  # only who asks for it

            pruning.show(made, compose.order(made, at, user(), asked_here), at)
        return 0
    if made.config.farm.executor == SLURM and not asked_here and ask is None:
        from farmx.farms import beside  # nobody guessed it

        with beside.child("submitit.slurm.slurm") as ask:
            return _elsewhere(made, given, at, ask)
    from farmx.cli import there  # spares a -n

    if there.elsewhere(made.config) and not asked_here:
        return _elsewhere(made, given, at, ask)
    from farmx.cli import here  # spares who runs elsewhere

    named = made.config.origins.get("FARM", config.DEFAULT) != config.DEFAULT
    places = here.slots(given["jobs"], given["gpus"], given["interactive"], made.config.farm, named)
    return here.run(_order(made, given, at, here.Here(places), here=True), places)


def _elsewhere(made: Composed, given: Mapping[str, Any], at: Surroundings, ask: "Ask | None") -> int:
    if ask and made.config.farm.executor == SLURM:
        from farmx.farms import slurm_check  # ahead of what a launch loads while its child asks

        slurm_check.expect(ask, made.config.farm.resources, made.config.farm.pack)
    from farmx.cli import there  # spares a -n

    farm = there.farm(made.config, ask)
    gc.disable()  # what it makes it keeps until all is queued: a twentieth of what a launch of 10,000 takes
    try:
        return there.run(_order(made, given, at, farm, here=False), farm)
    finally:
        gc.enable()


def _check(made: Composed, at: Surroundings, asked_here: bool) -> None:
    """Raises what a launch would before it makes anything, but for what only the farm can say; tells what it would say
    of the code, of which it reads no more than the names."""
    from farmx import launcher, programs  # spares a -n of a plain sweep

    order = compose.order(made, at, user(), asked_here)
    executor = LOCAL if asked_here else made.config.farm.executor
    code = launcher.check(order, executor)
    for note in (*programs.bare(order.specs, order.source, code), *code.warnings):
        tell(f"note  {note}")


def _order(made: Composed, given: Mapping[str, Any], at: Surroundings, farm: "Farm", here: bool) -> "Order":
    """What is to be launched, after everybody who has to be asked was; what left the sweep is cancelled by then."""
    _guard(made, given["max_runs"])
    order = compose.order(made, at, user(), here)
    if given["prune"]:
        from farmx import launcher  # only who asks for it
        from farmx.cli import pruning

        order = order._replace(code=launcher.check(order, farm.executor, farm))  # one that is refused has ended nothing
        pruning.prune(made, order, at, given["sure"])
    return order


def request_of(given: Mapping[str, Any]) -> Request:
    """The request that the options of a command say."""
    flags = {"LOGROOT": given["logroot"], "FARM": given["farm"]}
    return Request(
        sweep=given["sweep_yml"],
        flags={key: value for key, value in flags.items() if value is not None},
        config_file=given["config_file"],
        name=given["exp_name"],
        tag=given["tag"],
        cool=not given["no_cooldir"],
        again=given["again"],
        first=given["first"],
        stages=given["stages"],
    )


def words_of(request: Request, how: Sequence[str] = ()) -> list[str]:
    """The command line that says the request. how: the options that say where it runs."""
    said = {"--farm": request.flags.get("FARM"), "--logroot": request.flags.get("LOGROOT"), "-c": request.config_file,
            "--exp-name": request.name, "--tag": request.tag, "--first": request.first,
            "--stage": ",".join(request.stages) or None}  # fmt: skip
    flags = {"--no-cooldir": not request.cool, "--again": request.again}
    options = [word for option, value in said.items() if value is not None for word in (option, str(value))]
    return ["farmx", request.sweep, *how, *options, *(flag for flag, given in flags.items() if given)]


def _print(made: Composed) -> None:
    """-n: every command to stdout, the count to stderr."""
    wanted = [stage for stage in made.template.stages if not made.request.stages or stage.name in made.request.stages]
    template = made.template._replace(stages=tuple(wanted))
    lines = list((plan.stage_lines if wanted else plan.commands)(template, made.points()))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    tell(_count(made, len(lines) // max(1, len(wanted))))


def _count(made: Composed, distinct: int) -> str:
    """'2 x 3 grid, 1 skipped: 5 runs', with what equal points and --first took away; '1 run' of a sweep of nothing."""
    equal = made.size() - distinct
    parts = [sweep.shape(made.sweep)]
    if made.request.first is not None:
        parts.append(f"the first {made.request.first}")
    if equal:
        parts.append(f"{equal} equal to another")
    told, runs = ", ".join(parts), f"{distinct} run{'s' * (distinct != 1)}"
    return runs if told == runs else f"{told}: {runs}"


def _guard(made: Composed, most: int) -> None:
    count = made.size()
    if count <= most:
        return
    told = f"{made.request.sweep} makes {count:,} runs, more than --max-runs {most:,}"
    if not sys.stdin.isatty():
        raise UsageError(f"{told}; give --max-runs {count} if you mean it, or --first N to try a few")
    import click

    if not click.confirm(f"{told}. Launch them?", err=True):
        raise UsageError("nothing was launched")
