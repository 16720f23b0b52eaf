"""The page of a store's history: one figure a case and machine, a line a backend."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstm_harness.console.history import machine_name, percent
from lstm_harness.history.series import ENVIRONMENT, History, Series
from lstm_harness.model import text
from lstm_harness.report import assets
from lstm_harness.report.lines import colours, quiet
from lstm_harness.report.marks import mark, ordered
from lstm_harness.report.payload import json_for_script, number, plot_text
from lstm_harness.report.templating import fill
from lstm_harness.report.write import write_page

# Further figures are counted and not drawn: a page of hundreds is not read.
MOST_FIGURES = 12
# The table next to a figure ends with this many runs, newest last.
MOST_RUNS = 60


def write(history: History, out: Path) -> Path:
    """Write the page of a history and return its path.

    Raises:
        UserError: `out` cannot be written.
    """
    return write_page(render(history), out)


def render(history: History, home: str = "", shared: str = "") -> str:
    """The HTML of a history: its worst cases drawn.

    Args:
        home: where the list of the runs is, if there is one.
        shared: where the files are that it shares with other pages; empty for a page of its own.
    """
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in history.series:
        groups.setdefault((one.case.label(), machine_name(one)), []).append(one)
    shown = list(groups.items())[:MOST_FIGURES]
    figures = [_figure(history, *names, series) for names, series in shown]
    return fill(
        "history.html",
        assets=assets.of_page("lines", at=shared),
        title=f"{text.count(len(history.runs), 'run')} over time",
        answer=_answer(history),
        home=home,
        not_drawn=len(groups) - len(shown),
        figures=figures,
        payload=json_for_script([figure["plot"] for figure in figures]),
    )


def _answer(history: History) -> str:
    if not history.series:
        return "No time was measured in these runs, so there is nothing to draw."
    steps = [one for one in history.series if one.last_step]
    if not steps:
        return f"No step in {len(history.series):,} series."
    worst = max(steps, key=_step)
    by = percent(_step(worst))
    name = f"{text.shorten(worst.backend)} on {worst.case.label()}"
    counted = f"{len(steps)} of {len(history.series)} series show a step"
    return f"{counted}; the largest of their latest steps is {by}, {name}."


def _step(series: Series) -> float:
    step = series.last_step
    return step.ratio if step else 1.0


def _figure(history: History, title: str, where: str, series: Sequence[Series]) -> dict[str, Any]:
    by_name = {one.backend: one for one in series}
    lines = [by_name[name] for name in ordered(by_name)]
    cuts = {
        history.runs[one.runs[change.at]].start: None
        for one in lines
        for change in one.changes
        if change.kind == ENVIRONMENT
    }
    data = [
        trace | {"legendgroup": f"line-{number}"}
        for number, one in enumerate(lines)
        for trace in (_points(history, one), _levels(history, one))
    ]
    layout = {
        "xaxis": {"type": "date"},
        # Of a decade 1, 2 and 5 have a label; more would not fit.
        "yaxis": {"type": "log", "dtick": "D2", "title": {"text": "seconds an execution"}},
    }
    return {
        "title": title,
        "where": text.shorten(where, 160),
        "answer": _figure_answer(history, lines),
        "columns": [text.shorten(one.backend) for one in lines],
        **_numbers(history, lines),
        "changes": [row for one in lines for row in _change_rows(history, one)],
        "plot": {"data": data, "layout": layout, "cuts": list(cuts)},
    }


def _figure_answer(history: History, lines: Sequence[Series]) -> str:
    """Which backend stepped last and by how much; else how much the newest runs differ."""
    stepped = [one for one in lines if one.last_step]
    if stepped:
        worst = max(stepped, key=_step)
        step = worst.last_step
        assert step is not None
        when = text.moment(history.runs[worst.runs[step.at]].start)
        levels = f"{text.duration(step.before_ns)} to {text.duration(step.after_ns)}"
        told = (
            f"{text.shorten(worst.backend)} stepped by {percent(step.ratio)}, {levels}, at {when}"
        )
        others = len(lines) - len(stepped)
        return f"{told}; {others} of {len(lines)} show no step." if others else f"{told}."
    one = max(lines, key=lambda each: abs(math.log(each.since)))
    runs = text.count(len(one.times_ns), "run")
    if len(one.times_ns) == 1:
        return f"No step: there is one run yet; {_last(one)}."
    return f"No step over {runs}; {_last(one)}, {percent(one.since)} from its level."


def _last(one: Series) -> str:
    return f"{text.shorten(one.backend)} took {text.duration(one.times_ns[-1])} in the last"


def _numbers(history: History, lines: Sequence[Series]) -> dict[str, Any]:
    """The points of a figure as rows: a run's start and id, then a time a backend."""
    times = [dict(zip(one.runs, one.times_ns, strict=True)) for one in lines]
    places = sorted(set().union(*times))
    rows = [
        {
            "start": text.moment(history.runs[place].start),
            "run": text.shorten(history.runs[place].id, 80),
            "times": [text.duration(own[place]) if place in own else "" for own in times],
        }
        for place in places[-MOST_RUNS:]
    ]
    return {"rows": rows, "older": max(0, len(places) - MOST_RUNS)}


def _points(history: History, one: Series) -> dict[str, Any]:
    name = plot_text(one.backend)
    runs = [history.runs[place] for place in one.runs]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "meta": colours(mark(one.backend)),
        "x": [run.start for run in runs],
        "y": [number(time / 1e9) for time in one.times_ns],
        "marker": {"symbol": mark(one.backend).symbol, "size": 6, "opacity": 0.7},
        "line": {},
        "hoverinfo": "text",
        "hovertext": [
            f"<b>{name}</b> {text.duration(time)}<br>{plot_text(run.id, 60)}<br>"
            f"{plot_text(run.commit or 'no commit', 40)}"
            for time, run in zip(one.times_ns, runs, strict=True)
        ],
    }


def _levels(history: History, one: Series) -> dict[str, Any]:
    """A line at each level, from its first run to its last."""
    places = [0, *(change.at for change in one.changes), len(one.runs)]
    levels = [*(change.before_ns for change in one.changes), one.level_ns]
    x: list[str | None] = []
    y: list[float | None] = []
    for (low, high), level in zip(itertools.pairwise(places), levels, strict=True):
        ends = (history.runs[one.runs[low]].start, history.runs[one.runs[high - 1]].start)
        x += [*ends, None]
        y += [level / 1e9, level / 1e9, None]
    return quiet(x=x, y=y, meta=colours(mark(one.backend)), line={"width": 2})


def _change_rows(history: History, one: Series) -> list[dict[str, str]]:
    rows = []
    for change in one.changes:
        run = history.runs[one.runs[change.at]]
        rows.append(
            {
                "backend": text.shorten(one.backend),
                "what": ", ".join(change.what) or "a step",
                "before": text.duration(change.before_ns),
                "after": text.duration(change.after_ns),
                "step": percent(change.ratio),
                "start": text.moment(run.start),
                "run": text.shorten(run.id, 80),
                "commit": text.shorten(run.commit[:12]) if run.commit else "",
            }
        )
    return rows
