"""What each backend costs in energy: joules a sequence.

The figures run along T where it varies, else along B, else along H.
"""

import math
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

ALONG = ("seq_len", "batch", "hidden_size")
ABSENT = (
    "Energy was not measured: it needs a GPU whose driver counts energy, and a pass other than "
    "backward; on such a machine `lstm-bench run --device cuda` measures it."
)
# How wrong one figure may be: the counter moves every 20 to 100 ms, and is read over a second.
WITHIN = 0.1
APART = (1 + WITHIN) / (1 - WITHIN)


def panel(subject: Subject) -> Panel:
    """Energy a sequence, for every choice of the rest."""
    summary, backends = subject.summary, subject.backends
    along = running_along(summary, ALONG)
    by = chosen_by(summary, (along,))
    rows = numbered(plain_rows(summary))
    known = [row for row in rows if row["status"] == "ok" and _sequence_mj(row) > 0]
    groups = grouped(known, by)
    cases = list(grouped(known, (*by, along)).values())
    return Panel(
        id="energy",
        question="What does a sequence cost in energy?",
        answer=_overall(cases) if known else "",
        by=by,
        figures=tuple(_figure(key, rows, backends, along) for key, rows in groups.items()),
        note=_NOTE,
        absent="" if known else ABSENT,
    )


_NOTE = (
    "Millijoules a sequence, of the whole GPU, preparing included, measured in one block. A figure "
    "is right within 10%, so two that are closer than that each way tie. A backward alone has no "
    "figure."
)


def _figure(key: tuple[Any, ...], rows: Rows, backends: Sequence[str], along: str) -> Figure:
    rows = sorted(rows, key=lambda row: int(row[along]))
    data = [
        trace(index, [_point(row, along) for row in line])
        for index, line in by_backend(rows, backends)
    ]
    axis = axis_of(sizes_of(rows, along), along)
    layout = {"xaxis": axis, "yaxis": {"type": axis["type"], "title": {"text": "mJ a sequence"}}}
    last = rows[-1][along]
    at = [row for row in rows if row[along] == last]
    answer = f"At {sign_of(along)} = {last}, {_least(at)}."
    return Figure(key, (Plot("Energy a sequence", data, layout),), answer)


def _point(row: Row, along: str) -> Point:
    return Point(row[along], _sequence_mj(row), number=row["number"])


def _least(rows: Rows) -> str:
    """The backend that takes least in a case, and whether the next one ties with it."""
    first, *others = sorted(rows, key=_sequence_mj)
    name, least = text.shorten(first["backend"]), _sequence_mj(first)
    figure = f"{text.significant(least)} mJ a sequence"
    if not others:
        return f"{name} is the only one: {figure}"
    second, next_mj = text.shorten(others[0]["backend"]), _sequence_mj(others[0])
    if not _told_apart(first, others[0]):
        return f"{name} and {second} tie: {figure} and {text.significant(next_mj)} mJ"
    return f"{name} takes the least, {figure}; {second} is next, {text.ratio(next_mj / least)} that"


def _overall(cases: Sequence[Rows]) -> str:
    raced = [sorted(rows, key=_sequence_mj) for rows in cases if len(rows) > 1]
    if not raced:
        return "No case has the energy of two backends, so there is nothing to compare."
    won = [(rows[0], rows[1]) for rows in raced if _told_apart(rows[0], rows[1])]
    if not won:
        return f"The two that take the least tie in all of {text.count(len(raced), 'case')}."
    names = [first["backend"] for first, _ in won]
    name = max(dict.fromkeys(names), key=names.count)
    ratios = [
        _sequence_mj(second) / _sequence_mj(first)
        for first, second in won
        if first["backend"] == name
    ]
    mean = text.ratio(geometric_mean(ratios))
    return (
        f"{text.shorten(name)} takes the least energy in {len(ratios)} of "
        f"{text.count(len(raced), 'case')}; the next takes {mean} that "
        f"(geometric mean of {len(ratios)})."
    )


def _sequence_mj(row: Row) -> float:
    """Energy a sequence in mJ; NaN where it was not measured."""
    energy_mj = float(row["energy_mj"])
    return energy_mj / row["batch"] if math.isfinite(energy_mj) else math.nan


def _told_apart(first: Row, second: Row) -> bool:
    return _sequence_mj(second) > APART * _sequence_mj(first)
