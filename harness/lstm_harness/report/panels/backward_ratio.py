"""Whether backward is the heavy part: its time over forward's, of each backend, by size.

Both passes are timed alone; nothing is derived from `train`. Counting products, backward has twice
forward's work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lstm_harness.analysis import ratios
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import (
    Point,
    Row,
    Rows,
    axis_of,
    of_each_run,
    place_told,
    ratio_told,
    running_along,
    sign_of,
    trace,
)
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered
from lstm_kernels.problem import FORWARDS_PER_PASS

ALONG = ("seq_len", "batch", "hidden_size")
BY_PRODUCTS = FORWARDS_PER_PASS["backward"] / FORWARDS_PER_PASS["forward"]
NOTE = (
    "Each point is the time of backward alone over the time of forward alone, of one backend; above"
    " 1 backward takes longer. Bars are 95% intervals, from 3 blocks on that timed both. The line "
    f"at {BY_PRODUCTS:.1f} is what counting the products gives. lstm-bench gradients shows "
    "whether a gradient vanishes."
)


@dataclass(frozen=True)
class BackwardRatio:
    """How much longer than its forward a backend's backward takes; `row` is backward's."""

    row: Row
    ratio: Ratio


def panel(subject: Subject) -> Panel:
    """A figure for each choice of all but the pass and the size that the lines run along."""
    summary, backends = subject.summary, subject.backends
    along = running_along(summary, ALONG)
    by = chosen_by(summary, ("pass", along))
    rows = [row for row in numbered(plain_rows(summary)) if row["status"] == "ok"]
    measured = _ratios(rows)
    groups = _grouped(measured, by)
    return Panel(
        id="heaviness",
        question="Is backward the heavy part?",
        answer=of_each_run(rows, lambda part: _overall(part, by, along)) if measured else "",
        by=by,
        figures=tuple(_figure(key, part, backends, along) for key, part in groups.items()),
        note=NOTE,
        absent="" if measured else _absent(rows, summary),
    )


def _absent(rows: Rows, summary: pd.DataFrame) -> str:
    missing = [name for name in ("forward", "backward") if not (summary["pass"] == name).any()]
    if missing and len(summary):
        are = "were" if len(missing) > 1 else "was"
        return (
            f"{' and '.join(missing).capitalize()} alone {are} not measured; "
            "type `lstm-bench run --pass forward,backward`"
        )
    if not rows:
        return "No backend gave a correct result, so there is no time to compare."
    return "No backend was timed in both forward and backward of one problem."


def _ratios(rows: Rows) -> list[BackwardRatio]:
    """Every ok backward whose forward is ok too."""
    shared = [name for name in ("run", "backend", *CASE_COLUMNS) if name != "pass"]
    keys = [name for name in shared if rows and name in rows[0]]
    forward = {tuple(row[name] for name in keys): row for row in rows if row["pass"] == "forward"}
    backward = [row for row in rows if row["pass"] == "backward"]
    pairs = [
        (row, forward[key])
        for row in backward
        if (key := tuple(row[name] for name in keys)) in forward
    ]
    known = ratios.of_times(pairs)
    return [BackwardRatio(row, ratio) for (row, _), ratio in zip(pairs, known, strict=True)]


def _grouped(
    measured: Sequence[BackwardRatio], by: Sequence[str]
) -> dict[tuple[Any, ...], list[BackwardRatio]]:
    groups: dict[tuple[Any, ...], list[BackwardRatio]] = {}
    for one in measured:
        groups.setdefault(tuple(one.row[name] for name in by), []).append(one)
    return groups


def _figure(
    key: tuple[Any, ...], measured: Sequence[BackwardRatio], backends: Sequence[str], along: str
) -> Figure:
    ordered = sorted(measured, key=lambda one: int(one.row[along]))
    lines = _grouped(ordered, ["backend"])
    sizes = sorted({int(one.row[along]) for one in measured})
    data = [
        trace(index, [_point(one, along) for one in lines[(backend,)]])
        for index, backend in enumerate(backends)
        if (backend,) in lines
    ]
    layout = {
        "xaxis": axis_of(sizes, along),
        "yaxis": {"title": {"text": "backward's time over forward's"}, "rangemode": "tozero"},
    }
    plot = Plot(f"Backward over forward, by {sign_of(along)}", [*data, _products(sizes)], layout)
    return Figure(key, (plot,), answer(ordered, [along]))


def _point(one: BackwardRatio, along: str) -> Point:
    row, ratio = one.row, one.ratio
    return Point(row[along], ratio.value, ratio.low, ratio.high, row["number"])


def _products(sizes: Sequence[int]) -> dict[str, Any]:
    """The line that counting products gives, long enough to be seen next to a single size."""
    ends = [sizes[0], sizes[-1]] if len(sizes) > 1 else [sizes[0] - 1, sizes[0] + 1]
    points = [Point(end, BY_PRODUCTS) for end in ends]
    name = f"{BY_PRODUCTS:.1f}: counting products"
    return trace(None, points, name=name, mode="lines", line={"dash": "dash"})


def answer(measured: Sequence[BackwardRatio], places: Sequence[str]) -> str:
    """One sentence: yes, no or a tie; the mean ratio, and the extremes with their backends.

    Args:
        places: the columns that tell where an extreme was found.
    """
    known = [one.ratio for one in measured]
    if len(known) == 1:
        return _of_one(measured[0])
    pairs = text.count(len(known), "pair")
    ties = sum(ratio.tie is True for ratio in known)
    if ties == len(known):
        return f"Backward and forward tie in all of {pairs}."
    mean = geometric_mean(ratio.value for ratio in known)
    least, most = (end(measured, key=lambda one: one.ratio.value) for end in (min, max))
    said = (
        f"{'Yes' if mean > 1 else 'No'}: backward takes {text.ratio(mean)} forward's time "
        f"(geometric mean of {pairs}), from {_extreme(least, places)} to {_extreme(most, places)}"
    )
    if ties:
        said += f"; in {text.count(ties, 'pair')} the two tie"
    return said + _unsure(known) + "."


def _of_one(one: BackwardRatio) -> str:
    name = text.shorten(one.row["backend"])
    if one.ratio.tie:
        return f"{name}'s backward and forward cannot be told apart."
    yes = "Yes" if one.ratio.value > 1 else "No"
    told = ratio_told(one.ratio)
    return f"{yes}: {name}'s backward takes {told} forward's time{_unsure([one.ratio])}."


def _unsure(known: Sequence[Ratio]) -> str:
    """What is said of ratios without an interval."""
    without = sum(ratio.tie is None for ratio in known)
    if not without:
        return ""
    which = "" if without == len(known) else f" for {without} of them"
    return f"; no interval is known{which}, with fewer than 3 blocks"


def _extreme(one: BackwardRatio, places: Sequence[str]) -> str:
    said = [text.shorten(one.row["backend"]), place_told(one.row, places)]
    return f"{text.ratio(one.ratio.value)} ({', '.join(part for part in said if part)})"


def _overall(rows: Rows, by: Sequence[str], along: str) -> str:
    """The answer over all figures of one run, and which cells are not in it."""
    measured = _ratios(rows)
    halves = sum(row["pass"] in ("forward", "backward") for row in rows) - 2 * len(measured)
    if not measured:
        return "No backend was timed in both forward and backward of one problem."
    varying = [name for name in (along, *by) if name != "run" and _varies(measured, name)]
    said = answer(measured, varying)
    if halves:
        lack = "lacks" if halves == 1 else "lack"
        said += f" Left out: {text.count(halves, 'correct cell')} that {lack} the other pass."
    return said


def _varies(measured: Sequence[BackwardRatio], name: str) -> bool:
    return len({one.row[name] for one in measured}) > 1
