"""Lines of medians in bands from the least to the most, as `lines.js` draws them."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from lstm_harness.report.marks import Mark
from lstm_harness.report.payload import number

# A line shows no more points than an eye can tell apart; the JSON document has all of them.
MOST_POINTS = 500
# This many of them carry the line's symbol.
_SYMBOLS = 12

Values = Sequence[float | None]


def drawn(values: Values, logarithmic: bool) -> list[int]:
    """The places of the values that are drawn: a logarithm has no 0."""
    places = [
        place
        for place, value in enumerate(values)
        if value is not None and (value > 0 or not logarithmic)
    ]
    return places[:: ceil(len(places) / MOST_POINTS)] if places else []


def colours(mark: Mark) -> dict[str, str]:
    """A mark's colour in either scheme, where `lines.js` looks for it."""
    return {"light": mark.light, "dark": mark.dark}


def line(
    name: str, symbol: str, x: Sequence[float], y: Values, hover: Sequence[str], dash: str = "solid"
) -> dict[str, Any]:
    """A line with some symbols on it.

    Args:
        name: as plotly shows it (`payload.plot_text`); the texts of `hover` too.
    """
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(map(number, x)),
        "y": list(map(number, y)),
        "marker": {"symbol": symbol, "size": 8, "maxdisplayed": _SYMBOLS},
        "line": {"width": 2, "dash": dash},
        "hoverinfo": "text",
        "hovertext": list(hover),
    }


def band(x: Sequence[float], low: Values, high: Values) -> dict[str, Any]:
    """A filled way there along the most and back along the least."""
    there = list(map(number, x))
    return quiet(
        x=[*there, *reversed(there)],
        y=[*map(number, high), *map(number, reversed(low))],
        fill="toself",
        line={"width": 0},
    )


def quiet(**trace: Any) -> dict[str, Any]:
    """A line of which neither the legend nor the pointer tells."""
    return {
        "type": "scatter",
        "mode": "lines",
        "showlegend": False,
        "marker": {},
        "hoverinfo": "skip",
        **trace,
    }
