"""What a longer sequence costs: time against T, and the line overhead + slope * T through it.

The fit is by least squares of relative errors, so that short sequences, where the overhead shows,
weigh as much as long ones; logarithmic axes, where T doubles, show just these errors. How sure a
fit is comes from fitting each block by itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lstm_harness.analysis.statistics import mean_interval
from lstm_harness.analysis.summary import plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import (
    Point,
    Row,
    Rows,
    axis_of,
    grouped,
    of_each_run,
    place_told,
    sizes_of,
    trace,
)
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered
from lstm_harness.report.payload import number

SIZES_FOR_FIT = 3
NOTE = (
    "Time of one pass, with 95% intervals from 3 blocks on. Thin lines are fitted: an overhead, "
    "which a pass costs whatever its length (launches and set-up), plus a time for each step of T."
)
_TYPE = "type `lstm-bench run --seq-len 32,64,128`"
# A sentence names this many fits; the figure shows all.
_TOLD = 6


@dataclass(frozen=True)
class Fit:
    """The line of one backend over T.

    Attributes:
        row: one of its rows, for its name and place.
        overhead_us, step_us: from the medians.
        low_us, high_us: 95% interval of the overhead; NaN below 3 blocks.
        miss: the largest relative distance of a median from the line.
    """

    row: Row
    overhead_us: float
    step_us: float
    low_us: float
    high_us: float
    miss: float

    @property
    def has_overhead(self) -> bool:
        """Whether the overhead is above zero, beyond noise where that is known."""
        return self.overhead_us > 0 and not self.low_us <= 0

    def at(self, seq_len: float) -> float:
        """The line's time, in µs."""
        return self.overhead_us + self.step_us * seq_len


def panel(subject: Subject) -> Panel:
    """A figure for each B and choice of the switches."""
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, ("seq_len",))
    rows = [row for row in numbered(plain_rows(summary)) if row["status"] == "ok"]
    ordered = sorted(rows, key=lambda row: int(row["seq_len"]))
    groups = grouped(ordered, by)
    fits = {key: _fits(part) for key, part in groups.items()}
    fitted = any(fits.values())
    made = [_figure(key, part, fits[key], backends) for key, part in groups.items()]
    return Panel(
        id="sequence-cost",
        question="What does a longer sequence cost?",
        answer=of_each_run(ordered, lambda part: _overall(part, by, fits)) if fitted else "",
        by=by,
        figures=tuple(made) if fitted else (),
        note=NOTE,
        absent="" if fitted else _absent(rows),
    )


def _absent(rows: Rows) -> str:
    if not rows:
        return "No backend gave a correct result, so there is no time to show."
    sizes = ", ".join(str(size) for size in sizes_of(rows, "seq_len")[:SIZES_FOR_FIT])
    return (
        "The cost of a step was not measured: a line over T needs one backend at 3 values of T, "
        f"all else equal; T was {sizes}; {_TYPE}"
    )


def _fits(rows: Rows) -> dict[str, Fit]:
    """The line of each backend with enough values of T, from one figure's rows in order of T."""
    lines = grouped(rows, ["backend"])
    return {backend: _fit(line) for (backend,), line in lines.items() if len(line) >= SIZES_FOR_FIT}


def _fit(rows: Rows) -> Fit:
    sizes = [int(row["seq_len"]) for row in rows]
    medians = [float(row["median_ns"]) / 1e3 for row in rows]
    overhead, step = _line(sizes, medians)
    blocks = [dict(zip(row["block_ids"], row["block_medians_ns"], strict=True)) for row in rows]
    shared = set(blocks[0]).intersection(*blocks)
    alone = [_line(sizes, [one[block] / 1e3 for one in blocks])[0] for block in sorted(shared)]
    _, low, high = mean_interval(alone)
    miss = max(
        abs((overhead + step * size) / time - 1) for size, time in zip(sizes, medians, strict=True)
    )
    return Fit(rows[0], overhead, step, low, high, miss)


