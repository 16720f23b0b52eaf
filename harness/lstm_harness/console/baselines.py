"""What `baseline` prints: those there are, and what one of a run would not check."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.store.run_folder import Run


def unchecked(run: Run) -> None:
    """Say on stderr which cases of a run a baseline of it will not check."""
    planned = run.manifest["plan"]["planned_records"]
    if len(run.records) < planned:
        there = f"{len(run.records):,} of {planned:,} records"
        output.warning(f"{run.folder} is not whole: {there}; what is missing will not be checked")
    untimed = Counter(r.standing[0] for r in run.records if r.standing[0] != "ok")
    if untimed:
        told = ", ".join(f"{count} {status}" for status, count in untimed.items())
        output.warning(
            f"{run.folder} has records without a time ({told}); their cases will not be checked"
        )


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every baseline in a line."""
    lines = output.empty_table("baseline", "cells", "records", "of run", "made", "commit")
    for row in rows:
        facts = ("name", "cells", "records", "run", "start", "commit")
        lines.add_row(*(Text(str(row[name] if row[name] is not None else "")) for name in facts))
    output.print_table(lines)
