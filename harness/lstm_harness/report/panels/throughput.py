"""How throughput grows with T and with B: steps a second of every correct backend."""

from collections.abc import Sequence
from typing import Any

from lstm_harness.analysis import ratios
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import (
    Point,
    Row,
    Rows,
    axis_of,
    by_backend,
    grouped,
    of_each_run,
    place_told,
    sign_of,
    sizes_of,
    trace,
)
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered

NOTE = (
    "Steps a second are B·T over the time of one pass; padding is not counted. Bars are 95% "
    "intervals, from 3 blocks on. Axes are logarithmic where sizes double."
)


def over_t(subject: Subject) -> Panel:
    """Steps a second over T, a figure for each B and choice of the switches."""
    return _panel(subject, "seq_len")


def over_b(subject: Subject) -> Panel:
    """Steps a second over B, a figure for each T and choice of the switches."""
    return _panel(subject, "batch")


_ID = {"seq_len": "throughput-over-t", "batch": "throughput-over-b"}
_QUESTION = {
    "seq_len": "How does throughput grow with the sequence?",
    "batch": "How does throughput grow with the batch?",
}
_ASK = {"seq_len": "--seq-len 32,64,128", "batch": "--batch 1,16,64"}


def _panel(subject: Subject, along: str) -> Panel:
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, (along,))
    rows = [row for row in numbered(plain_rows(summary)) if row["status"] == "ok"]
    groups = grouped(sorted(rows, key=lambda row: int(row[along])), by)
    absent = _absent(rows, [sizes_of(part, along) for part in groups.values()], along)
    made = [] if absent else [_figure(key, part, backends, along) for key, part in groups.items()]
    return Panel(
        id=_ID[along],
        question=_QUESTION[along],
        answer="" if absent else of_each_run(rows, lambda part: _overall(part, by, along)),
        by=by,
        figures=tuple(made),
        note=NOTE,
        absent=absent,
    )


def _absent(rows: Rows, sizes: Sequence[Sequence[int]], along: str) -> str:
    """Why there is no curve; empty where there is one."""
    if not rows:
        return "No backend gave a correct result, so there is no throughput to show."
    if any(len(of_one) > 1 for of_one in sizes):
        return ""
    sign = sign_of(along)
    if len(sizes_of(rows, along)) == 1:
        measured = f"only {sign} = {rows[0][along]} was measured"
    else:
        measured = f"no two cells differ in {sign} alone"
    return f"Growth with {sign} was not measured: {measured}; type `lstm-bench run {_ASK[along]}`"


def _figure(key: tuple[Any, ...], rows: Rows, backends: Sequence[str], along: str) -> Figure:
    axis = axis_of(sizes_of(rows, along), along)
    rate = {"type": axis["type"], "title": {"text": "steps a second"}}
    if axis["type"] == "linear":
        rate["rangemode"] = "tozero"
    data = [
        trace(index, [_point(row, along) for row in line])
        for index, line in by_backend(rows, backends)
    ]
    plot = Plot(f"Steps a second over {sign_of(along)}", data, {"xaxis": axis, "yaxis": rate})
    return Figure(key, (plot,), answer(rows, along))


def _point(row: Row, along: str) -> Point:
    """The rate, and its interval's ends: the low where time is high."""
    work = row["steps_per_s"] * row["median_ns"]
    low, high = work / row["high_ns"], work / row["low_ns"]
    return Point(row[along], row["steps_per_s"], low, high, row["number"])


def answer(rows: Rows, along: str) -> str:
    """One sentence about how the leader at the largest size grew, from ok rows of one figure."""
    sign, last = sign_of(along), max(row[along] for row in rows)
    best, *others = sorted((r for r in rows if r[along] == last), key=lambda r: -r["steps_per_s"])
    ties = [
        text.shorten(row["backend"])
        for row, ratio in zip(others, ratios.of_times([(r, best) for r in others]), strict=True)
        if ratio.tie
    ]
    said = (
        f"At {sign} = {last}, {text.shorten(best['backend'])} makes "
        f"{text.large(best['steps_per_s'])} steps a second"
    )
    said += f" and ties with {', '.join(ties)}" if ties else ""
    own = _smallest(rows, best, along)
    if own is best:
        return f"{said}."
    (time,) = ratios.of_times([(best, own)])
    a_step = _a_step(best, own)
    noise = ", a difference within noise" if time.times(a_step / time.value).tie else ""
    return f"{said}; a step takes {text.ratio(a_step)} its time at {sign} = {own[along]}{noise}."


def _a_step(row: Row, own: Row) -> float:
    """The time of a step over that of the same backend at another size."""
    return float(own["steps_per_s"] / row["steps_per_s"])


def _overall(rows: Rows, by: Sequence[str], along: str) -> str:
    """What a step takes of the leaders of all figures, at the largest size over the smallest."""
    grown = []
    for part in grouped(rows, by).values():
        best = max(part, key=lambda row: (row[along], row["steps_per_s"]))
        own = _smallest(part, best, along)
        if own is not best:
            grown.append((_a_step(best, own), own, best))
    sign = sign_of(along)
    if not grown:
        return f"No leader was measured at two values of {sign}."
    mean = text.ratio(geometric_mean(a_step for a_step, _, _ in grown))
    if len(grown) == 1:
        _, own, best = grown[0]
        name = text.shorten(best["backend"])
        places = f"{sign} = {best[along]} takes {mean} its time at {sign} = {own[along]}"
        return f"A step of the leader, {name}, at {places}."
    least, most = (end(grown, key=lambda one: float(one[0])) for end in (min, max))
    return (
        f"At the largest {sign} a step of the leader takes {mean} its time at the smallest "
        f"(geometric mean of {len(grown)} figures), "
        f"from {_extreme(least, by)} to {_extreme(most, by)}."
    )


def _extreme(one: tuple[float, Row, Row], by: Sequence[str]) -> str:
    a_step, _, best = one
    place = [text.shorten(best["backend"]), place_told(best, [n for n in by if n != "run"])]
    return f"{text.ratio(a_step)} ({', '.join(part for part in place if part)})"


def _smallest(rows: Rows, like: Row, along: str) -> Row:
    """The same backend's row at the smallest size."""
    own = (row for row in rows if row["backend"] == like["backend"])
    return min(own, key=lambda row: int(row[along]))
