"""The columns of a table of records: a record's fields, those of its case instead of the case."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lstm_harness.model.case import CALL_FIELDS, Call, Case
from lstm_harness.model.record import Record
from lstm_kernels import Problem

PROBLEM_COLUMNS = tuple(Problem.__dataclass_fields__)
CASE_COLUMNS = (*PROBLEM_COLUMNS, "pass", "launch", "cache", "device", *CALL_FIELDS)
_STORED = tuple(field.name for field in fields(Record))
_PLACE = _STORED.index("case")
# results/README.md explains each.
COLUMNS = (*_STORED[:_PLACE], *CASE_COLUMNS, *_STORED[_PLACE + 1 :])


def row_of(record: Record) -> dict[str, Any]:
    """A record by column name."""
    stored = {name: getattr(record, name) for name in _STORED if name != "case"}
    return {**stored, **dict(zip(CASE_COLUMNS, values_of(record.case), strict=True))}


def values_of(case: Case) -> tuple[Any, ...]:
    """A case's fields in the order of `CASE_COLUMNS`."""
    problem = (getattr(case.problem, name) for name in PROBLEM_COLUMNS)
    call = (getattr(case.call, name) for name in CALL_FIELDS)
    return (*problem, case.pass_name, case.launch, case.cache, case.device, *call)


def case_of(row: Mapping[str, Any]) -> Case:
    """The case of a row that has `CASE_COLUMNS`."""
    problem = Problem(**{name: row[name] for name in PROBLEM_COLUMNS})
    where = row["pass"], row["launch"], row["cache"], row["device"]
    return Case(problem, *where, call=Call.from_dict(row))
