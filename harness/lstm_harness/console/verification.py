"""What `verify` prints: a row a backend, and what failed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.race.visit import Outcome


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """A verified cell as `verify --json` prints it."""
    return {
        "backend": outcome.cell.backend,
        **outcome.cell.case.to_dict(),
        "status": outcome.status,
        "reason": outcome.reason,
        "errors": outcome.errors,
        "tolerance": outcome.tolerance,
    }


def table(outcomes: Sequence[Outcome]) -> None:
    """A line a backend: how many cases are right, its worst error; then what failed, on stderr."""
    rows = output.empty_table(
        "backend", "right", "wrong", "not checked", "worst error", "bound", "where"
    )
    for name in dict.fromkeys(outcome.cell.backend for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.cell.backend == name]
        statuses = Counter(outcome.status for outcome in mine)
        right, wrong = statuses["ok"], statuses["incorrect"]
        counts = str(right), str(wrong), str(len(mine) - right - wrong)
        rows.add_row(Text(name), *counts, *_error_cells(max(map(_worst, mine))))
    output.print_table(rows)
    # Nothing is kept of a verification: what it counts are cases.
    output.failures(((o.cell.backend, o.status, o.reason) for o in outcomes if o.reason), "case")


def _worst(outcome: Outcome) -> tuple[float, float, str]:
    errors = outcome.errors
    sizes = {n: float("inf") if error is None else error for n, error in errors.items()}
    name = max(sizes, key=lambda n: sizes[n], default="")
    where = f"{name} of {outcome.cell.case.label()}" if name else ""
    return sizes.get(name, -1.0), outcome.tolerance or 0.0, where


def _error_cells(worst: tuple[float, float, str]) -> tuple[str, str, Text]:
    error, bound, where = worst
    if error < 0:
        return "", "", Text("")
    return f"{error:.1e}", f"{bound:.0e}" if bound else "", Text(where)
