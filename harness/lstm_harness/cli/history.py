"""The command line of runs over time.

Imports stay light, as in `app`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.options import names_in
from lstm_harness.cli.places import Place, place
from lstm_harness.console.guards import libraries
from lstm_harness.model.errors import Exit, UserError

if TYPE_CHECKING:
    from lstm_harness.history.index import Index
    from lstm_harness.history.series import History

app = typer.Typer()


@app.command()
def history(
    store: Annotated[
        Place,
        typer.Argument(
            metavar="STORE", parser=place, help="a folder of runs, at any depth, or its URL"
        ),
    ],
    case: Annotated[
        str | None,
        typer.Option("--case", metavar="TEXT", help="words of a case's name: 'T128 B1 forward'"),
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="LIST", help="names; default: all")
    ] = None,
    as_json: Json = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="a page with a chart of each series"),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Show the time of each case from run to run, and where it changed."""
    from lstm_harness.console import history as shown
    from lstm_harness.console import output
    from lstm_harness.console.progress import Counting
    from lstm_harness.history import index
    from lstm_harness.history.series import gather, matcher

    chosen = matcher(case, names_in(backend) if backend is not None else ())
    with Counting(quiet) as tell:
        kept = index.refresh(store.here(tell), tell)
    _refuse_unknown(names_in(backend) if backend is not None else (), kept)
    gathered = gather(kept, chosen)
    shown.left_out(gathered)
    _refuse_nothing(store, gathered, case, backend)
    if as_json:
        output.as_json(shown.document(str(store), gathered))
    else:
        shown.table(gathered)
    if html:
        with libraries("no page"):
            from lstm_harness.site.history import write
        write(gathered, html)
        if not as_json:
            output.path(html)
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


def _refuse_nothing(
    store: Place, gathered: "History", case: str | None, backend: str | None
) -> None:
    """Say what is there where nothing is left to show."""
    if gathered.series:
        return
    if not gathered.runs:
        raise UserError(f"{store} holds no run that can be read; give a folder of runs")
    asked = [f"--case {case!r}"] if case else []
    asked += [f"--backend {backend}"] if backend else []
    if not asked or not gathered.cases:
        raise UserError(f"no run in {store} has a time yet; expected one that was measured")
    known = "; ".join(gathered.cases[:3])
    raise UserError(f"no time of {' with '.join(asked)} in {store}; its cases are like: {known}")
