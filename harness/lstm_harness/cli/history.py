"""The command line of runs over time, and of runs from and for other tools.

Imports stay light, as in `cli`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.options import names_in
from lstm_harness.model.errors import Exit, NoReportLibraries, UserError

if TYPE_CHECKING:
    from lstm_harness.history.index import Index
    from lstm_harness.history.series import History

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]


@app.command()
def history(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="a folder of runs, at any depth")],
    case: Annotated[
        str | None,
        typer.Option("--case", metavar="TEXT", help="words of a case's name: 'T128 B1 forward'"),
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="LIST", help="names; default: all")
    ] = None,
    as_json: Json = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="a page with the series drawn")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> int:
    """One series a case over time, change points marked."""
    from lstm_harness.console import history as show_history
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.history import index
    from lstm_harness.history.series import gather, matcher

    chosen = matcher(case, names_in(backend) if backend is not None else ())
    with Counting(quiet) as tell:
        kept = index.refresh(store, tell)
    _refuse_unknown(names_in(backend) if backend is not None else (), kept)
    found = gather(kept, chosen)
    show_history.left_out(found)
    _refuse_nothing(store, found, case, backend)
    if as_json:
        output.as_json(show_history.document(str(store), found))
    else:
        show_history.table(found)
    if html:
        _write_page(found, html)
        if not as_json:
            output.path(html)
    return Exit.DONE


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="pytest-benchmark, csv, parquet")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE")],
) -> int:
    """A run for other tools: pytest-benchmark's JSON, CSV or Parquet."""
    from lstm_harness.console import output
    from lstm_harness.interop.export import write
    from lstm_harness.store import run_folder

    loaded = run_folder.load(run)
    output.torn(loaded)
    for said in write(loaded, form, out):
        output.warning(said)
    output.path(out)
    return Exit.DONE


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="one is one block")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="RUN", help="the run's folder, new")
    ] = None,
) -> int:
    """What pytest-benchmark measured, as a run."""
    from lstm_harness.console import output
    from lstm_harness.interop.benchmark_import import take

    folder, said = take(files, out)
    for line in said:
        output.warning(line)
    output.path(folder)
    return Exit.DONE


def _refuse_unknown(backends: tuple[str, ...], kept: "Index") -> None:
    """A backend that no run has is a mistake."""
    from lstm_kernels.names import check_name

    known = {backend for backend, _ in kept.cells}
    try:
        for name in backends if known else ():
            check_name("backend", name, known)
    except ValueError as error:
        raise UserError(f"--backend: {error}") from None


def _refuse_nothing(store: Path, found: "History", case: str | None, backend: str | None) -> None:
    """Say what is there where nothing is left to show."""
    if found.series:
        return
    if not found.runs:
        raise UserError(f"{store} holds no run that can be read; give a folder of runs")
    asked = [f"--case {case!r}"] if case else []
    asked += [f"--backend {backend}"] if backend else []
    if not asked or not found.cases:
        raise UserError(f"no run in {store} has a time yet")
    known = "; ".join(found.cases[:3])
    raise UserError(f"no time of {' with '.join(asked)} in {store}; its cases are like: {known}")


def _write_page(found: "History", out: Path) -> None:
    try:
        from lstm_harness.site.history import write
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe", "plotly"):
            raise
        raise NoReportLibraries(
            f"no page: {error.name} is not installed here; pip install jinja2 plotly"
        ) from None
    write(found, out)
