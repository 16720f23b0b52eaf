"""The figures of a training: held-out metric and loss, against seconds and against steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lstm_harness.analysis.courses import Course, Way, course
from lstm_harness.analysis.training import Contestant
from lstm_harness.model import text
from lstm_harness.model.training import Point
from lstm_harness.model.workloads import Goal
from lstm_harness.report.lines import band, colours, drawn, line, quiet
from lstm_harness.report.marks import Mark, mark, mark_at
from lstm_harness.report.payload import number, plot_text

# The goal and the baseline belong to no contestant; they have the colours of soft text.
_SOFT = Mark("#5a6068", "#a2a8b0", "circle", "●")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# An axis is logarithmic if its largest value is this many times its smallest.
_WIDE = 10
_SECONDS, _STEPS = "seconds of training", "steps"


class Look(NamedTuple):
    """How a contestant is drawn, in every figure."""

    name: str
    mark: Mark
    dash: str


class Level(NamedTuple):
    """A value that contestants are seen against."""

    name: str
    value: float
    dash: str


class Figure(NamedTuple):
    """One of a page: `plot` is what `lines.js` draws."""

    title: str
    caption: str
    plot: dict[str, Any]


def looks(standing: Sequence[Contestant]) -> list[Look]:
    """A backend has its colour and a cell its dash; of one backend alone, a cell has a colour."""
    alone = len({one.backend for one in standing}) == 1
    cells = list(dict.fromkeys(one.cell for one in standing))
    return [_look(one, cells, alone) for one in standing]


def _look(one: Contestant, cells: Sequence[str], alone: bool) -> Look:
    place = cells.index(one.cell)
    if len(cells) == 1:
        return Look(one.backend, mark(one.backend), "solid")
    if alone:
        return Look(one.cell, mark_at(place), "solid")
    return Look(f"{one.backend} {one.cell}", mark(one.backend), _DASHES[place % len(_DASHES)])


def figures(
    goal: Goal, standing: Sequence[Contestant], as_drawn: Sequence[Look], baseline: float | None
) -> list[Figure]:
    """Four figures; none where there is no contestant.

    Args:
        as_drawn: the look of each contestant.
        baseline: the goal's metric of what needs no learning, where it is known.
    """
    if not standing:
        return []
    levels = [Level(f"goal: {goal.value:g}", goal.value, "dash")]
    if baseline is not None:
        levels.append(Level(f"baseline: {text.significant(baseline)}", baseline, "dot"))
    held_out = [course(one, lambda point: point.held_out.get(goal.metric)) for one in standing]
    losses = [course(one, _loss) for one in standing]
    told = (
        f"{goal.metric} of held-out data, {'more' if goal.higher_is_better else 'less'} is better"
    )
    return [
        Figure(
            f"{what} against {'seconds' if axis == _SECONDS else axis}".capitalize(),
            caption,
            _plot(as_drawn, courses, axis, what, beside),
        )
        for what, courses, caption, beside in (
            (goal.metric, held_out, told, levels),
            ("training loss", losses, "the mean over the steps since the point before", []),
        )
        for axis in (_SECONDS, _STEPS)
    ]


def _loss(point: Point) -> float | None:
    return point.loss


def _plot(
    as_drawn: Sequence[Look],
    courses: Sequence[Course],
    axis: str,
    what: str,
    levels: Sequence[Level],
) -> dict[str, Any]:
    values = [each for one in courses for each in _values(one)] + [each.value for each in levels]
    logarithmic = bool(values) and min(values) > 0 and max(values) >= _WIDE * min(values)
    ends = [_last(one, axis) for one in courses]
    far_apart = axis == _SECONDS and min(ends) > 0 and max(ends) >= _WIDE * min(ends)
    starts = [_along(one, axis)[0] for one in courses if one.steps]
    data = [
        trace | {"legendgroup": f"line-{place}", "meta": colours(look.mark)}
        for place, (look, one) in enumerate(zip(as_drawn, courses, strict=True))
        for trace in _traces(look, one, axis, what, logarithmic)
    ]
    data += [
        _level(each, (min(starts, default=0) if far_apart else 0, max(ends))) for each in levels
    ]
    return {
        "data": data,
        "layout": {
            "xaxis": _axis(axis, (min(starts, default=0), max(ends)) if far_apart else None),
            "yaxis": _axis(what, (min(values), max(values)) if logarithmic else None),
            # Above the plot, since the title of x is below it.
            "legend": {"x": 0, "y": 1, "yanchor": "bottom"},
        },
        "cuts": [],
    }


def _axis(title: str, ends: tuple[float, float] | None) -> dict[str, Any]:
    """Linear; logarithmic where ends are given, with 1, 2 and 5 on it where these have room."""
    axis = {"title": {"text": title}, "exponentformat": "none"}
    if ends is None:
        return axis
    return {**axis, "type": "log", "dtick": "D2" if ends[1] < 1000 * ends[0] else 1}


def _traces(
    look: Look, one: Course, axis: str, what: str, logarithmic: bool
) -> list[dict[str, Any]]:
    """The band, the line, and what single seeds do beyond."""
    x = _along(one, axis)
    inside, name = drawn(one.low, logarithmic), plot_text(look.name)
    places = drawn(one.median, logarithmic)
    hover = [
        f"<b>{name}</b>, step {one.steps[place]:,}, {one.seconds[place]:.3g} s<br>"
        f"{plot_text(what)} {_told(one, place)}"
        for place in places
    ]
    traces = [
        band([x[p] for p in inside], [one.low[p] for p in inside], [one.high[p] for p in inside]),
        line(
            name,
            look.mark.symbol,
            [x[place] for place in places],
            [one.median[place] for place in places],
            hover,
            look.dash,
        ),
    ]
    return [*traces, _beyond(look, one, axis, logarithmic)] if one.beyond else traces


def _told(one: Course, place: int) -> str:
    median, low, high = (
        text.significant(value)
        for value in (one.median[place], one.low[place], one.high[place])
        if value is not None
    )
    return f"{median}, over the seeds {low} to {high}" if low != high else median


def _beyond(look: Look, one: Course, axis: str, logarithmic: bool) -> dict[str, Any]:
    """Thin lines of single seeds in one trace, each with the symbol at its end."""
    x: list[float | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    for way in one.beyond:
        along, places = _along(way, axis), drawn(way.values, logarithmic)
        x += [*(number(along[place]) for place in places), None]
        y += [*(number(way.values[place]) for place in places), None]
        sizes += [*([0] * (len(places) - 1)), *([8] if places else []), 0]
    return quiet(
        x=x,
        y=y,
        mode="lines+markers",
        marker={"symbol": look.mark.symbol, "size": sizes},
        line={"width": 1, "dash": look.dash},
    )


def _level(level: Level, ends: tuple[float, float]) -> dict[str, Any]:
    return quiet(
        name=level.name,
        x=list(map(number, ends)),
        y=[number(level.value)] * 2,
        line={"width": 1.5, "dash": level.dash},
        showlegend=True,
        legendgroup=level.name,
        meta=colours(_SOFT),
    )


def _along(one: Course | Way, axis: str) -> Sequence[float]:
    return one.seconds if axis == _SECONDS else one.steps


def _last(one: Course, axis: str) -> float:
    """How far a contestant came, with the seed that went furthest."""
    ways: list[Course | Way] = [one, *one.beyond]
    return max((_along(way, axis)[-1] for way in ways if way.steps), default=0)


def _values(one: Course) -> list[float]:
    """All that is drawn of it."""
    alone = [value for way in one.beyond for value in way.values]
    return [each for each in (*one.low, *one.high, *alone) if each is not None]
