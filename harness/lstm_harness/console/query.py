"""What `query` prints: an answer as a table, as CSV or as JSON; and the tables that there are."""

import csv
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.interop.export import harmless
from lstm_harness.interop.sql import Answer
from lstm_harness.interop.store_columns import TABLES, meaning
from lstm_harness.interop.store_parquet import Tables
from lstm_harness.model.errors import UserError
from lstm_harness.model.text import printable

# A table of more rows is for no reader: --csv and --json have them all.
MOST_ROWS = 100
# DuckDB's names of the columns' types.
_SCALARS = {"text": "VARCHAR", "whole": "BIGINT", "number": "DOUBLE", "flag": "BOOLEAN"}
TYPES = _SCALARS | {f"{kind}s": f"{name}[]" for kind, name in _SCALARS.items()}
TYPES |= {"figures": "MAP(VARCHAR, DOUBLE)", "moment": "TIMESTAMP"}


def left_out(tables: Tables) -> None:
    """The runs that are not of the tables, one line each on stderr."""
    for path, reason in tables.left_out:
        output.warning(f"left out: {path}: {reason}")


def table(answer: Answer) -> None:
    """The first rows on stdout; that there are more is said on stderr."""
    shown = output.empty_table(*(_on_a_line(name) for name, _ in answer.columns))
    for row in itertools.islice(answer.rows, MOST_ROWS):
        shown.add_row(*(Text(_on_a_line(_text(value))) for value in row))
    output.print_table(shown)
    if next(answer.rows, None) is not None:
        output.warning(
            f"there are more than these {MOST_ROWS} rows; --csv and --json print all of them"
        )


def as_csv(answer: Answer) -> None:
    """Every row on stdout; NULL is empty, and no text is a spreadsheet's formula."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([harmless(_on_a_line(name)) for name, _ in answer.columns])
    for row in answer.rows:
        writer.writerow([_cell(value) for value in row])


def as_json(answer: Answer) -> None:
    """One JSON document on stdout, written row by row; its schema is query.schema.json."""
    twice = [name for name, count in Counter(n for n, _ in answer.columns).items() if count > 1]
    if twice:
        raise UserError(f"two columns are called {twice[0]!r}; give one another name with AS")
    columns = [{"name": name, "type": kind} for name, kind in answer.columns]
    for piece in _document(columns, answer):
        sys.stdout.write(piece)


def tables(as_json: bool) -> None:
    """The columns of every table, on stdout: their types and what they mean."""
    rows = [
        {"table": table, "column": name, "type": TYPES[kind], "meaning": meaning(table, name)}
        for table, columns in TABLES.items()
        for name, kind in columns.items()
    ]
    if as_json:
        output.as_json(rows)
        return
    shown = output.empty_table("table", "column", "type", "meaning")
    for row in rows:
        shown.add_row(*row.values())
    output.print_table(shown)


def _document(columns: list[dict[str, str]], answer: Answer) -> Iterator[str]:
    yield f'{{"schema": 1, "columns": {json.dumps(columns)}, "rows": ['
    names = [column["name"] for column in columns]
    between = "\n"
    for row in answer.rows:
        yield between + json.dumps(dict(zip(names, map(_plain, row), strict=True)))
        between = ",\n"
    yield "\n]}\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it; a number that is not finite is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)


def _cell(value: Any) -> Any:
    """A value as CSV has it: a number stays one."""
    plain = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    return harmless(printable(_text(value)) if plain is None else plain)


def _text(value: Any) -> str:
    """A value in a table; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, list | tuple | dict | bool):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)


def _on_a_line(text: str) -> str:
    return printable(text).replace("\n", " ").replace("\t", " ")