def _line(sizes: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope that make the sum of squares of relative errors least."""
    weights = [1 / time**2 for time in times]
    total = math.fsum(weights)
    x = math.fsum(w * size for w, size in zip(weights, sizes, strict=True)) / total
    y = math.fsum(1 / time for time in times) / total
    points = list(zip(weights, sizes, times, strict=True))
    slope = math.fsum(w * (size - x) * (time - y) for w, size, time in points)
    slope /= math.fsum(w * (size - x) ** 2 for w, size, _ in points)
    return y - slope * x, slope


def _figure(
    key: tuple[Any, ...], rows: Rows, fits: dict[str, Fit], backends: Sequence[str]
) -> Figure:
    lines = grouped(rows, ["backend"])
    axis = axis_of(sizes_of(rows, "seq_len"), "seq_len")
    data = []
    for index, backend in enumerate(backends):
        if (backend,) in lines:
            points = [_point(row) for row in lines[(backend,)]]
            data.append(trace(index, points, mode="markers"))
        if backend in fits:
            sizes = sizes_of(lines[(backend,)], "seq_len")
            data.append(_drawn(index, fits[backend], _along(sizes, axis["type"])))
    layout = {"xaxis": axis, "yaxis": {"type": axis["type"], "title": {"text": "time, µs"}}}
    return Figure(key, (Plot("Time of a pass over T", data, layout),), answer(rows, fits))


def _point(row: Row) -> Point:
    median, low, high = (row[name] / 1e3 for name in ("median_ns", "low_ns", "high_ns"))
    return Point(row["seq_len"], median, low, high, row["number"])


def _drawn(index: int, fit: Fit, sizes: Sequence[float]) -> dict[str, Any]:
    times = [fit.at(size) for size in sizes]
    points = [
        Point(number(size), time if time > 0 else math.nan)
        for size, time in zip(sizes, times, strict=True)
    ]
    return trace(index, points, mode="lines", line={"width": 1})


def _along(sizes: Sequence[int], axis: str) -> list[float]:
    """Where a line is drawn: at its ends; on logarithmic axes, which bend it, also in between."""
    if axis == "linear":
        return [sizes[0], sizes[-1]]
    between = (math.sqrt(low * high) for low, high in pairwise(sizes))
    return sorted([*sizes, *between])


def answer(rows: Rows, fits: dict[str, Fit]) -> str:
    """The fitted slopes and overheads of one figure, the cheapest step first, and how they fit."""
    if not fits:
        return "Fewer than 3 values of T were measured here: no line is fitted."
    cheapest = sorted(fits.values(), key=lambda fit: fit.step_us)
    parts = [_told(fit) for fit in cheapest[:_TOLD]]
    if len(cheapest) > _TOLD:
        parts.append(f"and {len(cheapest) - _TOLD} more")
    said = f"As fitted: {'; '.join(parts)}. {_how_well(cheapest)}"
    without = sorted({text.shorten(row["backend"]) for row in rows if row["backend"] not in fits})
    if without:
        said += f" Not fitted, with fewer than 3 values of T: {', '.join(without)}."
    return said


def _told(fit: Fit) -> str:
    name, step = text.shorten(fit.row["backend"]), f"{_us(fit.step_us)} a step"
    if fit.has_overhead:
        return f"{name} takes {_us(fit.overhead_us)} and {step}"
    if fit.high_us < 0 or math.isnan(fit.low_us):
        below = "its overhead below zero: a step costs more the longer the sequence"
        return f"{name} takes {step}, {below}"
    return f"{name} takes {step}, no overhead beyond noise"


def _how_well(fits: Sequence[Fit]) -> str:
    miss = max(0.001, *(fit.miss for fit in fits))
    said = f"Every median is within {text.significant(100 * miss, 2)}% of its line"
    if any(math.isnan(fit.low_us) for fit in fits):
        said += "; with fewer than 3 blocks no interval is known"
    return said + "."


def _overall(
    rows: Rows, by: Sequence[str], of_figure: Mapping[tuple[Any, ...], dict[str, Fit]]
) -> str:
    """The extremes over all figures of one run."""
    fits = [fit for key in grouped(rows, by) for fit in of_figure[key].values()]
    if not fits:
        return "Fewer than 3 values of T were measured: no line is fitted."
    names = [n for n in by if n != "run" and len({fit.row[n] for fit in fits}) > 1]
    if len(fits) == 1:
        return f"As fitted: {_told(fits[0])}. {_how_well(fits)}"
    least, most = (end(fits, key=lambda fit: fit.step_us) for end in (min, max))
    said = (
        f"A step costs from {_us(least.step_us)} ({_where(least, names)}) to "
        f"{_us(most.step_us)} ({_where(most, names)}) over {len(fits):,} fitted lines; "
    )
    largest = max(fits, key=lambda fit: fit.overhead_us if fit.has_overhead else -math.inf)
    if not largest.has_overhead:
        return f"{said}no overhead of a pass can be distinguished from zero. {_how_well(fits)}"
    told = f"{_us(largest.overhead_us)} ({_where(largest, names)})"
    return f"{said}the largest overhead of a pass is {told}. {_how_well(fits)}"


def _where(fit: Fit, names: Sequence[str]) -> str:
    said = [text.shorten(fit.row["backend"]), place_told(fit.row, names)]
    return ", ".join(part for part in said if part)


def _us(value: float) -> str:
    """A time for a reader; one below zero stays in µs."""
    return text.duration(1e3 * value) if value > 0 else f"{text.significant(value)} µs"
