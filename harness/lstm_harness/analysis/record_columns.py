"""The columns of a table of records: a record's fields, those of its case instead of the case."""

from dataclasses import fields
from typing import Any

from lstm_harness.model.record import Record
from lstm_kernels import Problem

PROBLEM_COLUMNS = tuple(Problem.__dataclass_fields__)
CASE_COLUMNS = (*PROBLEM_COLUMNS, "pass", "launch", "cache", "device")
_STORED = tuple(field.name for field in fields(Record))
_PLACE = _STORED.index("case")
# results/README.md explains each.
COLUMNS = (*_STORED[:_PLACE], *CASE_COLUMNS, *_STORED[_PLACE + 1 :])


def row_of(record: Record) -> dict[str, Any]:
    """A record by column name."""
    case = record.case
    where = {"pass": case.pass_name, "launch": case.launch, "cache": case.cache}
    problem = {name: getattr(case.problem, name) for name in PROBLEM_COLUMNS}
    stored = {name: getattr(record, name) for name in _STORED if name != "case"}
    return {**stored, **problem, **where, "device": case.device}
