"""What holds of every panel, whatever it shows."""

import json
from typing import Any

import plotly.graph_objects

from lstm_harness.report.panel import Panel, Plot


def check(panel: Panel) -> Panel:
    """The panel, after what every one must keep to; fails where it does not."""
    assert panel.question.endswith("?")
    assert panel.id.replace("-", "").isalpha()
    assert bool(panel.figures) == bool(panel.answer) == (not panel.absent)
    assert "\n" not in panel.absent
    keys = [figure.key for figure in panel.figures]
    assert len(set(keys)) == len(keys)
    for figure in panel.figures:
        assert len(figure.key) == len(panel.by)
        assert figure.plots
        assert figure.answer.endswith(".")
        for plot in figure.plots:
            _check_plot(plot)
    return panel


def _check_plot(plot: Plot) -> None:
    assert plot.title
    assert any(trace["x"] for trace in plot.data)
    json.dumps([plot.data, plot.layout], allow_nan=False)
    data = [{name: v for name, v in trace.items() if name != "meta"} for trace in plot.data]
    plotly.graph_objects.Figure(data=data, layout=plot.layout)


def lines(plot: Plot, backends: list[str]) -> dict[Any, dict[str, Any]]:
    """A plot's traces by their backend's name, or by their own where they are nobody's."""
    return {
        trace["name"] if trace["meta"] is None else backends[trace["meta"]]: dict(trace)
        for trace in plot.data
    }
