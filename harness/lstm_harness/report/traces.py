"""Plotly traces of points, as short as plotly reads them: a page holds thousands."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.report import text


@dataclass(frozen=True)
class Point:
    """A point of a drawing.

    Attributes:
        x, y: where it stands.
        low, high: the ends of y's interval; NaN where unknown.
        number: of the Summary's row that it shows (see `panels.numbered`); None where it shows no
            single one.
    """

    x: Any
    y: float
    low: float = math.nan
    high: float = math.nan
    number: int | None = None


def trace(index: int | None, points: Sequence[Point], **more: Any) -> dict[str, Any]:
    """A plotly trace; its type is plotly's default, a scatter, where `more` gives no other.

    Args:
        index: the backend's place in the page's list; None for what is nobody's.
        more: what else plotly reads in a trace.
    """
    made = {
        "meta": index,
        **more,
        "x": [point.x for point in points],
        "y": [text.number(point.y) for point in points],
    }
    if any(_known(point) for point in points):
        made["error_y"] = {
            "array": [_reach(point, point.high - point.y) for point in points],
            "arrayminus": [_reach(point, point.y - point.low) for point in points],
        }
    numbers = [point.number for point in points]
    if None not in numbers:
        made["customdata"] = numbers
    return made


def _known(point: Point) -> bool:
    return not (math.isnan(point.low) or math.isnan(point.high))


def _reach(point: Point, length: float) -> float:
    """How long an error bar is: 0 where the interval is unknown, or ends on y's other side."""
    reach: float = text.number(max(0.0, length)) if _known(point) else 0
    return reach
