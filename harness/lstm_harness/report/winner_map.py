"""A Summary to the switches of the page and the map of the fastest backends.

A *slice* holds the cells that share everything but T and B: what the page's switches choose.
`backends` is the page's list of names; figures name one by its index there.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lstm_harness.analysis.ranking import fastest_by_case, ranked
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import LABELS, Row, Rows, grouped, sizes_of
from lstm_harness.report.points import few
from lstm_kernels import DTYPE_BYTES, PASSES

_SWITCHED = ("run", "device", "pass", "cell", "dtype", "precision", "hidden_size", "input_size")
_PLOTTED = ("seq_len", "batch")
# A margin of four or more fills the square; a margin of 1 leaves it pale.
_FULL_MARGIN = 4.0


@dataclass(frozen=True)
class Axis:
    """One switch: a column of the Summary that varies, and its values in order."""

    name: str
    label: str
    values: tuple[Any, ...]


def axes(summary: pd.DataFrame) -> list[Axis]:
    """The switches a Summary needs: every varying column but T and B."""
    first = [name for name in _SWITCHED if name in summary]
    names = first + [n for n in CASE_COLUMNS if n not in (*_SWITCHED, *_PLOTTED)]
    if (summary["input_size"] == summary["hidden_size"]).all():
        names.remove("input_size")
    values = {name: _in_order(name, summary[name]) for name in names}
    return [Axis(name, LABELS[name], v) for name, v in values.items() if len(v) > 1]


def slices(summary: pd.DataFrame, backends: Sequence[str]) -> list[dict[str, Any]]:
    """Every slice: `key` (an index into each axis) and `map`."""
    switches = axes(summary)
    names = [axis.name for axis in switches]
    # Thousands of small slices: plain rows are cut up many times faster than frames.
    ranks = grouped(plain_rows(_each_run(ranked, summary)), names)
    won = grouped(plain_rows(_each_run(fastest_by_case, summary)), names)
    made = []
    for values, part in grouped(plain_rows(summary), names).items():
        key = [axis.values.index(value) for axis, value in zip(switches, values, strict=True)]
        made.append(
            {"key": key, "map": winner_map(part, ranks.get(values, []), won[values], backends)}
        )
    return sorted(made, key=lambda one: one["key"])


def winner_map(part: Rows, ranks: Rows, won: Rows, backends: Sequence[str]) -> dict[str, Any]:
    """The fastest correct backend of each T and B of one slice.

    Args:
        part, ranks, won: the slice's rows of a Summary, ranked, and the fastest of each case.
    Returns:
        `t` and `b` (the sizes), `cells` [len(t)][len(b)] (None where nothing was asked),
        `answer`, a sentence, and `points`, how few there are.
    """
    index = {name: i for i, name in enumerate(backends)}
    steps, batches = sizes_of(part, "seq_len"), sizes_of(part, "batch")
    ranked = grouped(ranks, _PLOTTED)
    failed = grouped([row for row in part if row["status"] != "ok"], _PLOTTED)
    cells: list[list[dict[str, Any] | None]] = [[None] * len(batches) for _ in steps]
    for row in won:
        where = row["seq_len"], row["batch"]
        cells[steps.index(where[0])][batches.index(where[1])] = {
            **_square(row, ranked.get(where, []), index),
            "ranks": _ranks(ranked.get(where, []), index),
            "failed": _failures(failed.get(where, []), index),
        }
    answer, points = map_answer(won), few([row for row in part if row["status"] == "ok"])
    return {"t": steps, "b": batches, "cells": cells, "answer": answer, "points": points}


def map_answer(won: Rows) -> str:
    """One sentence about who wins, from rows of `ranking.fastest_by_case`."""
    solved = [row for row in won if row["contenders"] > 0]
    if not solved:
        return "No backend gave a correct result here; the reasons are listed below."
    raced = [row for row in solved if row["contenders"] > 1]
    if not raced:
        names = ", ".join(text.shorten(n) for n in sorted({row["backend"] for row in solved})[:3])
        return f"Only one backend is correct in each case ({names}): there is nothing to compare."
    states = [_state(row) for row in raced]
    ties, unknown = states.count("tie"), states.count("unknown")
    wins = [row for row, state in zip(raced, states, strict=True) if state != "tie"]
    parts = [_winner_clause(wins, len(raced))] if wins else []
    if ties == len(raced):
        parts.append("The two fastest backends tie in every case")
    elif ties:
        parts.append(f"in {text.count(ties, 'case')} the two fastest tie")
    if unknown:
        parts.append("fewer than 3 blocks cannot tell a lead from noise")
    return "; ".join(parts) + "."


def _winner_clause(wins: Rows, raced: int) -> str:
    name, count = Counter(row["backend"] for row in wins).most_common(1)[0]
    mean = geometric_mean(row["margin"] for row in wins if row["backend"] == name)
    of_many = f" (geometric mean of {count})" if count > 1 else ""
    return (
        f"{text.shorten(name)} is fastest in {count} of {text.count(raced, 'case')}; "
        f"the runner-up takes {text.ratio(mean)} its time{of_many}"
    )


def _each_run(
    function: Callable[[pd.DataFrame], pd.DataFrame], summary: pd.DataFrame
) -> pd.DataFrame:
    """Apply a function to each run's part, so that no run is ranked against another."""
    if "run" not in summary:
        return function(summary)
    parts = summary.groupby("run", sort=False)
    return pd.concat([function(part).assign(run=run) for run, part in parts], ignore_index=True)


