"""What `run` prints at its end: a row a backend, a row a case, and where the report is.

A ratio is a time over another time: 1.5x takes half as long again.
"""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.text import Text

from lstm_harness.analysis.contestants import Contestant, Entries, Entry, contestants, entries
from lstm_harness.analysis.noisiness import MARKED, WIDE, Noisiness, noisiness
from lstm_harness.analysis.ranking import fastest_by_case
from lstm_harness.analysis.summary import summarise
from lstm_harness.console import output
from lstm_harness.console.case_names import shared_words
from lstm_harness.model import text
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


def write(run: Run, page: Path | None, against: str | None = None) -> None:
    """What a reader must know of the run, on stderr; then the tables and, last, where the page is.

    Args:
        page: the report; None where there is none.
        against: the backend that the others are compared with, apart from the fastest.
    """
    for said in notes(run):
        output.warning(said)
    by_case = entries(summary(run), against)
    standing = contestants(by_case)
    if against and all(each.to_other is None for each in standing):
        there = ", ".join(one.backend for one in standing) or "nobody"
        output.warning(f"no ratio to {against}: it has no time in this run; who has: {there}")
    if standing:
        _write_standing(standing, len(by_case), against)
    timed = [one.backend for one in standing]
    every = dict.fromkeys([*timed, *(name for found in by_case.values() for name in found)])
    _write_cases(by_case, list(every), against)
    output.path(page or run.folder)


def _write_standing(standing: Sequence[Contestant], cases: int, against: str | None) -> None:
    """A row a backend: its time over the fastest's, over all cases."""
    more = [f"over {against}'s"] if against else []
    table = output.empty_table(
        *("backend", "cases", "fastest", "tied", "time over the fastest's", "at worst", *more)
    )
    for one in standing:
        counts = f"{one.cases} of {cases}", str(one.fastest), str(one.tied)
        other = [] if not against else [times(one.to_other) if one.to_other is not None else ""]
        table.add_row(Text(one.backend), *counts, times(one.mean), times(one.worst), *other)
    output.print_table(table)
    output.line("")


def _write_cases(by_case: Entries, backends: Sequence[str], against: str | None) -> None:
    """A row a case: the time of one backend, and every other's time over that."""
    common, short = shared_words(list(by_case))
    table = output.empty_table("case", *backends)
    for label, found in by_case.items():
        table.add_row(Text(short[label]), *case_cells(found, backends, against))
    output.print_table(table)
    held = f"{against}'s" if against else "the fastest's"
    output.line(
        f"A time is {held}; a ratio is a backend's time over it. tie: the two cannot be "
        "distinguished. ?: fewer than 3 blocks, so the interval is unknown."
    )
    if common:
        output.line(f"Every case: {common}")


def case_cells(
    found: Mapping[str, Entry], backends: Sequence[str], against: str | None
) -> list[Text]:
    """The cells of a case, backend by backend: a time, a ratio, or the status of who has neither.

    Where the one that the others are compared with has no time, every cell is a time.
    """
    ranks = {name: entry.rank for name, entry in found.items() if entry.rank is not None}
    held = against or next((name for name, rank in ranks.items() if rank == 1), None)
    held = held if held in ranks else None
    return [_cell(name, found.get(name), held, bool(against)) for name in backends]


def _cell(name: str, entry: Entry | None, held: str | None, to_other: bool) -> Text:
    if entry is None:
        return Text()
    if entry.rank is None:
        return Text(entry.status, style="red")
    style = "green" if entry.rank == 1 else ""
    ratio = entry.to_other if to_other else entry.to_fastest
    if name == held or held is None or ratio is None:
        return Text(output.duration(entry.median_ns), style=style)
    if ratio.tie is None:
        return Text(f"{times(ratio.value)}?", style=style)
    return Text("tie", style="dim") if ratio.tie else Text(times(ratio.value), style=style)


def times(ratio: float) -> str:
    """A ratio in a column of them: 1.15x, 12.3x."""
    return f"{text.significant(ratio)}x"


def lines(winners: pd.DataFrame) -> Iterator[list[str]]:
    """The cells of each line of the table, of the rows that `fastest` gives."""
    for row in winners.to_dict("records"):
        won = row["backend"] is not None
        yield [cell(row) for cell in COLUMNS.values()] if won else [row["label"], NOBODY]


def document(run: Run, page: Path | None, against: str | None = None) -> dict[str, Any]:
    """What `run --json` prints: where the run lies, its statuses, who is how fast, the noise."""
    rows = json.loads(fastest(run)[list(FIELDS)].to_json(orient="records"))
    measured = summary(run)
    by_case = entries(measured, against)
    return {
        "run": str(run.folder),
        "report": None if page is None else str(page),
        "records": len(run.records),
        "statuses": dict(Counter(record.standing[0] for record in run.records)),
        "fastest": rows,
        "against": against,
        "contestants": [asdict(one) for one in contestants(by_case)],
        "cases": [
            {"label": label, "backends": {n: _entry_told(entry) for n, entry in found.items()}}
            for label, found in by_case.items()
        ],
        "noise": _known(asdict(noisiness(measured))),
    }


def _entry_told(entry: Entry) -> dict[str, Any]:
    ratios = {"to_fastest": entry.to_fastest, "to_other": entry.to_other}
    told = {
        name: None if ratio is None else _known({**asdict(ratio), "tie": ratio.tie})
        for name, ratio in ratios.items()
    }
    return _known({"status": entry.status, "median_ns": entry.median_ns, "rank": entry.rank}) | told


def _known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for JSON, which has no NaN: what is unknown is null."""
    return {name: None if fact != fact else fact for name, fact in facts.items()}


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
        yield f"{entry['backend']} does not run: {entry['reason']}"
    if run.manifest.get("limits") is None:
        yield run.manifest.get("no_limits") or kept_limits.NONE_KEPT
    yield from _no_clocks(run)
    failed = ((r.backend, *r.standing) for r in run.records if r.standing[0] != "ok")
    yield from output.told_failures(failed)
    yield from _warnings(run)
    yield from noise(run)
    yield from _unfinished(run)


def noise(run: Run) -> Iterator[str]:
    """That a run was disturbed, or that its times are uncertain, a line each."""
    yield from told_noise(noisiness(summary(run)))


def told_noise(found: Noisiness) -> Iterator[str]:
    """The lines of `noise`."""
    if found.marked > MARKED:
        yield (
            f"{found.marked:.0%} of the samples were taken while something else used the machine "
            "or it was throttled; run again when it is quiet, or as root with chrt -f 5 in front"
        )
    if found.wide:
        least = f"\N{PLUS-MINUS SIGN}{WIDE:.0%}"
        widest = f"\N{PLUS-MINUS SIGN}{found.widest:.0%}" if found.widest < 1 else "over 100%"
        yield (
            f"the 95% interval of {found.wide} of {text.count(found.times, 'time')} is wider than "
            f"{least}; the widest is {widest} ({found.backend} on {found.case}); more --blocks "
            "make it narrower"
        )


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
    counts = Counter((record.backend, said) for record in run.records for said in record.warnings)
    for (backend, warning), number in counts.items():
        yield f"{backend}: in {text.count(number, 'record')}: {warning}"
