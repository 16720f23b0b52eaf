"""The page of `lstm-bench gradients`: the norm of dL_T/dh_t against T - t, a line a cell."""

from math import ceil
from typing import Any

from lstm_harness import __version__
from lstm_harness.analysis.gradients import Fading, Gradients, Norms, fadings
from lstm_harness.console import gradients as told
from lstm_harness.model import text
from lstm_harness.report.marks import mark_at
from lstm_harness.report.payload import json_for_script, number, plot_text
from lstm_harness.report.templating import assets, fill

# As many as an eye tells apart on a line; the JSON document has all.
MOST_POINTS = 500
# As many carry the line's symbol.
_SYMBOLS = 12


def render(found: Gradients) -> str:
    """The HTML of what was followed, whatever came of it."""
    lines = fadings(found.followed)
    steps = told.columns(lines)
    return fill(
        "gradients.html",
        **assets("lines.js"),
        answer=told.sentence(lines) if lines else "No gradient could be followed.",
        medians=told.medians(found),
        steps=steps,
        rows=[_row(line, steps) for line in lines],
        gone=[
            f"{line.name} is 0 from {text.count(line.gone_at, 'step')} on, and not drawn there."
            for line in lines
            if line.gone_at is not None
        ],
        refusals=[text.shorten(said, 400) for said in told.refusals(found)],
        command=told.command(found),
        facts=_facts(found),
        payload=json_for_script([_plot(lines)] if lines else []),
    )


def _plot(lines: list[Fading]) -> dict[str, Any]:
    return {
        "data": [
            trace | {"legendgroup": f"line-{place}", "meta": _colours(place)}
            for place, line in enumerate(lines)
            for trace in (_band(line), _line(place, line))
        ],
        "layout": {
            "xaxis": {"title": {"text": "T - t, steps before the loss"}},
            "yaxis": {
                "type": "log",
                "title": {"text": "norm of dL<sub>T</sub>/dh<sub>t</sub>"},
                "exponentformat": "power",
            },
            # Above the plot: below it stands what x is.
            "legend": {"x": 0, "y": 1, "yanchor": "bottom"},
        },
        "cuts": [],
    }


def _drawn(shares: Norms) -> list[int]:
    """The T - t of the points that are drawn: a logarithm has no 0."""
    steps = [step for step, share in enumerate(shares) if share]
    return steps[:: ceil(len(steps) / MOST_POINTS)] if steps else []


def _line(place: int, line: Fading) -> dict[str, Any]:
    steps, name = _drawn(line.median), plot_text(line.name)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": steps,
        "y": [number(line.median[step]) for step in steps],
        "marker": {"symbol": mark_at(place).symbol, "size": 8, "maxdisplayed": _SYMBOLS},
        "line": {"width": 2},
        "hoverinfo": "text",
        "hovertext": [
            f"<b>{name}</b>, {text.count(step, 'step')} before the loss<br>"
            f"{told.share(line.median, step)}, over the seeds {_range(line, step) or 'the same'}"
            for step in steps
        ],
    }


def _band(line: Fading) -> dict[str, Any]:
    """From the least to the most of the seeds."""
    steps = _drawn(line.low)
    there = [number(line.high[step]) for step in steps]
    back = [number(line.low[step]) for step in reversed(steps)]
    return {
        "type": "scatter",
        "mode": "lines",
        "showlegend": False,
        "x": [*steps, *reversed(steps)],
        "y": [*there, *back],
        "fill": "toself",
        "line": {"width": 0},
        "marker": {},
        "hoverinfo": "skip",
    }


def _colours(place: int) -> dict[str, str]:
    return {"light": mark_at(place).light, "dark": mark_at(place).dark}


def _row(line: Fading, steps: list[int]) -> dict[str, Any]:
    shares = [(told.share(line.median, step), _range(line, step)) for step in steps]
    return {"name": line.name, "shares": shares, "half_life": told.half_life(line)}


def _range(line: Fading, step: int) -> str:
    """The least and the most of the seeds; nothing where they are the same."""
    low, high = told.share(line.low, step), told.share(line.high, step)
    return f"{low} to {high}" if low != high else ""


def _facts(found: Gradients) -> list[tuple[str, str]]:
    environment = found.environment
    device = environment.get("gpu") or environment.get("cpu") or {}
    problems = dict.fromkeys(one.problem.label() for one in found.followed)
    return [
        ("problems", "; ".join(problems)),
        ("backends", ", ".join(dict.fromkeys(one.backend for one in found.followed))),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("device", str(device.get("name") or device.get("model") or found.device)),
        (
            "software",
            f"lstm-bench {__version__}, torch {environment.get('torch')}, "
            f"Python {environment.get('python')}",
        ),
        ("computed", text.moment(found.start)),
    ]
