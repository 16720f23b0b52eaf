"""What `run` prints at its end: a row a case with its fastest backend, and where the report is."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.text import Text

from lstm_harness.analysis.ranking import fastest_by_case
from lstm_harness.analysis.summary import summarise
from lstm_harness.console import output
from lstm_harness.model.plan import Plan
from lstm_harness.store import kept_limits
from lstm_harness.store.run_folder import Run

NOBODY = "no correct backend"


def margin(row: Mapping[Any, Any]) -> str:
    """The runner-up's time over the winner's, its interval, and whether that is a tie."""
    if row["runner_up"] is None:
        return ""
    if row["margin_low"] != row["margin_low"]:
        return f"{row['margin']:.2f}x, interval unknown"
    interval = f"{row['margin']:.2f}x ({row['margin_low']:.2f} to {row['margin_high']:.2f})"
    return f"tie, {interval}" if row["tie"] else interval


# The columns of the table, each made from a row of `ranking.fastest_by_case`.
COLUMNS: Mapping[str, Callable[[Mapping[Any, Any]], str]] = {
    "case": lambda row: row["label"],
    "fastest": lambda row: row["backend"],
    "median": lambda row: output.duration(row["median_ns"]),
    "margin": margin,
    "next": lambda row: row["runner_up"] or "nobody else",
}
# What `--json` takes from such a row.
FIELDS = (
    *("label", "backend", "median_ns", "runner_up", "margin", "margin_low", "margin_high"),
    "tie",
)


def write(run: Run, page: Path | None) -> None:
    """What a reader must know of the run, on stderr; then the table and, last, where the page is.

    Args:
        page: the report; None where there is none.
    """
    _absent(run)
    _no_limits(run)
    output.failures((r.backend, *r.standing) for r in run.records if r.standing[0] != "ok")
    _warnings(run)
    _unfinished(run)
    table = output.empty_table(*COLUMNS)
    for row in _fastest(run).to_dict("records"):
        won = row["backend"] is not None
        cells = [cell(row) for cell in COLUMNS.values()] if won else [row["label"], NOBODY]
        table.add_row(*map(Text, cells))
    output.out.print(table)
    output.path(page or run.folder)


def document(run: Run, page: Path | None) -> dict[str, Any]:
    """What `run --json` prints: where the run lies, its statuses, the fastest a case."""
    rows = json.loads(_fastest(run)[list(FIELDS)].to_json(orient="records"))
    return {
        "run": str(run.folder),
        "report": None if page is None else str(page),
        "records": len(run.records),
        "statuses": dict(Counter(record.standing[0] for record in run.records)),
        "fastest": rows,
    }


def _fastest(run: Run) -> pd.DataFrame:
    """A row a case in the order of the plan's cases, which is a reader's order."""
    cases = Plan.from_dict(run.manifest["plan"]).cases
    place = {case: number for number, case in enumerate(cases)}
    as_planned = sorted(run.records, key=lambda record: place[record.case])
    return fastest_by_case(summarise(as_planned))


def _absent(run: Run) -> None:
    """Who takes no part, on stderr."""
    for entry in run.manifest["plan"]["absent"]:
        output.warning(f"{entry['backend']} takes no part: {entry['reason']}")


def _no_limits(run: Run) -> None:
    """Why a run's records have no floor, on stderr."""
    if run.manifest.get("limits") is None:
        output.warning(run.manifest.get("no_limits") or kept_limits.NONE_KEPT)


def _unfinished(run: Run) -> None:
    """Say on stderr that the time budget was spent before every case was measured."""
    planned = run.manifest["plan"]["planned_records"]
    if run.manifest["end"] and len(run.records) < planned:
        go_on = shlex.join(["lstm-bench", "run", "--resume", str(run.folder)])
        output.warning(
            f"{len(run.records):,} of {planned:,} records: the time budget of "
            f"{run.manifest['spec']['time_budget_s']:g} s is spent; measure more with: {go_on}"
        )


def _warnings(run: Run) -> None:
    """What records warn of, on stderr, one line a backend and warning."""
    counts = Counter((record.backend, text) for record in run.records for text in record.warnings)
    for (backend, text), count in counts.items():
        output.warning(f"{backend}: in {count} records: {text}")
