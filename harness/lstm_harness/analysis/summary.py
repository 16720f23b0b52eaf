"""From records to a Summary: medians, intervals, throughput, ranks. It has no raw samples.

The Summary is a pandas frame, one row per (backend, case), in the order first met:

    backend, label, the case's fields (`CASE_COLUMNS`)
    status, reason, failed_blocks
    blocks, samples, marked_share        marked_share: samples taken in a disturbed spell, 0 to 1
    median_ns, low_ns, high_ns           one execution; NaN where unknown
    block_ids, block_medians_ns          tuples, in step
    block_efforts                        in step: a second estimator, CPU ns or SM cycles, or NaN
    block_turns_ns                       in step: the samples of each turn it took with another side
    block_machines                       in step: which machine measured it; empty where not known
    sequences_per_s, steps_per_s, step_us, tflops, gbytes_per_s
    errors, worst_error, tolerance       worst over blocks; a value that is not finite is inf
    oracle_rows                          fewest batch rows compared, NaN for all of them
    floor_ns, floor_term, floor_share    the least time the ceilings allow, what sets it (None
                                         where unknown), and the floor over the median, 0 to 1
    peak_bytes, saved_bytes              the most over blocks; with _low, the least
    setup_ms, compile_ms, energy_mj, sm_clock_mhz, warnings

Status: a cell is `ok` only if every block is. Otherwise it takes its worst block's status, in the
order of `SEVERITY`, and that block's reason; it has no timing and no rank. A record that says `ok`
above its own tolerance counts as `incorrect`.

Interval: docs/method.md, A summary. It is that of the geometric mean of the block medians, so with
one scattered block among many the median may lie outside. If several machines measured, it is
without what they differ by (`analysis.machines`).
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from lstm_harness.analysis.machines import intervals, of_blocks
from lstm_harness.analysis.record_columns import CASE_COLUMNS as CASE_COLUMNS
from lstm_harness.analysis.record_columns import PROBLEM_COLUMNS as PROBLEM_COLUMNS
from lstm_harness.analysis.record_columns import values_of
from lstm_harness.analysis.statistics import Floats
from lstm_harness.model.case import Case
from lstm_harness.model.record import SEVERITY as SEVERITY
from lstm_harness.model.record import Record

# Texts stay Python's own. If pyarrow is installed, pandas would keep them in Arrow, which has no
# room for a lone surrogate in a backend's name.
pd.options.mode.string_storage = "python"


@dataclass
class _Tally:
    """The state of one (backend, case) while its records are read."""

    order: list[int] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    efforts: list[float] = field(default_factory=list)
    turns: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    machines: list[str] = field(default_factory=list)
    status: str = "ok"
    reason: str = ""
    blocks: int = 0
    failed_blocks: int = 0
    samples: int = 0
    marked: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    tolerance: float = math.nan
    oracle_rows: float = math.nan
    peak_bytes: float = math.nan
    saved_bytes: float = math.nan
    peak_bytes_low: float = math.nan
    saved_bytes_low: float = math.nan
    floor_ns: float = math.nan
    floor_term: str | None = None
    setup_ms: list[float] = field(default_factory=list)
    compile_ms: list[float] = field(default_factory=list)
    energy_mj: list[float] = field(default_factory=list)
    sm_clock_mhz: list[float] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Add one block's record."""
        status, reason = judged(record)
        self.blocks += 1
        if status != "ok":
            self.failed_blocks += 1
            if SEVERITY.index(status) > SEVERITY.index(self.status):
                self.status, self.reason = status, reason
        else:
            self.order.append(record.block)
            self.medians.append(float(median(record.samples_ns)))
            self.efforts.append(_effort(record))
            self.turns.append(_turns_of(record))
            self.machines.append(record.machine)
        self.samples += len(record.samples_ns)
        self.marked += len(record.marked)
        self._add_evidence(record)

    def _add_evidence(self, record: Record) -> None:
        for tensor, error in record.errors.items():
            self.errors[tensor] = max(self.errors.get(tensor, 0.0), _or_inf(error))
        self.tolerance = _larger(self.tolerance, record.tolerance)
        self.oracle_rows = _smaller(self.oracle_rows, record.oracle_rows)
        self.peak_bytes = _larger(self.peak_bytes, record.peak_bytes)
        self.saved_bytes = _larger(self.saved_bytes, record.saved_bytes)
        self.peak_bytes_low = _smaller(self.peak_bytes_low, record.peak_bytes)
        self.saved_bytes_low = _smaller(self.saved_bytes_low, record.saved_bytes)
        if record.floor_ns is not None:
            self.floor_ns, self.floor_term = record.floor_ns, record.floor_term
        self.setup_ms.append(record.setup_ms)
        self.compile_ms.append(record.compile_ms)
        if record.energy_mj is not None:
            self.energy_mj.append(record.energy_mj)
        if record.sm_clock_mhz is not None:
            self.sm_clock_mhz.append(record.sm_clock_mhz)
        if record.warnings:
            self.warnings.update(dict.fromkeys(record.warnings))

    def row(self) -> dict[str, Any]:
        """The columns of the Summary that are the cell's own, except timings."""
        ranked = self.status == "ok"
        by_block = zip(
            *(self.order, self.medians, self.efforts, self.turns, self.machines), strict=True
        )
        pairs = sorted(by_block) if ranked else []
        return {
            "status": self.status,
            "reason": self.reason,
            "failed_blocks": self.failed_blocks,
            "blocks": self.blocks,
            "samples": self.samples,
            "marked_share": self.marked / self.samples if self.samples else math.nan,
            "block_ids": tuple(block for block, *_ in pairs),
            "block_medians_ns": tuple(value for _, value, *_ in pairs),
            "block_efforts": tuple(effort for _, _, effort, *_ in pairs),
            "block_turns_ns": tuple(turns for *_, turns, _ in pairs),
            "block_machines": tuple(name for *_, name in pairs) if any(self.machines) else (),
            "median_ns": median(value for _, value, *_ in pairs) if pairs else math.nan,
            "errors": self.errors,
            "worst_error": max(self.errors.values(), default=math.nan),
            "tolerance": self.tolerance,
            "oracle_rows": self.oracle_rows,
            "peak_bytes": self.peak_bytes,
            "saved_bytes": self.saved_bytes,
            "peak_bytes_low": self.peak_bytes_low,
            "saved_bytes_low": self.saved_bytes_low,
            "floor_ns": self.floor_ns,
            "floor_term": self.floor_term,
            "setup_ms": _median_or_nan(self.setup_ms),
            # Later blocks find what the first one compiled.
            "compile_ms": max(self.compile_ms, default=math.nan),
            "energy_mj": _median_or_nan(self.energy_mj),
            "sm_clock_mhz": _median_or_nan(self.sm_clock_mhz),
            "warnings": tuple(self.warnings),
        }


