"""The page of `lstm-bench gradients`: the norm of dL_T/dh_t against T - t, a line a cell."""

from typing import Any

from lstm_harness import __version__
from lstm_harness.analysis.gradients import Fading, Gradients, fadings
from lstm_harness.console import gradients as told
from lstm_harness.model import text
from lstm_harness.report import assets, lines
from lstm_harness.report.facts import computed
from lstm_harness.report.marks import mark_at
from lstm_harness.report.payload import json_for_script, plot_text
from lstm_harness.report.templating import fill


def render(found: Gradients) -> str:
    """The HTML of the gradients that were followed."""
    shown = fadings(found.followed)
    steps = told.columns(shown)
    return fill(
        "gradients.html",
        assets=assets.of_page("lines"),
        answer=told.sentence(shown) if shown else "No gradient could be followed.",
        medians=told.medians(found),
        steps=steps,
        rows=[_row(line, steps) for line in shown],
        gone=[
            f"{line.name} is 0 from {text.count(line.gone_at, 'step')} on, and not drawn there."
            for line in shown
            if line.gone_at is not None
        ],
        refusals=[text.shorten(said, 400) for said in told.refusals(found)],
        command=told.command(found),
        facts=_facts(found),
        payload=json_for_script([_plot(shown)] if shown else []),
    )


def _plot(shown: list[Fading]) -> dict[str, Any]:
    return {
        "data": [
            trace | {"legendgroup": f"line-{place}", "meta": lines.colours(mark_at(place))}
            for place, line in enumerate(shown)
            for trace in (_band(line), _line(place, line))
        ],
        "layout": {
            "xaxis": {"title": {"text": "T - t, steps before the loss"}},
            "yaxis": {
                "type": "log",
                "title": {"text": "norm of dL<sub>T</sub>/dh<sub>t</sub>"},
                "exponentformat": "power",
            },
            # Above the plot, since the title of x is below it.
            "legend": {"x": 0, "y": 1, "yanchor": "bottom"},
        },
        "cuts": [],
    }


def _line(place: int, line: Fading) -> dict[str, Any]:
    steps, name = lines.drawn(line.median, logarithmic=True), plot_text(line.name)
    hover = [
        f"<b>{name}</b>, {text.count(step, 'step')} before the loss<br>"
        f"{told.share(line.median, step)}, over the seeds {_range(line, step) or 'the same'}"
        for step in steps
    ]
    return lines.line(
        name, mark_at(place).symbol, steps, [line.median[step] for step in steps], hover
    )


def _band(line: Fading) -> dict[str, Any]:
    """From the least to the most of the seeds."""
    steps = lines.drawn(line.low, logarithmic=True)
    return lines.band(
        steps, [line.low[step] for step in steps], [line.high[step] for step in steps]
    )


def _row(line: Fading, steps: list[int]) -> dict[str, Any]:
    shares = [(told.share(line.median, step), _range(line, step)) for step in steps]
    return {"name": line.name, "shares": shares, "half_life": told.half_life(line)}


def _range(line: Fading, step: int) -> str:
    """The least and the most of the seeds; nothing where they are the same."""
    low, high = told.share(line.low, step), told.share(line.high, step)
    return f"{low} to {high}" if low != high else ""


def _facts(found: Gradients) -> list[tuple[str, str]]:
    problems = dict.fromkeys(one.problem.label() for one in found.followed)
    return [
        ("problems", "; ".join(problems)),
        ("backends", ", ".join(dict.fromkeys(one.backend for one in found.followed))),
        ("seeds", ", ".join(map(str, found.seeds))),
        *computed(found.environment, found.device, __version__, found.start),
    ]
