"""How far the times of a run can be trusted, in a sentence or two."""

import math
from statistics import median

from lstm_harness.model import text
from lstm_harness.report.chart import Row, Rows, of_each_run


def answer(rows: Rows) -> str:
    """How sure the medians are and how much disturbed the samples, from rows of a Summary."""
    return of_each_run(rows, _of_run)


def _of_run(rows: Rows) -> str:
    ok = [row for row in rows if row["status"] == "ok"]
    if not ok:
        return "Nothing was timed."
    return f"{_intervals(ok)} {_marks(ok)}"


def _intervals(ok: Rows) -> str:
    known = [row for row in ok if not math.isnan(row["low_ns"])]
    if not known:
        return "How sure a time is, is unknown: an interval needs 3 blocks or more."
    widest = max(known, key=_reach)
    where = f"{text.shorten(widest['backend'])} on {widest['label']}"
    if len(known) == 1:
        said = f"The time of {where} is known within {_percent(_reach(widest))}"
    else:
        said = (
            f"Half of the {len(known):,} times are known within "
            f"{_percent(median(map(_reach, known)))} or better; the least sure, {where}, within "
            f"{_percent(_reach(widest))}"
        )
    return f"{said} (95% intervals)."


def _reach(row: Row) -> float:
    """How far either end of the interval lies from its middle, on a logarithm's scale."""
    return math.sqrt(float(row["high_ns"]) / float(row["low_ns"])) - 1


def _percent(share: float) -> str:
    return f"±{text.significant(100 * share, 2)}%"


def _marks(ok: Rows) -> str:
    samples = sum(row["samples"] for row in ok)
    marked = round(sum(row["samples"] * row["marked_share"] for row in ok))
    if not marked:
        return f"None of {samples:,} samples is marked as disturbed."
    are = "is" if marked == 1 else "are"
    return f"{marked:,} of {samples:,} samples {are} marked as disturbed, and kept."
