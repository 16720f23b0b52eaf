"""What all figures share: groups of rows, axes, traces, intervals, and words for sizes and ratios.

Nothing here knows HTML; every text is plain and short.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.model import text
from lstm_harness.report.payload import number

LABELS = {
    "run": "Run",
    "cell": "Cell",
    "seq_len": "T",
    "batch": "B",
    "input_size": "Input I",
    "hidden_size": "Hidden H",
    "num_layers": "Layers",
    "bidirectional": "Bidirectional",
    "bias": "Bias",
    "proj_size": "Projection",
    "dtype": "Dtype",
    "precision": "Precision",
    "lengths": "Lengths",
    "heads": "Heads",
    "pass": "Pass",
    "launch": "Launch",
    "cache": "Cache",
    "batch_first": "Batch first",
    "autocast": "Autocast",
    "dropout": "Dropout",
    "device": "Device",
}
# The columns that tell how large a problem is, and not what it does.
SIZES = ("seq_len", "batch", "input_size", "hidden_size", "bias", "proj_size")
AXIS_TITLE = {
    "seq_len": "T, steps in a sequence",
    "batch": "B, sequences in a batch",
    "hidden_size": "H, hidden size",
}

Row = dict[str, Any]
Rows = Sequence[Row]


def grouped(rows: Rows, names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows that share their values of these columns, by those values."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def by_backend(rows: Rows, backends: Sequence[str]) -> list[tuple[int, list[Row]]]:
    """The rows of each backend that has some, with its place in the page's list."""
    lines = grouped(rows, ["backend"])
    return [(index, lines[(name,)]) for index, name in enumerate(backends) if (name,) in lines]


def pairs_against(rows: Rows, name: str, plain: Any) -> list[tuple[Row, Row]]:
    """Every two rows of one backend, and of one run, that differ in this column alone.

    Args:
        plain: the column's value in the second row of each pair.
    """
    run = ("run",) if rows and "run" in rows[0] else ()
    shared = ("backend", *run, *(other for other in CASE_COLUMNS if other != name))
    pairs = []
    for group in grouped(rows, shared).values():
        against = next((row for row in group if row[name] == plain), None)
        if against is not None:
            pairs += [(row, against) for row in group if row is not against]
    return pairs


def running_along(summary: pd.DataFrame, sizes: Sequence[str]) -> str:
    """The size that figures run along: the first of these that varies."""
    return next((name for name in sizes if summary[name].nunique() > 1), sizes[0])


def sizes_of(rows: Rows, name: str) -> list[int]:
    """The sizes that rows have in a column, in order."""
    return sorted({int(row[name]) for row in rows})


def axis_of(sizes: Sequence[int], name: str) -> dict[str, Any]:
    """An axis of sizes of this column, each with its tick; logarithmic where they double."""
    return {
        "type": "log" if _doubles(sizes) else "linear",
        "title": {"text": AXIS_TITLE[name]},
        "tickvals": list(sizes),
        "ticktext": [str(size) for size in sizes],
    }


def _doubles(sizes: Sequence[int]) -> bool:
    """Whether sizes grow by a factor more than by a step."""
    return len(sizes) > 1 and sizes[0] > 0 and sizes[-1] >= 2 * sizes[0]


@dataclass(frozen=True)
class Point:
    """A point of a drawing.

    Attributes:
        x, y: where it stands.
        low, high: the ends of y's interval; NaN where unknown.
        number: of the Summary's row that it shows (see `panel.numbered`); None where it shows no
            single one.
    """

    x: Any
    y: float
    low: float = math.nan
    high: float = math.nan
    number: int | None = None


def trace(index: int | None, points: Sequence[Point], **more: Any) -> dict[str, Any]:
    """A plotly trace, as short as plotly reads it: a page holds thousands.

    Its type is plotly's default, a scatter, where `more` gives no other.

    Args:
        index: the backend's place in the page's list; None for what belongs to no backend.
        more: what else plotly reads in a trace.
    """
    made = {
        "meta": index,
        **more,
        "x": [point.x for point in points],
        "y": [number(point.y) for point in points],
        **error_bars("error_y", [(point.y, point.low, point.high) for point in points]),
    }
    numbers = [point.number for point in points]
    if None not in numbers:
        made["customdata"] = numbers
    return made


def error_bars(axis: str, known: Iterable[tuple[float, float, float]]) -> dict[str, Any]:
    """What a trace holds of intervals, under `error_x` or `error_y`; nothing if all are unknown.

    Args:
        known: value, low and high of each point; NaN for an end that is unknown, not drawn.
    """
    points = list(known)
    if all(math.isnan(low) for _, low, _ in points):
        return {}
    return {
        axis: {
            "array": [_reach(value, high) for value, _, high in points],
            "arrayminus": [_reach(low, value) for value, low, _ in points],
        }
    }


def _reach(low: float, high: float) -> float:
    """How far an interval's end lies from the value: 0 where unknown, or on its other side."""
    reach: float = number(max(0.0, high - low)) if math.isfinite(high - low) else 0
    return reach


def ratio_told(ratio: Ratio) -> str:
    """A ratio and its interval, where that is known."""
    if math.isnan(ratio.low):
        return text.ratio(ratio.value)
    interval = f"95%: {text.ratio(ratio.low)} to {text.ratio(ratio.high)}"
    return f"{text.ratio(ratio.value)} ({interval})"


def place_told(row: Row, names: Iterable[str]) -> str:
    """What a row has in these columns: `T = 32, B = 4, forward`."""
    return ", ".join(_told(name, row[name]) for name in names)


def _told(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{LABELS[name].lower()}: {'yes' if value else 'no'}"
    if isinstance(value, int):
        return f"{sign_of(name)} = {value}"
    return text.shorten(str(value))


def sign_of(name: str) -> str:
    """The letter of a size, as in `T = 32`, or the word where it has none."""
    return LABELS[name].rpartition(" ")[2]


def of_each_run(rows: Rows, say: Callable[[Rows], str]) -> str:
    """A sentence over all rows; where they are of several runs, one for each."""
    if not rows or "run" not in rows[0]:
        return say(rows)
    said = {run: say(part) for (run,), part in grouped(rows, ["run"]).items()}
    return " ".join(f"{text.shorten(run)}: {sentence}" for run, sentence in said.items())
