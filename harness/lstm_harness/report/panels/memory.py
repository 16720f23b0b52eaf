"""What each backend costs in memory: its peak, and what it keeps for the backward.

The figures run along T where it varies, else along B, else along H.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

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
    running_along,
    sign_of,
    sizes_of,
    trace,
)
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered

QUESTION = "What does it cost in memory?"
TITLES = {"peak_bytes": "Peak", "saved_bytes": "Saved for backward"}
ALONG = ("seq_len", "batch", "hidden_size")
MB = 1e6


def panel(subject: Subject) -> Panel:
    """Peak and saved bytes by size, for every choice of the rest."""
    summary, backends = subject.summary, subject.backends
    along = running_along(summary, ALONG)
    by = chosen_by(summary, (along,))
    ok = [row for row in numbered(plain_rows(summary)) if row["status"] == "ok"]
    known = [row for row in ok if not math.isnan(row["peak_bytes"])]
    groups = grouped(known, by)
    cases = grouped(known, (*by, along))
    return Panel(
        id="memory",
        question=QUESTION,
        answer=_overall(list(cases.values())) if known else "",
        by=by,
        figures=tuple(_figure(key, rows, backends, along) for key, rows in groups.items()),
        note=_NOTE,
        absent="" if known else _absent(ok),
    )


_NOTE = (
    "Megabytes (10\N{SUPERSCRIPT SIX} bytes), the most over the blocks. The peak is the most memory"
    " that the pass holds while it runs, beyond its inputs. Saved is what a forward keeps for its "
    "backward, beyond its outputs; an inference keeps nothing."
)


def _absent(ok: Rows) -> str:
    if not ok:
        return "No backend gave a correct result, so there is no memory to compare."
    return "Memory was not measured in these records; `lstm-bench run` measures it."


def _figure(key: tuple[Any, ...], rows: Rows, backends: Sequence[str], along: str) -> Figure:
    rows = sorted(rows, key=lambda row: int(row[along]))
    plots = [
        _plot([row for row in rows if not math.isnan(row[column])], column, title, backends, along)
        for column, title in TITLES.items()
    ]
    return Figure(key, tuple(plot for plot in plots if plot.data), _answer(rows, along))


def _plot(rows: Rows, column: str, title: str, backends: Sequence[str], along: str) -> Plot:
    data = [
        trace(index, [_point(row, along, column) for row in line])
        for index, line in by_backend(rows, backends)
    ]
    axis = axis_of(sizes_of(rows, along), along)
    # A logarithmic axis has no place for 0.
    scale = "linear" if any(row[column] == 0 for row in rows) else axis["type"]
    return Plot(title, data, {"xaxis": axis, "yaxis": {"type": scale, "title": {"text": "MB"}}})


def _point(row: Row, along: str, column: str) -> Point:
    return Point(row[along], row[column] / MB, number=row["number"])


def _answer(rows: Rows, along: str) -> str:
    """Who needs least at the largest size, from rows in order of it."""
    last = rows[-1][along]
    at = [row for row in rows if row[along] == last]
    said = f"At {sign_of(along)} = {last}, {_least(at, 'peak_bytes', 'at the peak')}"
    saved = [row for row in at if not math.isnan(row["saved_bytes"])]
    return said + (f"; {_least(saved, 'saved_bytes', 'saved for backward')}." if saved else ".")


def _least(rows: Rows, column: str, what: str) -> str:
    if len(rows) == 1:
        only = rows[0]
        return f"{text.shorten(only['backend'])} is the only one: {_size(only[column])} {what}"
    first, least, most = extremes(rows, column)
    verb = "needs" if len(first) == 1 else "need"
    names = " and ".join(text.shorten(row["backend"]) for row in first[:3])
    if len(first) > 3:
        names = f"{len(first)} backends"
    if len(first) == len(rows):
        return f"{names} need the same: {_size(least)} {what}"
    worst = text.shorten(most["backend"])
    times = f"{text.ratio(most[column] / least)} that" if least else _size(most[column])
    return f"{names} {verb} the least, {_size(least)} {what}, and {worst} the most, {times}"


def extremes(rows: Rows, column: str) -> tuple[list[Row], float, Row]:
    """The rows with the least of a column, that least, and the row with the most."""
    least = min(float(row[column]) for row in rows)
    most = max(rows, key=lambda row: float(row[column]))
    return [row for row in rows if row[column] == least], least, most


def _overall(cases: Sequence[Rows]) -> str:
    """Who needs least most often, from each case's rows."""
    raced = [rows for rows in cases if len(rows) > 1]
    if not raced:
        return "No case has the memory of two backends, so there is nothing to compare."
    peaks = [extremes(rows, "peak_bytes") for rows in raced]
    sole = [(first[0], least, most) for first, least, most in peaks if len(first) == 1]
    ties = len(raced) - len(sole)
    shared = f"; in {text.count(ties, 'case')} several share the lowest" if ties else ""
    if not sole:
        return f"Several backends share the lowest peak in all of {text.count(len(raced), 'case')}."
    name, wins = Counter(first["backend"] for first, _, _ in sole).most_common(1)[0]
    ratios = [
        most["peak_bytes"] / least
        for first, least, most in sole
        if first["backend"] == name and least > 0
    ]
    said = f"{text.shorten(name)} has the lowest peak in {wins} of {text.count(len(raced), 'case')}"
    if ratios:
        mean = text.ratio(geometric_mean(ratios))
        said += f"; the highest is {mean} that (geometric mean of {len(ratios)})"
    return f"{said}{shared}."


def _size(value: float) -> str:
    return f"{text.large(value)}B" if value >= 1000 else f"{value:.0f} bytes"
