"""How far each backend is from what the device allows: time a step and share of the floor, by size.

The figures run along H where it varies, else along B, else along T; there is one for each choice of
all the rest.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd

from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import (
    Point,
    Row,
    Rows,
    axis_of,
    by_backend,
    grouped,
    running_along,
    sign_of,
    sizes_of,
    trace,
)
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered

ALONG = ("hidden_size", "batch", "seq_len")
FLOOR = "the floor"


def panel(subject: Subject) -> Panel:
    """How far each backend is from the floor, for every choice of the rest."""
    summary, backends = subject.summary, subject.backends
    along = running_along(summary, ALONG)
    by = chosen_by(summary, (along,))
    known = [r for r in numbered(plain_rows(summary)) if not math.isnan(r["floor_share"])]
    groups = grouped([row for row in known if row["status"] == "ok"], by)
    return Panel(
        id="limits",
        question="How far from the limit?",
        answer=answer(summary),
        by=by,
        figures=tuple(_figure(key, rows, backends, along) for key, rows in groups.items()),
        note=_NOTE,
        absent="" if groups else _absent(summary),
    )


_NOTE = (
    "Left, the time of a step in µs, with its 95% interval from 3 blocks on. The floor is the "
    "least time that this device's measured ceilings allow. Right, the floor over the measured "
    "time, in percent: the share of the possible speed that a backend reaches. 100% is the limit."
)


def _absent(summary: pd.DataFrame) -> str:
    if not (summary["status"] == "ok").any():
        return "No backend gave a correct result, so there is no time to compare with the floor."
    return "No floor is known for these times: type `lstm-bench limits`, then run again."


def _figure(key: tuple[Any, ...], ok: Rows, backends: Sequence[str], along: str) -> Figure:
    """Of correct rows with a floor: time a step above the floor's, and share of the floor."""
    ok = sorted(ok, key=lambda row: int(row[along]))
    present = by_backend(ok, backends)
    floors = {row[along]: Point(row[along], _floor_us(row)) for row in ok}
    axis = axis_of(sizes_of(ok, along), along)
    floor = trace(None, list(floors.values()), name=FLOOR, mode="lines", line={"dash": "dash"})
    steps = [trace(n, [_step(row, along) for row in line]) for n, line in present]
    shares = [trace(n, [_share(row, along) for row in line]) for n, line in present]
    step_axis = {"type": axis["type"], "title": {"text": "µs a step"}}
    share_axis = {"title": {"text": "share of the floor, %"}, "rangemode": "tozero"}
    return Figure(
        key=key,
        plots=(
            Plot("Time of a step", [*steps, floor], {"xaxis": axis, "yaxis": step_axis}),
            Plot("Share of the floor", shares, {"xaxis": axis, "yaxis": share_axis}),
        ),
        answer=distance_answer(ok, along),
    )


def _step(row: Row, along: str) -> Point:
    low, high = (row[end] / row["seq_len"] / 1e3 for end in ("low_ns", "high_ns"))
    return Point(row[along], row["step_us"], low, high, row["number"])


def _share(row: Row, along: str) -> Point:
    """The share in percent; the shortest time makes the largest."""
    low, high = (100 * row["floor_ns"] / row[end] for end in ("high_ns", "low_ns"))
    return Point(row[along], 100 * row["floor_share"], low, high, row["number"])


def distance_answer(ok: Rows, along: str) -> str:
    """One sentence about who comes nearest to the floor, and where."""
    if not ok:
        return "No backend gave a correct result here."
    best = max(ok, key=lambda row: float(row["floor_share"]))
    where = f"at {sign_of(along)} = {best[along]}"
    return (
        f"{text.shorten(best['backend'])} comes nearest {where}: it reaches "
        f"{percent(best['floor_share'])} of the speed that the floor allows; "
        f"{_binds(best['floor_term'])} the floor."
    )


def answer(summary: pd.DataFrame) -> str:
    """One sentence over all cells that have a floor; empty where none has."""
    ok = summary[(summary["status"] == "ok") & summary["floor_share"].notna()]
    if ok.empty:
        return ""
    keys = (["run"] if "run" in ok else []) + list(CASE_COLUMNS)
    best = plain_rows(ok.sort_values("floor_share").groupby(keys, sort=False).tail(1))
    shares = [row["floor_share"] for row in best]
    terms = Counter(row["floor_term"] for row in best).most_common(3)
    bound = ", ".join(f"{text.shorten(str(term))} in {count}" for term, count in terms)
    reached = f"{percent(median(shares))} of the speed that the floor allows"
    if len(best) > 1:
        spread = f"{percent(min(shares))} to {percent(max(shares))}"
        reached += f" in the median of {text.count(len(best), 'case')} ({spread})"
    said = f"The nearest backend reaches {reached}; what sets the floor: {bound}."
    below = int((ok["floor_share"] > 1).sum())
    if below:
        are = "is" if below == 1 else "are"
        said += (
            f" {text.count(below, 'cell')} {are} faster than the floor: the ceilings were measured "
            "too low, or work was left out."
        )
    return said


def percent(share: float) -> str:
    """A share for a reader: 4.2%, 71%."""
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


def _floor_us(row: Row) -> float:
    return float(row["floor_ns"] / row["seq_len"] / 1e3)


def _binds(term: Any) -> str:
    return f"{text.shorten(str(term), 60)} set" + (
        "" if str(term).partition(" ")[0] in _PLURAL else "s"
    )


_PLURAL = ("products", "weights", "data", "gates")
