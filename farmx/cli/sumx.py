"""sumx: the runs of experiments as one table."""

import os
import sys
from collections.abc import Sequence

import click

from farmx.cli.options import CONTEXT, Plain, version, where
from farmx.cli.options import experiments as known
from farmx.cli.surroundings import located, one_line, results, surroundings
from farmx.errors import UsageError
from farmx.spec import Run


@click.command(cls=Plain, context_settings=CONTEXT)
@click.argument("experiments", nargs=-1, required=True, metavar="EXPERIMENT...", shell_complete=known)
@click.option("-s", "--sortwith", metavar="METRIC", help="Add the best of METRIC and its epoch, best run first.")
@click.option("--ignore", default="", metavar="A,B", help="Columns to leave out.")
@click.option("--csv", "csv_file", type=click.Path(allow_dash=True), metavar="FILE",
              help="Write the table to FILE as csv; - is stdout.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The table as json, one object a run.")
@click.option("--min", "least", is_flag=True, help="The smallest of METRIC is best.")
@click.option("--max", "most", is_flag=True, help="The largest of METRIC is best.")
@where
@version
@one_line
def sumx(
    experiments: tuple[str, ...],
    sortwith: str | None,
    ignore: str,
    csv_file: str | None,
    as_json: bool,
    least: bool,
    most: bool,
    logroot: str | None,
    config_file: str | None,
) -> None:
    """A row for each run of the experiments: what differs, the last and the best metrics, how long an epoch takes."""
    from farmx import layout, metrics, reports
    from farmx import sumx as table

    if least and most:
        raise UsageError("--min and --max do not go together; take one of them")
    if as_json and csv_file == "-":
        raise UsageError("--json and --csv - both write to stdout; take one of them")
    mode = "min" if least else "max" if most else None
    at = surroundings()
    root = results(logroot, config_file, at)
    cache = layout.cache_folder(at.home, at.environ)
    runs, problems = _runs([_whole(root, located(name, at)) for name in experiments], root, cache)
    logs = metrics.read(runs, cache, at.now)
    hidden = [name.strip() for name in ignore.split(",") if name.strip()]
    made = table.table(runs, logs, sortwith=sortwith, ignore=hidden, mode=mode, codes=table.codes_of(runs))
    if csv_file is not None:
        reports.deliver(reports.of("csv")(made), csv_file, sys.stdout)
    if csv_file != "-":
        sys.stdout.write(reports.of("json" if as_json else "text")(made))
    for note in (*problems, *made.notes):
        click.echo(note, err=True)


def _whole(root: str, name: str) -> str:
    """The experiment's whole name."""
    if name and os.path.isdir(os.path.join(root, name)):
        return name
    from farmx import naming  # only who typed a part of it

    return naming.experiment(root, name)


def _runs(experiments: Sequence[str], root: str, cache: str) -> tuple[list[Run], list[str]]:
    """The runs of all experiments, each once, and a line about those that cannot be read."""
    from farmx import status

    if len(experiments) == 1:
        looks = {os.path.join(root, experiments[0]): status.read(root, experiments[0], cache)}
    else:
        from farmx import naming  # spares who looks at one

        meant = [naming.Named(os.path.join(root, name), None) for name in experiments]
        looks = {named.home: look for named, look in zip(meant, naming.looks(meant, cache))}
    problems = [problem for look in looks.values() for problem in look.problems]
    runs = f"run{'s' * (len(problems) != 1)}"
    notes = [f"{len(problems)} {runs} unreadable: {'; '.join(problems)}"] if problems else []
    runs_of = (status.aimed(path, look.runs) for path, look in looks.items())
    return list({run.path: run for found in runs_of for run in found}.values()), notes