def summarise(records: Iterable[Record]) -> pd.DataFrame:
    """The Summary of records, which may be a stream: none is kept."""
    cells: dict[tuple[str, Case], _Tally] = {}
    for record in records:
        key = record.backend, record.case
        if key not in cells:
            cells[key] = _Tally()
        cells[key].add(record)
    return summary_of({key: cell.row() for key, cell in cells.items()})


def summary_of(cells: Mapping[tuple[str, Case], Mapping[str, Any]]) -> pd.DataFrame:
    """The Summary of cells with some known columns, as a baseline stores them.

    Args:
        cells: by backend and case, any columns that do not follow from case or time.
    """
    unknown = _Tally().row()
    rows = [
        {"backend": backend, "case": case, **unknown, **known}
        for (backend, case), known in cells.items()
    ]
    return _with_derived(pd.DataFrame(rows, columns=["backend", "case", *unknown]))


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as dicts by column name."""
    columns = [str(name) for name in table.columns]
    values = [table[name].tolist() for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _with_derived(table: pd.DataFrame) -> pd.DataFrame:
    """Add the case's fields, the intervals and the columns that follow from time and problem."""
    cases = {case: _facts(case) for case in table["case"]}
    facts = pd.DataFrame([cases[case] for case in table["case"]], columns=_FACTS)
    table = pd.concat([table.drop(columns="case"), facts], axis=1)
    counts = np.array([len(blocks) for blocks in table["block_ids"]], dtype=np.int64)
    groups = np.repeat(np.arange(len(table)), counts)
    logs = logarithms(table["block_medians_ns"].explode().dropna())
    machines = [name for row in plain_rows(table[list(_MACHINES)]) for name in of_blocks(row)]
    _, table["low_ns"], table["high_ns"] = intervals(groups, logs, machines, len(table))
    ns = table["median_ns"].astype(np.float64)
    table["sequences_per_s"] = table["batch"] / ns * 1e9
    table["steps_per_s"] = table["valid_steps"] / ns * 1e9
    table["step_us"] = ns / table["seq_len"] / 1e3
    table["tflops"] = table["flops"] / ns / 1e3
    table["gbytes_per_s"] = table["bytes"] / ns
    table["floor_share"] = table["floor_ns"] / ns
    return table[list(_ORDER)]