def _square(row: Row, ranks: Rows, index: dict[str, int]) -> dict[str, Any]:
    """What a square shows: of a tie its names, of a lead the runner-up's ratio too."""
    if row["backend"] is None:
        return {"state": "none", "backend": None, "says": "no correct backend"}
    state = _state(row)
    square = {"state": state, "backend": index[row["backend"]]}
    time = text.duration(row["median_ns"])
    if state == "alone":
        return {**square, "says": f"{text.shorten(row['backend'])} is the only one, {time}"}
    if state == "tie":
        tied = [row["backend"], *(one["backend"] for one in ranks if _ties(one))]
        says = f"tie: {_listed(tied)} cannot be told apart, {time}"
        return {**square, "tied": [index[name] for name in tied], "says": says}
    margin = text.ratio(row["margin"])
    strength = min(1.0, math.log(max(1.0, row["margin"])) / math.log(_FULL_MARGIN))
    says = (
        f"{text.shorten(row['backend'])} is fastest, {time}; "
        f"{text.shorten(row['runner_up'])} takes {margin} its time ({_margin_interval(row)})"
    )
    return {**square, "margin": margin, "strength": round(strength, 3), "says": says}


def _ties(row: Row) -> bool:
    """Whether a ranked row ties with the fastest of its case."""
    return bool(row["rank"] > 1 and not pd.isna(row["tie"]) and row["tie"])


def _listed(names: Sequence[str]) -> str:
    *first, last = map(text.shorten, names)
    return f"{', '.join(first)} and {last}"


def _state(row: Row) -> str:
    if row["runner_up"] is None:
        return "alone"
    if pd.isna(row["tie"]):
        return "unknown"
    return "tie" if row["tie"] else "win"


def _margin_interval(row: Row) -> str:
    if pd.isna(row["margin_low"]):
        return "interval unknown below 3 blocks"
    return f"95%: {text.ratio(row['margin_low'])} to {text.ratio(row['margin_high'])}"


def _interval(row: Row) -> str:
    if pd.isna(row["low_ns"]):
        return "interval unknown"
    return f"{text.duration(row['low_ns'])} to {text.duration(row['high_ns'])}"


def _ranks(rows: Rows, index: dict[str, int]) -> list[dict[str, Any]]:
    slowest = max((row["median_ns"] for row in rows), default=1.0)
    return [
        {
            "backend": index[row["backend"]],
            "time": text.duration(row["median_ns"]),
            "interval": _interval(row),
            "ratio": text.ratio(row["ratio"]) if row["rank"] > 1 and not _ties(row) else "",
            "tie": _ties(row),
            "share": round(row["median_ns"] / slowest, 3),
        }
        for row in rows
    ]


def _failures(rows: Rows, index: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "backend": index[row["backend"]],
            "status": row["status"].replace("_", " "),
            "reason": text.shorten(row["reason"], 160),
        }
        for row in rows
    ]


def _in_order(name: str, column: Iterable[Any]) -> tuple[Any, ...]:
    """A column's values as a reader expects them: runs as given, the LSTM first."""
    if name == "run":
        return tuple(dict.fromkeys(column))
    known = {"pass": PASSES, "dtype": tuple(DTYPE_BYTES), "cell": ("lstm",)}.get(name, ())
    values = _values(column)
    return tuple(sorted(values, key=lambda v: known.index(v) if v in known else len(known)))


def _values(column: Iterable[Any]) -> tuple[Any, ...]:
    """Distinct values in order, as Python's own types."""
    values = {v.item() if hasattr(v, "item") else v for v in column}
    return tuple(sorted(values))
