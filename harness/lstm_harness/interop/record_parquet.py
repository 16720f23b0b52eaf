"""Records as rows of Parquet: the columns and their types, for `export` and for `query`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from types import ModuleType, NoneType, UnionType
from typing import Any, get_args

from lstm_harness.analysis.record_columns import COLUMNS, row_of
from lstm_harness.model.case import Call
from lstm_harness.model.errors import UserError
from lstm_harness.model.record import Record
from lstm_kernels.problem import Problem

# How a column holds a field of that type; other types are JSON.
_KIND_OF: dict[Any, str] = {
    int: "whole",
    float: "number",
    bool: "flag",
    str: "text",
    tuple[int, ...]: "wholes",
    tuple[float, ...]: "numbers",
    tuple[str, ...]: "texts",
    Mapping[str, float | None]: "figures",
    Mapping[str, Any]: "text",
}


def arrow() -> ModuleType:
    """The module `pyarrow`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError(
            "Parquet needs pyarrow, which is not installed here: pip install 'lstm-bench[store]'"
        ) from None
    module: ModuleType = pyarrow
    return module


def _kind(field: Field[Any]) -> str:
    """The kind of column that holds a field, whether or not it may be unknown."""
    if isinstance(field.type, UnionType):
        (known,) = (each for each in get_args(field.type) if each is not NoneType)
        return _KIND_OF[known]
    return _KIND_OF[field.type]


def _columns() -> dict[str, str]:
    """A column for each field of a record, with the fields of its case instead of the case."""
    every = (*fields(Problem), *fields(Call), *_own_fields())
    kinds = {field.name: _kind(field) for field in every}
    return {name: kinds.get(name, "text") for name in COLUMNS}


def _own_fields() -> Iterable[Field[Any]]:
    return (field for field in fields(Record) if field.name != "case")


RECORD_COLUMNS = _columns()
_ENCODED = {name: kind for name, kind in RECORD_COLUMNS.items() if kind in ("text", "texts")}


def record_row(record: Record) -> dict[str, Any]:
    """A record by column name, its values as Parquet holds them."""
    row = row_of(record)
    row["extra"] = json.dumps(dict(record.extra))
    row["errors"] = encodable(list(record.errors.items()))
    return row | {name: encodable(row[name]) for name in _ENCODED}


def encodable(value: Any) -> Any:
    """Text without lone surrogates, which UTF-8 cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return type(value)(map(encodable, value))
    return value


def table_of(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> Any:
    """Rows as an Arrow table.

    Args:
        columns: each column's kind, in order.
    """
    pa = arrow()
    text, whole, number = pa.string(), pa.int64(), pa.float64()
    kinds = {"text": text, "whole": whole, "number": number, "flag": pa.bool_()}
    kinds |= {f"{name}s": pa.list_(kind) for name, kind in kinds.items()}
    kinds |= {"figures": pa.map_(text, number), "moment": pa.timestamp("us")}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    return pa.Table.from_pylist(list(rows), schema=schema)


def parquet_of(table: Any) -> bytes:
    """An Arrow table as a Parquet file."""
    pa = arrow()
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