def _facts(case: Case) -> tuple[Any, ...]:
    problem = case.computed
    flops, moved = float(problem.flops(case.pass_name)), float(problem.bytes(case.pass_name))
    return (*values_of(case), case.label(), problem.valid_steps, flops, moved)


_MACHINES = ("block_ids", "block_machines")
_FACTS = [*CASE_COLUMNS, "label", "valid_steps", "flops", "bytes"]
_ORDER = (
    *("backend", "label", *CASE_COLUMNS, "status", "reason", "failed_blocks"),
    *("blocks", "samples", "marked_share", "median_ns", "low_ns", "high_ns"),
    *("block_ids", "block_medians_ns", "block_efforts", "block_turns_ns", "block_machines"),
    *("sequences_per_s", "steps_per_s", "step_us", "tflops", "gbytes_per_s"),
    *("floor_ns", "floor_term", "floor_share"),
    *("errors", "worst_error", "tolerance", "oracle_rows", "peak_bytes", "saved_bytes"),
    *("peak_bytes_low", "saved_bytes_low"),
    *("setup_ms", "compile_ms", "energy_mj", "sm_clock_mhz", "warnings"),
)


def _effort(record: Record) -> float:
    """What one execution of a block cost in the second estimator; NaN if unknown.

    The CPU's is CPU time, which a neighbour does not lengthen; a GPU's is cycles, which a lower
    clock does not.
    """
    if record.cpu_ns:
        return float(median(record.cpu_ns)) / record.inner_repeats
    if record.sm_clock_mhz:
        return float(median(record.samples_ns)) * record.sm_clock_mhz / 1e3
    return math.nan


def _turns_of(record: Record) -> tuple[tuple[int, ...], ...]:
    """The samples of each turn that a cell took with another; none if it was alone."""
    ends = itertools.accumulate(record.turns)
    pairs = zip(ends, record.turns, strict=True)
    return tuple(record.samples_ns[end - count : end] for end, count in pairs)


def judged(record: Record) -> tuple[str, str]:
    """A record's status and reason, by its own evidence first."""
    if record.status == "ok" and record.tolerance is not None:
        for tensor, error in record.errors.items():
            if not _or_inf(error) <= record.tolerance:
                shown = f"{_or_inf(error):.2g}" if math.isfinite(_or_inf(error)) else "not finite"
                return "incorrect", f"error of {tensor} is {shown}; bound {record.tolerance:g}"
    return record.standing


def _or_inf(error: float | None) -> float:
    return error if error is not None and math.isfinite(error) else math.inf


def _larger(held: float, new: float | None) -> float:
    if new is None:
        return held
    return new if math.isnan(held) else max(held, new)


def _smaller(held: float, new: float | None) -> float:
    if new is None:
        return held
    return new if math.isnan(held) else min(held, new)


def _median_or_nan(values: list[float]) -> float:
    return median(values) if values else math.nan


def logarithms(values: "pd.Series[Any]") -> Floats:
    """The natural logarithm of each value."""
    logs: Floats = np.log(values.to_numpy(dtype=np.float64))
    return logs
