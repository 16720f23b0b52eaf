"""What `run --watch` prints of each edit: its times, and whether it is faster."""

from collections.abc import Mapping, Sequence

import pandas as pd
from rich.text import Text

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.summary import plain_rows
from lstm_harness.analysis.together import of_all
from lstm_harness.console import output
from lstm_harness.model.text import count


def against(new: pd.DataFrame, old: pd.DataFrame) -> Ratio | None:
    """The newer edit's time over the older one's, all cases together; None where none is shared."""
    known = {
        (row["backend"], row["label"]): row for row in plain_rows(old) if row["status"] == "ok"
    }
    pairs = [
        (row, known[row["backend"], row["label"]])
        for row in plain_rows(new)
        if row["status"] == "ok" and (row["backend"], row["label"]) in known
    ]
    return of_all(pairs)


def times(new: pd.DataFrame, others: Mapping[int, pd.DataFrame]) -> None:
    """A row a case: its time with the interval, and that over each other edit's."""
    table = output.empty_table(
        "backend", "case", "time", "95% interval", *(f"over edit {number}" for number in others)
    )
    for row in plain_rows(new):
        alone = new[(new["backend"] == row["backend"]) & (new["label"] == row["label"])]
        ratios = [ratio_told(against(alone, other)) for other in others.values()]
        timed = row["status"] == "ok"
        low, high = (output.duration(row[end]) for end in ("low_ns", "high_ns"))
        cells = (
            (output.duration(row["median_ns"]), f"{low} to {high}")
            if timed
            else (row["status"], "")
        )
        table.add_row(Text(row["backend"]), Text(row["label"]), *cells, *ratios)
    output.print_table(table)


def ratio_told(ratio: Ratio | None) -> str:
    """A ratio with its interval, and what it means."""
    if ratio is None:
        return ""
    if ratio.tie is None:
        return f"{ratio.value:.3f}x, interval unknown"
    return f"{ratio.value:.3f}x ({ratio.low:.3f} to {ratio.high:.3f}), {meaning(ratio)}"


def meaning(ratio: Ratio | None) -> str:
    """Whether the newer is faster."""
    if ratio is None or ratio.tie is not False:
        return "cannot tell"
    return "faster" if ratio.value < 1 else "slower"


def verdict(number: int, roles: Sequence[tuple[int, str]], ratios: Sequence[Ratio | None]) -> None:
    """One sentence for each edit that the newest is compared with.

    Args:
        roles: of each other edit its number and what it is.
    """
    for (other, role), ratio in zip(roles, ratios, strict=True):
        told = ratio_told(ratio) or "no case in common"
        output.line(f"edit {number} against edit {other}, {role}: {told}")


def summary(edits: int, failed: int, kept: int, best: str | None) -> None:
    """What a watch came to, in one line."""
    told = f"{count(edits, 'edit')}, {failed} not measured, {kept} kept"
    output.line(f"{told}; the best is {best}" if best else told)
