"""farmx: launch a sweep, look at it, retry and cancel its runs."""

import os
import sys
from typing import Any

import click

from farmx.cli.options import CONTEXT, PATH, Plain, count, joined_stages, keep, options, runs, stages, version, where
from farmx.cli.surroundings import MAX_RUNS, located, one_line, surroundings
from farmx.cli.surroundings import logroot as logroot_of
from farmx.errors import nearest


class Launching(Plain, click.Group):
    """`farmx sweep.yml` is `farmx launch sweep.yml`: what begins with no command's name is a launch."""

    command_class = Plain

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `launch` in front where it was left out."""
        if not args:
            args = ["--help"]
        if args[0] not in self.commands and args[0] not in ("-h", "--help", "--version"):
            close = "" if os.path.exists(args[0]) else nearest(args[0], list(self.commands))
            if close.startswith("; did") and not ctx.resilient_parsing:  # Tab says nothing
                ctx.fail(f"there is no command and no sweep file {args[0]!r}{close}")
            args = ["launch", *args]
        return super().parse_args(ctx, joined_stages(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people need them."""
        return list(self.commands)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Commands, options and, as `launch` may be left out, sweep files; any file where nothing else fits."""
        from click.shell_completion import CompletionItem  # only Tab

        # A shell that is told to look for files itself forgets what else it was told.
        files = [] if not incomplete else [name for name in os.listdir() if name.endswith((".yml", ".yaml"))]
        found = [CompletionItem(name) for name in sorted(files) if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *found] or [CompletionItem(incomplete, type="file")]


@click.group(cls=Launching, context_settings=CONTEXT)
@version
def farmx() -> None:
    """Launch the runs of a sweep file, look at them, retry and cancel them.

    \b
    farmx sweep.yml -n        print every command, make nothing
    farmx sweep.yml -i        run here, one at a time
    farmx sweep.yml -j 4      run here, four at a time
    farmx sweep.yml           run on the farm that .farmx.yaml names
    farmx status sweep        how the runs stand
    sumx sweep --sortwith acc the table
    """


_here = options(
    click.option("-i", "--interactive", is_flag=True, help="Run here, in the foreground, one at a time."),
    click.option("-j", "--jobs", type=count, metavar="N", help="Run here, N at a time, whether with -i or not."),
    click.option("--gpus", metavar="GPUS",
                 help="Run here, one a slot: 0,1 or 0+1,2+3 or 0,0 or free; with -j N in turn."),  # fmt: skip
)


@farmx.command(short_help="Make and run what is missing of a sweep.")
@click.argument("sweep_yml", type=PATH, metavar="SWEEP.YML")
@_here
@click.option("-n", "--no-run", "--no_run", is_flag=True, help="Print every command, make nothing.")
@click.option("--farm", metavar="NAME", help="The farm to run on; overrides FARM.")
@click.option("--tag", metavar="TAG", help="Put TAG in front of each run's name.")
@click.option("--exp-name", "--exp_name", metavar="NAME", help="The experiment's name; default: the sweep file's.")
@click.option("--no-cooldir", "--no_cooldir", is_flag=True, help="Name runs TAG, TAG_2, ...")
@where
@click.option("--prune", is_flag=True, help="Also cancel waiting runs that left the sweep file; shown first.")
@click.option("-y", "--yes", "sure", is_flag=True, help="Do not ask before cancelling what --prune shows.")
@click.option("--again", is_flag=True, help="Run every point once more, in new directories.")
@click.option("--first", type=count, metavar="N", help="Only the first N points.")
@stages
@click.option("--max-runs", type=count, default=MAX_RUNS, show_default=True, metavar="N",
              help="Ask before launching more runs than this.")  # fmt: skip
@one_line
@click.pass_obj
def launch(ask: Any, /, **given: Any) -> None:
    """Bring every point of a sweep to a run: make what is missing, take up what was interrupted, leave the rest."""
    from farmx.cli import launching  # status and retry do without it

    sys.exit(launching.launch(given, surroundings(), ask))


@farmx.command(short_help="Write a .farmx.yaml for this machine.")
@click.option("--farm", metavar="KIND", help="Write this one: slurm, local, sge, ...; default: what is here.")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Where to; default: .farmx.yaml.")
@click.option("-n", "--no-run", is_flag=True, help="Print it, write nothing.")
@one_line
def init(**given: Any) -> None:
    """Find the scheduler, its partitions and limits, or the GPUs of this machine; write a .farmx.yaml for them."""
    from farmx.cli import init as command

    command.init(given, surroundings())


@farmx.command(short_help="How the runs stand.")
@click.argument("names", nargs=-1, metavar="[EXPERIMENT|RUN]...", shell_complete=runs)
@click.option("--watch", is_flag=True, help="Look again every few seconds, on this terminal; q or Ctrl-C ends.")
@click.option("--json", "as_json", is_flag=True, help="The same as json.")
@where
@one_line
def status(names: tuple[str, ...], watch: bool, as_json: bool, logroot: str | None, config_file: str | None) -> None:
    """How runs stand: those of an EXPERIMENT, each RUN that is named, or the counts of every experiment."""
    from farmx import layout  # spares a --help
    from farmx.cli import looking

    at = surroundings()
    root, places = logroot_of(logroot, config_file, at), [located(name, at) for name in names]
    cache = layout.cache_folder(at.home, at.environ)
    if not watch:
        print(looking.status(places, as_json, root, at.now, cache))
        return
    from farmx.cli import watching  # only a terminal wants it

    watching.watch(places, as_json, root, cache)


@farmx.command(short_help="What a run printed.")
@click.argument("name", metavar="RUN", shell_complete=runs)
@click.option("-f", "--follow", is_flag=True, help="Go on as it prints, over stages and attempts, until it has ended.")
@click.option("--stage", metavar="STAGE", help="Only what this stage printed.")
@click.option("--attempt", metavar="K.R", help="An older attempt: 1.0, or 1 for the last one of 1.0, 1.1, ...")
@click.option("--json", "as_json", is_flag=True, help="Say which logs there are as json.")
@where
@one_line
def logs(**given: Any) -> None:
    """What RUN printed in its newest attempt, all stages in order."""
    from farmx.cli import logs as command

    command.show(given, surroundings())


@farmx.command(short_help="What became of a run, and what to do next.")
@click.argument("name", metavar="RUN", shell_complete=runs)
@click.option("--json", "as_json", is_flag=True, help="The same as json.")
@where
@one_line
def why(**given: Any) -> None:
    """What became of RUN, in plain words: how and where it ended, or what it waits for; and what to do next."""
    from farmx.cli import why as command

    command.tell(given, surroundings())


@farmx.command(short_help="Run again what failed, was cancelled, interrupted or lost.")
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...", shell_complete=runs)
@click.option("--state", metavar="STATES", help="Only runs in these states: failed,lost,...")
@click.option("--code", type=click.Choice(["now", "own"]), help="Use today's code, or what the run has.")
@click.option("-r", "--resources", multiple=True, metavar="KEY=VALUE",
              help="Ask for this from now on: time=8:00:00; KEY= for nothing.")  # fmt: skip
@click.option("--release", is_flag=True, help="Also let go what is held since the first runs failed alike.")
@stages
@_here
@click.option("--farm", metavar="NAME", help="The farm to run on; default: the one that had each run.")
@click.option("--json", "as_json", is_flag=True, help="Say what was queued as json.")
@where
@one_line
def retry(**given: Any) -> None:
    """Run again what failed, was cancelled, interrupted or lost.

    A run that failed takes today's code; one that was cancelled, interrupted or lost keeps its own.
    """
    from farmx.cli import relaunching

    sys.exit(relaunching.retry(given, surroundings()))


@farmx.command(short_help="Do what RETRY says of runs that failed or were lost.")
@click.argument("names", nargs=-1, metavar="[EXPERIMENT|RUN]...", shell_complete=runs)
@click.option("--json", "as_json", is_flag=True, help="Say what was found and done as json.")
@where
@one_line
def tend(**given: Any) -> None:
    """Queue again what RETRY says of runs that failed or were lost, each on the farm that it was on."""
    from farmx.cli import tending

    sys.exit(tending.tend(given, surroundings()))


@farmx.command(short_help="Prove preemption, requeue and resume with one real run.")
@click.argument("sweep_yml", type=PATH, metavar="SWEEP.YML")
@click.option("--after", type=count, metavar="SECONDS", help="End it so long after its begin, whatever it has written.")
@click.option("--keep", is_flag=True, help="Let the run go on afterwards.")
@click.option("--farm", metavar="NAME", help="The farm to run on; overrides FARM.")
@where
@one_line
def drill(**given: Any) -> None:
    """Launch the first point of a sweep as an experiment of its own, end it as the farm would, see that it goes on."""
    from farmx.cli import drill as command

    sys.exit(command.drill(given, surroundings()))


@farmx.command(short_help="Whom NOTIFY tells, and what waits to be told.")
@click.option("--test", is_flag=True, help="Send a test message and say what each address answered.")
@click.option("--flush", is_flag=True, help="Send what waits.")
@click.option("--json", "as_json", is_flag=True, help="The same as json.")
@where
@one_line
def notify(**given: Any) -> None:
    """Say whom NOTIFY tells and what waits to be told; send a test message, or what waits."""
    from farmx.cli import notify as command

    sys.exit(command.notify(given, surroundings()))


@farmx.command(short_help="Remove ended runs, checkpoints or snapshots.")
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...", shell_complete=runs)
@click.option("--failed", is_flag=True, help="Remove those that failed or were cancelled.")
@click.option("--checkpoints", type=keep, metavar="keep=K", help="Remove all but the K best and K newest checkpoints.")
@click.option("--snapshots", is_flag=True, help="Remove the code that no run needs any more.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; names are to be whole then.")
@where
@one_line
def clean(**given: Any) -> None:
    """Remove the directories of runs that have ended, or only what the options say; what goes is shown first."""
    from farmx.cli import cleaning

    sys.exit(cleaning.clean(given, surroundings()))


@farmx.command(short_help="End runs: those that wait and those that run.")
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...", shell_complete=runs)
@click.option("--json", "as_json", is_flag=True, help="Say what was done as json.")
@where
@one_line
def cancel(names: tuple[str, ...], as_json: bool, logroot: str | None, config_file: str | None) -> None:
    """End runs, here and on farms: those that wait never start, those that run are asked to end."""
    from farmx.cli import relaunching

    sys.exit(relaunching.cancel(names, as_json, logroot, config_file, surroundings()))
