"""Records as a pandas frame, one row each, with everything that was stored."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import pandas as pd

from lstm_harness.analysis.summary import CASE_COLUMNS, PROBLEM_COLUMNS
from lstm_harness.model.record import Record

_STORED = tuple(field.name for field in fields(Record))
_PLACE = _STORED.index("case")
# A record's fields, with those of its case instead of the case; results/README.md explains each.
COLUMNS = (*_STORED[:_PLACE], *CASE_COLUMNS, *_STORED[_PLACE + 1 :])


def record_table(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record, in the order given, with the columns `COLUMNS`; lists are tuples."""
    return pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))


def _row(record: Record) -> dict[str, Any]:
    case = record.case
    where = {"pass": case.pass_name, "launch": case.launch, "cache": case.cache}
    problem = {name: getattr(case.problem, name) for name in PROBLEM_COLUMNS}
    stored = {name: getattr(record, name) for name in _STORED if name != "case"}
    return {**stored, **problem, **where, "device": case.device}
