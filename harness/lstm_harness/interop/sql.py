"""SQL over a store's tables, by DuckDB: one SELECT, which reads these tables and nothing else.

A statement that is not a SELECT is refused before it runs. DuckDB itself may open the tables' own
files alone, loads no extension, writes nothing to the disk, and takes no other setting.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lstm_harness.interop.store_columns import SAMPLES
from lstm_harness.interop.store_parquet import Tables
from lstm_harness.model.errors import UserError

# What DuckDB may hold: it writes nothing to the disk, where it would else put what is more.
MEMORY = "1500MB"
# Rows that are taken of an answer at a time.
CHUNK = 10_000
# What a statement's tree calls a WITH that changes something. A quote in a text is escaped there.
_WRITES = re.compile(r'"type":"(\w+)_QUERY_NODE"')
# A sample's column is NULL where its list is shorter; these columns are of the record.
_SAMPLE = {
    "sample": "unnest(range(len(samples_ns)))",
    "sample_ns": "unnest(samples_ns)",
    "cpu_ns": "unnest(cpu_ns)",
    "steal_ms": "unnest(steal_ms)",
    "involuntary_switches": "unnest(involuntary_switches)",
    "marked": "unnest(list_transform(range(len(samples_ns)), lambda place: place IN marked))",
}


@dataclass(frozen=True)
class Answer:
    """What a statement gives: columns with their types, and rows as they come."""

    columns: tuple[tuple[str, str], ...]
    rows: Iterator[tuple[Any, ...]]


def ask(tables: Tables, sql: str) -> Answer:
    """The answer to one SELECT.

    Raises:
        UserError: DuckDB is not installed, the statement is not one SELECT, or it fails.
    """
    connection = _opened(tables)
    with _told():
        _refuse_others(connection, sql)
        connection.execute(sql)
        columns = [(name, str(kind)) for name, kind, *_ in connection.description]
    return Answer(tuple(columns), _rows(connection))


def _rows(connection: Any) -> Iterator[tuple[Any, ...]]:
    while True:
        with _told():
            some = connection.fetchmany(CHUNK)
        if not some:
            return
        yield from some


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UserError(
            "a query needs duckdb, which is not installed here: pip install 'lstm-bench[store]'"
        ) from None
    module: ModuleType = duckdb
    return module


@contextmanager
def _told() -> Iterator[None]:
    """What DuckDB says of a statement, in one line, without its picture of the place."""
    try:
        yield
    except _duckdb().Error as error:
        said = " ".join(str(error).partition("\nLINE ")[0].split())
        raise UserError(f"{said}; lstm-bench query alone lists tables and columns") from None


def _refuse_others(connection: Any, sql: str) -> None:
    """Refuse what is not one SELECT, and one whose WITH writes."""
    kinds = [statement.type.name for statement in connection.extract_statements(sql)]
    if kinds == ["SELECT"]:
        tree = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        kinds = _WRITES.findall(str(tree)) or kinds
    if kinds != ["SELECT"]:
        found = kinds[0] if len(kinds) == 1 else f"{len(kinds)} statements"
        raise UserError(f"expected one SELECT, got {found}; a query only reads")


def _opened(tables: Tables) -> Any:
    """A database of the tables, which reads nothing else and takes no setting any more."""
    connection = _duckdb().connect(":memory:")
    hidden = f"WHERE NOT run IN ({_texts(tables.hidden)})" if tables.hidden else ""
    for name, files in (("runs", tables.runs), ("records", tables.records)):
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{_paths(files)}]) {hidden}"
        )
    columns = ", ".join(f"{_SAMPLE.get(name, name)} AS {name}" for name in SAMPLES)
    connection.execute(f"CREATE VIEW samples AS SELECT {columns} FROM records")
    settings = {
        "allowed_paths": f"[{_paths((*tables.runs, *tables.records))}]",
        "allow_community_extensions": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": f"'{MEMORY}'",
        "python_enable_replacements": "false",
        "temp_directory": "''",
        # The last two: each refuses some of those above.
        "enable_external_access": "false",
        "lock_configuration": "true",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {value}")
    return connection


def _paths(files: Sequence[Path]) -> str:
    return _texts([str(file) for file in files])


def _texts(texts: Sequence[str]) -> str:
    """Texts as SQL has them."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
