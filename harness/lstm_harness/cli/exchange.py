"""The command line of runs for other tools, and from them.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import Annotated

import typer

from lstm_harness.cli.places import Place, place
from lstm_harness.model.errors import Exit

app = typer.Typer()


@app.command()
def export(
    run: Annotated[
        Place, typer.Argument(metavar="RUN", parser=place, help="a run's folder or URL")
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="pytest-benchmark, csv, parquet")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="the file to write")],
) -> int:
    """Write a run for other tools: pytest-benchmark's JSON, CSV or Parquet."""
    from lstm_harness.console import output
    from lstm_harness.interop.export import write
    from lstm_harness.store import run_folder

    loaded = run_folder.load(run.here())
    output.damaged(loaded)
    for said in write(loaded, form, out):
        output.warning(said)
    output.path(out)
    return Exit.DONE


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="each file is one block")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="RUN", help="the run's folder, which must be new"),
    ] = None,
) -> int:
    """Make a run of what pytest-benchmark measured."""
    from lstm_harness.console import output
    from lstm_harness.interop.benchmark_import import take

    folder, said = take(files, out)
    for line in said:
        output.warning(line)
    output.path(folder)
    return Exit.DONE
