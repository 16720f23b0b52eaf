"""A run for other tools: pytest-benchmark's JSON, CSV for a spreadsheet, Parquet for a frame."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lstm_harness.interop import benchmark_json
from lstm_harness.interop.record_parquet import (
    RECORD_COLUMNS,
    encodable,
    parquet_of,
    record_row,
    table_of,
)
from lstm_harness.model.errors import UserError
from lstm_harness.model.record import Record
from lstm_harness.store.files import write_file
from lstm_harness.store.run_folder import Run
from lstm_kernels.names import check_name

# Summaries of one block have no interval over blocks, and no list of blocks.
_OF_SEVERAL_BLOCKS = (
    *("low_ns", "high_ns", "block_ids", "block_medians_ns", "block_efforts"),
    *("blocks", "failed_blocks", "errors"),
)
# What a spreadsheet may read as the beginning of a formula, including full-width forms
# (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def write(run: Run, form: str, out: Path) -> list[str]:
    """Write a run in a form, and return notes about it.

    Raises:
        UserError: an unknown form, a library that is not installed, or `out` cannot be written.
    """
    try:
        check_name("--format", form, FORMS)
    except ValueError as error:
        raise UserError(str(error)) from None
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the file's name with -o")
    write_file(out, FORMS[form](run))
    failed = sum(record.standing[0] != "ok" for record in run.records)
    if failed and form == "pytest-benchmark":
        return [
            f"{failed} of {len(run.records)} records have no time; pytest-benchmark shows neither "
            "them nor other blocks of their cells: they are stored under lstm_bench in the file"
        ]
    return []


def as_csv(run: Run) -> bytes:
    """One row for each (backend, case, block): the columns of a Summary that one block has."""
    from lstm_harness.analysis.summary import plain_rows, summarise

    text = io.StringIO()
    writer = csv.writer(text)
    header: list[str] = []
    records = [_readable(record) for record in run.records]
    for block in sorted({record.block for record in records} or {0}):
        summary = summarise(r for r in records if r.block == block)
        summary = summary.drop(columns=list(_OF_SEVERAL_BLOCKS))
        summary.insert(0, "block", block)
        if not header:
            header = [str(name) for name in summary.columns]
            writer.writerow(header)
        writer.writerows([harmless(row[name]) for name in header] for row in plain_rows(summary))
    return text.getvalue().encode()


def _readable(record: Record) -> Record:
    """A record whose texts a frame can hold."""
    texts = {name: encodable(getattr(record, name)) for name in ("backend", "reason", "warnings")}
    return replace(record, **texts)


def harmless(value: Any) -> Any:
    """A value as a spreadsheet shows it: an unknown number empty, a text never a formula."""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, tuple | list):
        value = "; ".join(str(item) for item in value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def as_parquet(run: Run) -> bytes:
    """One row for each record, samples as lists; the manifest is the file's metadata.

    Raises:
        UserError: pyarrow is not installed.
    """
    table = table_of(map(record_row, run.records), RECORD_COLUMNS)
    manifest = {"lstm_bench.manifest": json.dumps(run.manifest)}
    return parquet_of(table.replace_schema_metadata(manifest))


FORMS: dict[str, Callable[[Run], bytes]] = {
    "pytest-benchmark": benchmark_json.as_bytes,
    "csv": as_csv,
    "parquet": as_parquet,
}
