"""From a run to what `backend="auto"` reads: which backend to take for each measured problem.

What counts: cells with eager launches and a warm cache, of plain calls, that are complete (every
planned block, each checked against float64, no warning), in at least three blocks, of problems on
which PyTorch's own backend has such a cell or, if it refused, the loop of PyTorch's operations. A
call with `batch_first` or under autocast does not count: a module chooses for the problem that its
backend gets, in autocast's dtype, and that is raced as a case of its own. A run that was
imported, or has plugins or a cell that is not built in, does not count: the first is not checked,
and the others raced code that is not the package's.

`auto` chooses once for a forward and its backward, so a use is `inference`, or `training`: the time
of a forward and a backward together, block by block, or that of the pass `train` if the two were
not measured. `ranking.ranked` says which backend is fastest and which tie, once for that time and
once for each pass: a backend must tie in all of them. PyTorch's own is taken if its tie is proven:
the whole interval of its ratio lies within `EVEN`. An interval that is wider shows noise, not that
the two are even; then the fastest median of the tie is taken, as in a tie without PyTorch's own.
The next one, for when that one cannot run, is found in the same way among the rest, down to
PyTorch's own.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd

from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.summary import PROBLEM_COLUMNS, plain_rows, summary_of
from lstm_harness.model.case import PLAIN, Call, Case
from lstm_kernels import Problem
from lstm_kernels.measured import DeviceClass, Measured, MeasuredRun, Row, own_on
from lstm_kernels.preference import LOOP

# Fewer blocks have no interval, so a tie cannot be found.
LEAST_BLOCKS = 3
# The margin of a verdict, and what PyTorch's own may cost in a tie. Of the three answers to a wider
# interval, the fastest median loses the least time: tests/perf/auto_in_noise.py.
EVEN = 1.05
PASSES = {"inference": ("inference",), "training": ("forward", "backward", "train")}

Key = tuple[Problem, str]  # and a use, or a pass
Cells = Mapping[tuple[Key, str], Mapping[str, Any]]  # by backend, too: a row of the Summary


def measured_of(manifest: Mapping[str, Any], summary: pd.DataFrame) -> Measured | None:
    """What `auto` reads of a run; None if nothing of it counts.

    Args:
        manifest: the run's run.json.
        summary: the Summary of its records.
    """
    device = device_class(manifest)
    brought = manifest["spec"].get("plugins") or manifest.get("definitions")
    if device is None or manifest.get("imported") or brought:
        return None
    run = MeasuredRun(
        manifest["id"],
        manifest["start"],
        manifest["environment"]["torch"],
        manifest["kernels_digest"],
    )
    plan = manifest["plan"]
    rows = _rows(summary, min(plan.get("blocks_by_case") or [plan["blocks"]]), device.kind, run)
    return Measured(device, tuple(rows)) if rows else None


def device_class(manifest: Mapping[str, Any]) -> DeviceClass | None:
    """The class of the device that a run was measured on; None if it does not say."""
    environment, kind = manifest["environment"], manifest["plan"]["device"]
    if environment.get("torch") is None:
        return None
    if kind != "cpu":
        gpu = environment.get("gpu") or {}
        return DeviceClass(kind, gpu["name"]) if gpu.get("name") else None
    cpu = environment.get("cpu") or {}
    name, instructions, threads = (cpu.get(each) for each in ("model", "capability", "threads"))
    if name is None or instructions is None or threads is None:
        return None
    return DeviceClass(kind, name or "cpu", instructions, threads)


def _rows(summary: pd.DataFrame, blocks: int, kind: str, run: MeasuredRun) -> list[Row]:
    told = [
        row
        for row in plain_rows(summary)
        if (row["launch"], row["cache"]) == ("eager", "warm") and Call.from_dict(row) == PLAIN
    ]
    all_cells = {((_problem(row), row["pass"]), row["backend"]): row for row in told}
    parts = {at: row for at, row in all_cells.items() if _counts(row, blocks)}
    totals = _totals(parts)
    names = (*own_on(kind), LOOP)
    own = {
        key: next((name for name in names if not _refused(all_cells, key, name)), "")
        for key, _ in totals
    }
    totals = {at: row for at, row in totals.items() if (at[0], own[at[0]]) in totals}
    tied, order = _standings(totals, parts, own)
    medians: dict[Key, dict[str, float]] = {}
    for (key, backend), cell in sorted(totals.items(), key=lambda each: each[1]["median_ns"]):
        medians.setdefault(key, {})[backend] = float(cell["median_ns"])
    return [Row(*key, run, medians[key], tied[key], order[key]) for key in medians]


def _problem(row: Mapping[str, Any]) -> Problem:
    return Problem(**{name: row[name] for name in PROBLEM_COLUMNS})


def _counts(row: Mapping[str, Any], blocks: int) -> bool:
    """Whether a cell is complete, was checked, and has no warning."""
    whole = row["status"] == "ok" and row["blocks"] >= blocks >= LEAST_BLOCKS
    was_checked = row["tolerance"] == row["tolerance"]
    return whole and was_checked and not row["warnings"]


def _refused(cells: Cells, key: Key, backend: str) -> bool:
    """Whether a backend refused this problem in any pass of a use."""
    problem, use = key
    found = [cells.get(((problem, each), backend)) for each in PASSES[use]]
    return any(cell["status"] == "unsupported" for cell in found if cell)


def _totals(parts: Cells) -> Cells:
    """The cells of each use: an inference, or a forward and a backward together."""
    found: dict[tuple[Key, str], Mapping[str, Any]] = {}
    for ((problem, each), backend), cell in parts.items():
        backward = parts.get(((problem, "backward"), backend))
        if each == "inference":
            found[(problem, "inference"), backend] = cell
        elif each == "forward" and backward:
            found[(problem, "training"), backend] = _sum(cell, backward)
    trained = {problem for (problem, use), _ in found if use == "training"}
    for ((problem, each), backend), cell in parts.items():
        if each == "train" and problem not in trained:
            found[(problem, "training"), backend] = cell
    return found


def _sum(forward: Mapping[str, Any], backward: Mapping[str, Any]) -> Mapping[str, Any]:
    pairs = zip(forward["block_medians_ns"], backward["block_medians_ns"], strict=True)
    sums = tuple(one + other for one, other in pairs)
    return {**forward, "pass": "train", "block_medians_ns": sums, "median_ns": median(sums)}


def _standings(
    totals: Cells, parts: Cells, own: Mapping[Key, str]
) -> tuple[dict[Key, tuple[str, ...]], dict[Key, tuple[str, ...]]]:
    """For each problem and use: the backends that tie with the fastest, and the order to try."""
    tied: dict[Key, tuple[str, ...]] = {}
    order: dict[Key, tuple[str, ...]] = {}
    left = dict(totals)
    while left:
        in_all = _tied(left)
        in_parts = _tied({at: cell for at, cell in parts.items() if _is_left(at, left)})
        for key, names in in_all.items():
            lists = [in_parts.get((key[0], each), names) for each in PASSES[key[1]]]
            even = [name for name in names if all(name in one for one in lists)] or [*names][:1]
            tied.setdefault(key, tuple(even))
            first = own[key] if own[key] in even and names[own[key]] else even[0]
            order[key] = (*order.get(key, ()), first)
        left = {
            (key, backend): cell
            for (key, backend), cell in left.items()
            if backend not in order[key] and own[key] not in order[key]
        }
    return tied, order


def _is_left(at: tuple[Key, str], left: Cells) -> bool:
    (problem, each), backend = at
    use = "inference" if each == "inference" else "training"
    return ((problem, use), backend) in left


def _tied(cells: Cells) -> dict[Key, dict[str, bool]]:
    """By problem and use, or pass: the fastest backend, those that tie, and whether that is proven.

    The fastest is first.
    """
    keys = {Case(problem, _RANKED_AS.get(use, use)): (problem, use) for (problem, use), _ in cells}
    cases = {key: case for case, key in keys.items()}
    known = {
        (backend, cases[key]): {name: cell[name] for name in _TIMES}
        for (key, backend), cell in cells.items()
    }
    found: dict[Key, dict[str, bool]] = {}
    for row in plain_rows(ranked(summary_of(known))):
        if row["tie"] is True:
            key = keys[Case(_problem(row), row["pass"])]
            is_proven = row["ratio_low"] > 1 / EVEN and row["ratio_high"] < EVEN
            found.setdefault(key, {})[row["backend"]] = is_proven
    return found


# What a ranking needs from a cell, and the pass under which it ranks a training step.
_TIMES = ("status", "block_ids", "block_medians_ns", "median_ns")
_RANKED_AS = {"training": "train"}
