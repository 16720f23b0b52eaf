"""A Summary to what is drawn. Nothing here knows HTML; every text is plain and short.

A *slice* holds the cells that share everything but T and B: what the page's switches choose.
`backends` is the page's list of names; figures name one by its index there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lstm_harness import analyse
from lstm_harness.report import text
from lstm_harness.report.marks import mark

LABELS = {
    "run": "Run",
    "cell": "Cell",
    "seq_len": "T",
    "batch": "B",
    "input_size": "Input I",
    "hidden_size": "Hidden H",
    "num_layers": "Layers",
    "bidirectional": "Bidirectional",
    "bias": "Bias",
    "proj_size": "Projection",
    "dtype": "Dtype",
    "precision": "Precision",
    "lengths": "Lengths",
    "pass": "Pass",
    "launch": "Launch",
    "cache": "Cache",
    "device": "Device",
}
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
    names = first + [n for n in analyse.CASE_COLUMNS if n not in (*_SWITCHED, *_PLOTTED)]
    if (summary["input_size"] == summary["hidden_size"]).all():
        names.remove("input_size")
    values = {name: _values(summary[name]) for name in names}
    return [Axis(name, LABELS[name], v) for name, v in values.items() if len(v) > 1]


def slices(summary: pd.DataFrame, backends: Sequence[str]) -> list[dict[str, Any]]:
    """Every slice: `key` (an index into each axis), `map`, and `over_t`, `over_b` curves."""
    switches = axes(summary)
    if summary.empty:
        return []
    names = [axis.name for axis in switches]
    groups = summary.groupby(names, sort=False) if names else [((), summary)]
    made = []
    for values, part in groups:
        key = [axis.values.index(value) for axis, value in zip(switches, values, strict=True)]
        made.append({"key": key, **_slice(part, backends)})
    return sorted(made, key=lambda one: one["key"])


def _slice(part: pd.DataFrame, backends: Sequence[str]) -> dict[str, Any]:
    return {
        "map": winner_map(part, backends),
        "over_t": curves(part, backends, along="seq_len"),
        "over_b": curves(part, backends, along="batch"),
    }


def winner_map(part: pd.DataFrame, backends: Sequence[str]) -> dict[str, Any]:
    """The fastest correct backend of each T and B of one slice.

    Returns:
        `t` and `b` (the sizes), `cells` [len(t)][len(b)] (None where nothing was asked) and
        `answer`, a sentence.
    """
    index = {name: i for i, name in enumerate(backends)}
    steps, batches = _values(part["seq_len"]), _values(part["batch"])
    ranks = {key: rows for key, rows in analyse.ranking(part).groupby(list(_PLOTTED))}
    failed = {key: rows for key, rows in part[part["status"] != "ok"].groupby(list(_PLOTTED))}
    won = analyse.fastest(part)
    cells: list[list[dict[str, Any] | None]] = [[None] * len(batches) for _ in steps]
    for row in won.to_dict("records"):
        where = row["seq_len"], row["batch"]
        cells[steps.index(where[0])][batches.index(where[1])] = {
            **_square(row, index),
            "ranks": _ranks(ranks.get(where), index),
            "failed": _failures(failed.get(where), index),
        }
    return {"t": list(steps), "b": list(batches), "cells": cells, "answer": map_answer(won)}


def map_answer(won: pd.DataFrame) -> str:
    """One sentence about who wins, from `analyse.fastest`."""
    solved = won[won["contenders"] > 0]
    if solved.empty:
        return "No backend gave a correct result here; the reasons are listed below."
    raced = won[won["contenders"] > 1]
    if raced.empty:
        names = ", ".join(text.shorten(name) for name in sorted(set(solved["backend"]))[:3])
        return f"Only {names} ran here, so there is nothing to compare it with."
    told = raced[raced["tie"].eq(False).fillna(False).astype(bool)]
    wins = told if len(told) else raced[raced["tie"].isna()]
    parts = [_winner_clause(wins, len(raced))] if len(wins) else []
    ties = int(raced["tie"].eq(True).fillna(False).sum())
    if ties:
        parts.append(
            f"{'all' if ties == len(raced) else ties} of {len(raced)} are ties within noise"
        )
    if raced["tie"].isna().any():
        parts.append("with fewer than 3 blocks a lead cannot be told from noise")
    sentence = "; ".join(parts) + "."
    return sentence[0].upper() + sentence[1:] if not len(wins) else sentence


def _winner_clause(wins: pd.DataFrame, of: int) -> str:
    name, count = wins["backend"].value_counts().pipe(lambda c: (c.index[0], int(c.iloc[0])))
    margins = wins.loc[wins["backend"] == name, "margin"]
    mean = text.ratio(analyse.geometric_mean(margins))
    by = f"{mean} ahead of the runner-up"
    if count > 1:
        by += f" (geometric mean of {count})"
    return f"{text.shorten(name)} is fastest in {count} of {text.count(of, 'shape')}, {by}"


def curves(part: pd.DataFrame, backends: Sequence[str], along: str) -> list[dict[str, Any]]:
    """Throughput over T or B, one figure for each value of the other.

    Returns:
        One dict a figure: `at` (the other's value), `data` and `layout` for plotly, `answer`.
    """
    other = "batch" if along == "seq_len" else "seq_len"
    return [
        {"at": int(value), **curve(rows, backends, along)}
        for value, rows in sorted(part.groupby(other), key=lambda pair: int(pair[0]))
    ]


def curve(rows: pd.DataFrame, backends: Sequence[str], along: str) -> dict[str, Any]:
    """One plotly figure: steps a second of every correct backend, intervals drawn."""
    ok = rows[rows["status"] == "ok"].sort_values(along)
    data = [
        _trace(backend, index, ok[ok["backend"] == backend], along)
        for index, backend in enumerate(backends)
        if (ok["backend"] == backend).any()
    ]
    sizes = [int(value) for value in _values(rows[along])]
    scale = "log" if _doubles(sizes) else "linear"
    layout = {
        "xaxis": {
            "type": scale,
            "title": {"text": _AXIS_TITLE[along]},
            "tickvals": sizes,
            "ticktext": [str(size) for size in sizes],
        },
        "yaxis": {"type": scale, "title": {"text": "steps a second"}},
    }
    if scale == "linear":
        layout["yaxis"]["rangemode"] = "tozero"
    return {"data": data, "layout": layout, "answer": curve_answer(ok, along)}


_AXIS_TITLE = {"seq_len": "T, steps in a sequence", "batch": "B, sequences in a batch"}


def curve_answer(ok: pd.DataFrame, along: str) -> str:
    """One sentence about how the leader grows."""
    if ok.empty:
        return "No backend gave a correct result here."
    sign = LABELS[along]
    first, last = int(ok[along].min()), int(ok[along].max())
    best = ok.loc[ok.loc[ok[along] == last, "steps_per_s"].idxmax()]
    rate = f"{text.shorten(best['backend'])} makes {text.large(best['steps_per_s'])} steps a second"
    start = ok[(ok[along] == first) & (ok["backend"] == best["backend"])]
    if first == last or start.empty:
        return f"At {sign} = {last}, {rate}."
    gain = best["steps_per_s"] / start["steps_per_s"].iloc[0]
    return f"At {sign} = {last}, {rate}: {text.ratio(gain)} its rate at {sign} = {first}."


def _trace(backend: str, index: int, rows: pd.DataFrame, along: str) -> dict[str, Any]:
    name = text.plot_text(backend)
    rate = rows["steps_per_s"]
    # The slowest time is the lowest rate.
    low = rate * rows["median_ns"] / rows["high_ns"]
    high = rate * rows["median_ns"] / rows["low_ns"]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "meta": index,
        "x": [int(value) for value in rows[along]],
        "y": [text.number(value) for value in rate],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [text.number(max(v, 0)) if v == v else 0 for v in high - rate],
            "arrayminus": [text.number(max(v, 0)) if v == v else 0 for v in rate - low],
        },
        "marker": {"symbol": mark(backend).symbol, "color": mark(backend).light},
        "line": {"color": mark(backend).light},
        "hoverinfo": "text",
        "hovertext": [_hover(name, row) for row in rows.to_dict("records")],
    }


def _hover(name: str, row: dict[str, Any]) -> str:
    lines = [
        f"<b>{name}</b>, T {row['seq_len']}, B {row['batch']}",
        f"{text.large(row['steps_per_s'])} steps/s",
        f"{text.duration(row['median_ns'])} ({_interval(row)})",
        f"{text.significant(row['step_us'])} µs a step",
        f"{text.significant(row['tflops'])} TFLOP/s",
    ]
    return "<br>".join(lines)


def _square(row: dict[str, Any], index: dict[str, int]) -> dict[str, Any]:
    if row["backend"] is None:
        return {
            "state": "none",
            "backend": None,
            "margin": "",
            "strength": 0,
            "says": "none correct",
        }
    state = _state(row)
    says = f"{text.shorten(row['backend'])} fastest, {text.duration(row['median_ns'])}"
    margin = ""
    strength = 0.0
    if row["runner_up"] is not None:
        margin = text.ratio(row["margin"])
        strength = min(1.0, math.log(row["margin"]) / math.log(_FULL_MARGIN))
        says += f", {margin} ahead of {text.shorten(row['runner_up'])} ({_margin_interval(row)})"
    return {
        "state": state,
        "backend": index[row["backend"]],
        "second": index[row["runner_up"]] if row["runner_up"] is not None else None,
        "margin": margin,
        "strength": round(strength, 3),
        "says": says + (", a tie within noise" if state == "tie" else ""),
    }


def _state(row: dict[str, Any]) -> str:
    if row["runner_up"] is None:
        return "alone"
    if pd.isna(row["tie"]):
        return "unknown"
    return "tie" if row["tie"] else "win"


def _margin_interval(row: dict[str, Any]) -> str:
    if pd.isna(row["margin_low"]):
        return "interval unknown below 3 blocks"
    return f"95%: {text.ratio(row['margin_low'])} to {text.ratio(row['margin_high'])}"


def _interval(row: dict[str, Any]) -> str:
    if pd.isna(row["low_ns"]):
        return "interval unknown"
    return f"{text.duration(row['low_ns'])} to {text.duration(row['high_ns'])}"


def _ranks(rows: pd.DataFrame | None, index: dict[str, int]) -> list[dict[str, Any]]:
    if rows is None:
        return []
    slowest = rows["median_ns"].max()
    return [
        {
            "backend": index[row["backend"]],
            "time": text.duration(row["median_ns"]),
            "interval": _interval(row),
            "ratio": text.ratio(row["ratio"]) if row["rank"] > 1 else "",
            "tie": bool(row["rank"] > 1 and not pd.isna(row["tie"]) and row["tie"]),
            "share": round(row["median_ns"] / slowest, 3),
        }
        for row in rows.to_dict("records")
    ]


def _failures(rows: pd.DataFrame | None, index: dict[str, int]) -> list[dict[str, Any]]:
    if rows is None:
        return []
    return [
        {
            "backend": index[row["backend"]],
            "status": row["status"].replace("_", " "),
            "reason": text.shorten(row["reason"], 160),
        }
        for row in rows.to_dict("records")
    ]


def _doubles(sizes: Sequence[int]) -> bool:
    """Whether sizes grow by a factor more than by a step."""
    return len(sizes) > 1 and sizes[0] > 0 and sizes[-1] >= 4 * sizes[0]


def _values(column: "Iterable[Any]") -> tuple[Any, ...]:
    """Distinct values in order, as Python's own types."""
    values = {v.item() if hasattr(v, "item") else v for v in column}
    return tuple(sorted(values))
