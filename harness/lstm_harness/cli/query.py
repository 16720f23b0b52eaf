"""The command line of SQL over all runs of a store.

Imports stay light, as in `app`.
"""

from contextlib import ExitStack
from typing import Annotated

import typer

from lstm_harness.cli.flags import Json, Quiet
from lstm_harness.cli.places import Place, place
from lstm_harness.model.errors import Exit, UserError

app = typer.Typer()

RESULTS = Place("results")


@app.command()
def query(
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="one SELECT; without it: the columns")
    ] = None,
    store: Annotated[
        Place,
        typer.Option("--store", metavar="DIR", parser=place, help="a folder of runs, or its URL"),
    ] = RESULTS,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV on stdout, every row")] = False,
    quiet: Quiet = False,
) -> int:
    """Ask all runs of a store by SQL: tables runs, records and samples, read by DuckDB."""
    from lstm_harness.console import query as shown

    if as_json and as_csv:
        raise UserError("--json and --csv are two forms of one answer; give one")
    if sql is None and as_csv:
        raise UserError("--csv prints an answer; give a SELECT, or leave it out")
    if sql is None:
        shown.tables(as_json)
        return Exit.DONE
    from lstm_harness.console.progress import Counting
    from lstm_harness.interop.sql import ask
    from lstm_harness.interop.store_parquet import tables

    with ExitStack() as stack:
        with Counting(quiet) as tell:
            found = stack.enter_context(tables(store.here(tell), tell))
        shown.left_out(found)
        answer = ask(found, sql)
        show = shown.as_json if as_json else shown.as_csv if as_csv else shown.table
        show(answer)
    return Exit.DONE
