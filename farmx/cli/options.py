"""What the commands have in common: how a wrong use is told, what Tab offers, the options that several take."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from farmx.cli.surroundings import logroot, surroundings
from farmx.errors import FarmxError, nearest

PATH = click.Path()  # one for all: each looks for its translation
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Plain(click.Command):
    """A command whose wrong use is told in one line, as every other mistake is; it ends with exit code 2."""

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """As click's; but that looks for a translation of its text, in eight places a command."""
        return click.Option(ctx.help_option_names, is_flag=True, is_eager=True, expose_value=False,
                            callback=_help, help="Show this message and exit.")  # fmt: skip

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command and end the process."""
        if any(text == "zsh_source" for name, text in os.environ.items() if name.endswith("_COMPLETE")):
            _mend_zsh()
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.UsageError as error:
            print(_told(error, self), file=sys.stderr)
            code = error.exit_code
        except click.Abort:
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


def _mend_zsh() -> None:
    """Have zsh put what is offered behind the `=` of `--code=o`, where click's script puts it in place of all that."""
    from click.shell_completion import ZshComplete, add_completion_class  # only who sets up a shell

    class Zsh(ZshComplete):
        source_template = ZshComplete.source_template.replace(
            "    for type", "    compset -P '--*='\n    for type", 1
        ).replace("compadd -U", 'compadd -U -i "$IPREFIX"')

    add_completion_class(Zsh)


def _help(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


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


def keep(text: str) -> int:
    """How many checkpoints stay, as `keep=2` or `2`."""
    return count(str(text).removeprefix("keep="))


def experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers for EXPERIMENT: those of LOGROOT; none where a configuration file is wrong."""
    return _offered(ctx, incomplete, runs=False)


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers for EXPERIMENT|RUN: experiments, EXPERIMENT/RUN, and runs once a letter is typed."""
    return _offered(ctx, incomplete, runs=True)


def _offered(ctx: click.Context, incomplete: str, runs: bool) -> list[str]:
    from farmx import naming  # only Tab

    try:
        root = logroot(ctx.params.get("logroot"), ctx.params.get("config_file"), surroundings())
        return naming.offered(root, incomplete, runs)
    except FarmxError:
        return []


def _names(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names given one an option or with commas, in the order given."""
    names = [name.strip() for text in given for name in text.split(",")]
    if not all(names):
        raise click.BadParameter("a name is missing")
    return tuple(dict.fromkeys(names))


stages = click.option("--stage", "stages", multiple=True, metavar="STAGES", callback=_names,
                      help="Run only these stages: train,test.")  # fmt: skip


def _tell_version(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
        from farmx.version import __version__  # only who asks

        click.echo(f"{ctx.find_root().info_name}, version {__version__}")
        ctx.exit()


# click's own looks for translations at every start.
version = click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version,
                       help="Show the version and exit.")  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])


def options(*wanted: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """One decorator of several click options, in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(wanted):
            function = option(function)
        return function

    return decorate


where = options(
    click.option("--logroot", type=PATH, metavar="DIR", help="Where experiments are; overrides LOGROOT."),
    click.option("-c", "--config-file", "--config_file", type=PATH, metavar="FILE",
                 help="Read this configuration file only."),  # fmt: skip
)


def joined_stages(args: list[str]) -> list[str]:
    """`--stage train test` as `--stage train,test`, where what is launched or retried stands before it."""
    if "--stage" not in args or args[1:2] == [] or args[1].startswith("-") or args[0] not in ("launch", "retry"):
        return args
    begin = args.index("--stage") + 1
    end = next((place for place in range(begin, len(args)) if args[place].startswith("-")), len(args))
    return [*args[:begin], ",".join(args[begin:end]), *args[end:]] if end > begin else args
