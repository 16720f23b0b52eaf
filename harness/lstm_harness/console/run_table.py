"""What `run` prints at its end: a row a case with its fastest backend, and where the report is."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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
from lstm_kernels.registry import how_to_get

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
    for said in notes(run):
        output.warning(said)
    table = output.empty_table(*COLUMNS)
    for cells in lines(fastest(run)):
        table.add_row(*map(Text, cells))
    output.out.print(table)
    output.path(page or run.folder)


def lines(winners: pd.DataFrame) -> Iterator[list[str]]:
    """The cells of each line of the table, of the rows that `fastest` gives."""
    for row in winners.to_dict("records"):
        won = row["backend"] is not None
        yield [cell(row) for cell in COLUMNS.values()] if won else [row["label"], NOBODY]


def document(run: Run, page: Path | None) -> dict[str, Any]:
    """What `run --json` prints: where the run lies, its statuses, the fastest a case."""
    rows = json.loads(fastest(run)[list(FIELDS)].to_json(orient="records"))
    return {
        "run": str(run.folder),
        "report": None if page is None else str(page),
        "records": len(run.records),
        "statuses": dict(Counter(record.standing[0] for record in run.records)),
        "fastest": rows,
    }


def fastest(run: Run) -> pd.DataFrame:
    """A row a case (`ranking.fastest_by_case`) in the order of the plan, which is a reader's."""
    return fastest_by_case(summary(run))


def summary(run: Run) -> pd.DataFrame:
    """The run's Summary, its cases in the order of the plan."""
    cases = Plan.from_dict(run.manifest["plan"]).cases
    place = {case: number for number, case in enumerate(cases)}
    return summarise(sorted(run.records, key=lambda record: place[record.case]))


def notes(run: Run) -> Iterator[str]:
    """What a reader must know of the run, a line each: who is missing, what failed, what warns."""
    for entry in run.manifest["plan"]["absent"]:
        yield f"{entry['backend']} takes no part: {entry['reason']}"
    if run.manifest.get("limits") is None:
        yield run.manifest.get("no_limits") or kept_limits.NONE_KEPT
    yield from _no_clocks(run)
    failed = ((r.backend, *r.standing) for r in run.records if r.standing[0] != "ok")
    yield from output.told_failures(failed)
    yield from _warnings(run)
    yield from _unfinished(run)


def _no_clocks(run: Run) -> Iterator[str]:
    """That a GPU told nothing of its clocks: what NVML tells, its driver names first."""
    gpu = run.manifest["environment"].get("gpu")
    if gpu and gpu.get("driver") is None:
        lost = "no clocks, throttling or energy are recorded: NVML tells nothing here"
        yield f"{lost}; its library comes with {how_to_get(['pynvml'])}"


def _unfinished(run: Run) -> Iterator[str]:
    """That the time budget was spent before every case was measured."""
    planned = run.manifest["plan"]["planned_records"]
    if run.manifest["end"] and len(run.records) < planned:
        go_on = shlex.join(["lstm-bench", "run", "--resume", str(run.folder)])
        yield (
            f"{len(run.records):,} of {planned:,} records: the time budget of "
            f"{run.manifest['spec']['time_budget_s']:g} s is spent; measure more with: {go_on}"
        )


def _warnings(run: Run) -> Iterator[str]:
    """What records warn of, one line a backend and warning."""
    counts = Counter((record.backend, text) for record in run.records for text in record.warnings)
    for (backend, text), count in counts.items():
        yield f"{backend}: in {count} records: {text}"
