"""How few measurements a figure rests on, in words; nothing where there are enough."""

from collections.abc import Sequence

from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.model import text
from lstm_harness.report.chart import Row, Rows, grouped
from lstm_harness.report.panel import Figure

# A line through fewer cases shows no shape.
ENOUGH_CASES = 3
# An interval of fewer blocks is wide: at 3, Student's t is 4.3; at 5 it is 2.8.
ENOUGH_BLOCKS = 5
# Fewer have no interval at all.
FOR_AN_INTERVAL = 3


def few(rows: Rows) -> str:
    """What a reader must know of figures drawn from these ok rows of a Summary."""
    if not rows:
        return ""
    cases = len(grouped(rows, CASE_COLUMNS))
    blocks = min(_blocks(row) for row in rows)
    if cases >= ENOUGH_CASES and blocks >= ENOUGH_BLOCKS:
        return ""
    said = f"Few points: {text.count(cases, 'case')}, {_counted(rows)}"
    return said + (" (no interval below 3 blocks)." if blocks < FOR_AN_INTERVAL else ".")


def of_figure(figure: Figure, rows: Rows) -> str:
    """The same of a figure's own points; nothing of one whose points are each of several rows.

    Args:
        rows: all of the Summary, which `customdata` counts.
    """
    return few([rows[number] for number in _numbers(figure)])


def _numbers(figure: Figure) -> Sequence[int]:
    traces = [trace for plot in figure.plots for trace in plot.data]
    return sorted({number for trace in traces for number in trace.get("customdata", ())})


def _blocks(row: Row) -> int:
    return len(row["block_ids"])


def _counted(rows: Rows) -> str:
    least, most = (end(map(_blocks, rows)) for end in (min, max))
    if least == most:
        return f"{text.count(most, 'block')} each"
    return f"{least} to {most} blocks each"
