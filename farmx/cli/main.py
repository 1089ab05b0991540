"""farmx: launch a sweep, look at it, retry and cancel its runs."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from farmx.cli.surroundings import one_line, surroundings
from farmx.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Launching(click.Group):
    """`farmx sweep.yml` is `farmx launch sweep.yml`: what begins with no command's name is a launch."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `launch` in front where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help", "--version"):
            args = ["launch", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Launching, context_settings=CONTEXT)
@click.version_option(__version__)
def farmx() -> None:
    """Launch the runs of a sweep file, look at them, retry and cancel them.

    \b
    farmx sweep.yml -n        print every command, make nothing
    farmx sweep.yml -i        run here, one at a time
    farmx sweep.yml -j 4      run here, four at a time
    farmx status sweep        how the runs stand
    sumx sweep --sortwith acc the table
    """


Function = TypeVar("Function", bound=Callable[..., Any])


def _options(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """One decorator of several click options, in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


where = _options(
    click.option("--logroot", metavar="DIR", help="Where experiments are; overrides LOGROOT."),
    click.option("-c", "--config-file", "--config_file", metavar="FILE", help="Read this configuration file only."),
)
_here = _options(
    click.option("-i", "--interactive", is_flag=True, help="Run here, in the foreground, one at a time."),
    click.option("-j", "--jobs", type=int, metavar="N", help="Run here, N at a time."),
    click.option("--gpus", metavar="GPUS", help="Run here, one a slot: 0,1 or 0+1,2+3 or 0,0 or free."),
)


@farmx.command()
@click.argument("sweep_yml", metavar="SWEEP.YML")
@_here
@click.option("-n", "--no-run", "--no_run", is_flag=True, help="Print every command, make nothing.")
@click.option("--farm", metavar="NAME", help="The farm to run on; overrides FARM.")
@click.option("--tag", metavar="TAG", help="Put TAG in front of each run's name.")
@click.option("--exp-name", "--exp_name", metavar="NAME", help="The experiment's name; default: the sweep file's.")
@click.option("--no-cooldir", "--no_cooldir", is_flag=True, help="Name runs TAG, TAG_2, ...")
@where
@click.option("--again", is_flag=True, help="Run every point once more, in new directories.")
@click.option("--first", type=click.IntRange(1), metavar="N", help="Only the first N points.")
@click.option("--max-runs", type=click.IntRange(1), default=1000, show_default=True, metavar="N",
              help="Ask before launching more runs than this.")  # fmt: skip
@one_line
def launch(**given: Any) -> None:
    """Bring every point of a sweep to a run: make what is missing, take up what was interrupted, leave the rest."""
    from farmx.cli import launching  # status and retry do without it

    sys.exit(launching.launch(given, surroundings()))


@farmx.command()
@click.argument("experiment", required=False)
@click.option("--json", "as_json", is_flag=True, help="The same as json.")
@where
@one_line
def status(experiment: str | None, as_json: bool, logroot: str | None, config_file: str | None) -> None:
    """How the runs of EXPERIMENT stand, or the counts of every experiment."""
    from farmx.cli import looking

    print(looking.status(experiment, as_json, looking.logroot(logroot, config_file, surroundings())))


@farmx.command()
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...")
@click.option("--state", metavar="STATES", help="Only runs in these states: failed,lost,...")
@click.option("--code", type=click.Choice(["now", "own"]), help="Use today's code, or what the run has.")
@_here
@click.option("--json", "as_json", is_flag=True, help="Say what was queued as json.")
@where
@one_line
def retry(**given: Any) -> None:
    """Run again what failed, was cancelled, interrupted or lost.

    A run that failed by its own exit code takes today's code; one that was ended by others keeps its own.
    """
    from farmx.cli import relaunching

    sys.exit(relaunching.retry(given, surroundings()))


@farmx.command()
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...")
@click.option("--json", "as_json", is_flag=True, help="Say what was done as json.")
@where
@one_line
def cancel(names: tuple[str, ...], as_json: bool, logroot: str | None, config_file: str | None) -> None:
    """End runs on this machine: those that wait never start, those that run are asked to end."""
    from farmx.cli import relaunching

    sys.exit(relaunching.cancel(names, as_json, logroot, config_file, surroundings()))
