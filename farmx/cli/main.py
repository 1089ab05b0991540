"""farmx: launch a sweep, look at it, retry and cancel its runs."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from farmx.cli.surroundings import one_line, surroundings
from farmx.errors import nearest
from farmx.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Plain(click.Command):
    """A command whose wrong use is told in one line, as every other mistake is; it ends with exit code 2."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command and end the process."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.UsageError as error:
            print(_told(error, self), file=sys.stderr)
            code = error.exit_code
        except click.Abort:
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


def _told(error: click.UsageError, root: click.Command) -> str:
    """The line for a wrong use; in our words where click's change from version to version."""
    path = error.ctx.command_path if error.ctx else str(root.name)
    problem = _problem(error)
    return f"{path.partition(' ')[0]}: {problem}" + ("" if problem.endswith("?") else f"; see {path} --help")


def _problem(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        known = [name for param in error.ctx.command.params for name in param.opts] if error.ctx else []
        close = nearest(error.option_name, known)
        return f"no such option {error.option_name}" + (close if close.startswith("; did") else "")
    if isinstance(error, click.MissingParameter) and error.param:
        return f"{error.param.make_metavar(error.ctx or click.Context(click.Command(None)))} is missing"
    if isinstance(error, click.BadParameter) and error.param:
        return f"{error.param.opts[0]}: {error.message.rstrip('.')}"
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]


def count(text: str) -> int:
    """A whole number above 0, as an option takes it."""
    digits = str(text)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) > 0):
        raise click.BadParameter(f"{digits!r} is not a whole number above 0")
    return int(digits)


class Launching(Plain, click.Group):
    """`farmx sweep.yml` is `farmx launch sweep.yml`: what begins with no command's name is a launch."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `launch` in front where it was left out."""
        if not args:
            args = ["--help"]
        if args[0] not in self.commands and args[0] not in ("-h", "--help", "--version"):
            close = "" if os.path.exists(args[0]) else nearest(args[0], list(self.commands))
            if close.startswith("; did"):
                ctx.fail(f"there is no command and no sweep file {args[0]!r}{close}")
            args = ["launch", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people need them."""
        return list(self.commands)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Commands, options and, as `launch` may be left out, files."""
        from click.shell_completion import CompletionItem  # only Tab

        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="file")]


def experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers for EXPERIMENT: those of LOGROOT; none where a configuration file is wrong."""
    from farmx import status as records  # only Tab
    from farmx.cli import looking
    from farmx.errors import FarmxError

    try:
        found = records.experiments(looking.logroot(None, None, surroundings()))
    except FarmxError:
        return []
    return [name for name in found if name.startswith(incomplete)]


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
    click.option("--logroot", type=click.Path(), metavar="DIR", help="Where experiments are; overrides LOGROOT."),
    click.option("-c", "--config-file", "--config_file", type=click.Path(), metavar="FILE",
                 help="Read this configuration file only."),  # fmt: skip
)
_here = _options(
    click.option("-i", "--interactive", is_flag=True, help="Run here, in the foreground, one at a time."),
    click.option("-j", "--jobs", type=count, metavar="N", help="Run here, N at a time."),
    click.option("--gpus", metavar="GPUS", help="Run here, one a slot: 0,1 or 0+1,2+3 or 0,0 or free."),
)


@farmx.command(short_help="Make and run what is missing of a sweep.")
@click.argument("sweep_yml", type=click.Path(), metavar="SWEEP.YML")
@_here
@click.option("-n", "--no-run", "--no_run", is_flag=True, help="Print every command, make nothing.")
@click.option("--farm", metavar="NAME", help="The farm to run on; overrides FARM.")
@click.option("--tag", metavar="TAG", help="Put TAG in front of each run's name.")
@click.option("--exp-name", "--exp_name", metavar="NAME", help="The experiment's name; default: the sweep file's.")
@click.option("--no-cooldir", "--no_cooldir", is_flag=True, help="Name runs TAG, TAG_2, ...")
@where
@click.option("--again", is_flag=True, help="Run every point once more, in new directories.")
@click.option("--first", type=count, metavar="N", help="Only the first N points.")
@click.option("--max-runs", type=count, default=1000, show_default=True, metavar="N",
              help="Ask before launching more runs than this.")  # fmt: skip
@one_line
def launch(**given: Any) -> None:
    """Bring every point of a sweep to a run: make what is missing, take up what was interrupted, leave the rest."""
    from farmx.cli import launching  # status and retry do without it

    sys.exit(launching.launch(given, surroundings()))


@farmx.command(short_help="How the runs stand.")
@click.argument("experiment", required=False, shell_complete=experiments)
@click.option("--json", "as_json", is_flag=True, help="The same as json.")
@where
@one_line
def status(experiment: str | None, as_json: bool, logroot: str | None, config_file: str | None) -> None:
    """How the runs of EXPERIMENT stand, or the counts of every experiment."""
    from farmx.cli import looking

    at = surroundings()
    print(looking.status(experiment, as_json, looking.logroot(logroot, config_file, at), at.now))


@farmx.command(short_help="Run again what failed, was cancelled, interrupted or lost.")
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...", shell_complete=experiments)
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


@farmx.command(short_help="End runs on this machine.")
@click.argument("names", nargs=-1, required=True, metavar="EXPERIMENT|RUN...", shell_complete=experiments)
@click.option("--json", "as_json", is_flag=True, help="Say what was done as json.")
@where
@one_line
def cancel(names: tuple[str, ...], as_json: bool, logroot: str | None, config_file: str | None) -> None:
    """End runs on this machine: those that wait never start, those that run are asked to end."""
    from farmx.cli import relaunching

    sys.exit(relaunching.cancel(names, as_json, logroot, config_file, surroundings()))
