"""What the commands print: results to stdout, progress to stderr."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Suite, build
from lstm_harness.race.survey import Survey
from lstm_harness.race.visit import Outcome
from lstm_harness.store import kept_limits
from lstm_harness.store.run_folder import Run

if TYPE_CHECKING:
    import pandas as pd

    from lstm_harness.ab.selftest import CaseNoise
    from lstm_harness.judge.verdict import Verdict

# Wide enough for a line a case where there is no terminal to fit.
out = Console(width=None if sys.stdout.isatty() else 100)
err = Console(stderr=True)


def as_json(document: Any) -> None:
    """One JSON document on stdout and nothing else."""
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201 - the result itself


def winners(fastest: "pd.DataFrame") -> None:
    """The fastest correct backend of each case, with its margin over the next."""
    table = empty_table("case", "fastest", "median", "margin", "next")
    for row in fastest.to_dict("records"):
        if row["backend"] is None:
            table.add_row(Text(row["label"]), "no correct backend", "", "", "")
            continue
        table.add_row(
            Text(row["label"]),
            Text(row["backend"]),
            duration(row["median_ns"]),
            margin(row),
            Text(row["runner_up"] or "nobody else"),
        )
    out.print(table)


def margin(row: Mapping[Any, Any]) -> str:
    """The runner-up's time over the winner's, its interval, and whether that is a tie."""
    if row["runner_up"] is None:
        return ""
    if row["margin_low"] != row["margin_low"]:
        return f"{row['margin']:.2f}x, interval unknown"
    interval = f"{row['margin']:.2f}x ({row['margin_low']:.2f} to {row['margin_high']:.2f})"
    return f"tie, {interval}" if row["tie"] else interval


def duration(time_ns: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if time_ns >= 0.9995 * size:  # which three digits round up to it
            return f"{time_ns / size:.3g} {unit}"
    return f"{time_ns / 1e3:.3g} µs"


def failures(outcomes: Iterable[tuple[str, str, str]]) -> None:
    """Failed cells on stderr, one line a backend, status and reason, with how many cells."""
    for (backend, status, reason), count in Counter(outcomes).items():
        cells = f"{count} records" if count > 1 else "1 record"
        err.print(Text(f"{backend}: {status}, {cells}: {reason}"), soft_wrap=True)


def absent(run: Run) -> None:
    """Who takes no part, on stderr."""
    for entry in run.manifest["plan"]["absent"]:
        err.print(Text(f"{entry['backend']} takes no part: {entry['reason']}"), soft_wrap=True)


def unfinished(run: Run) -> None:
    """Say on stderr that the time budget was spent before every case was measured."""
    planned = run.manifest["plan"]["planned_records"]
    if run.manifest["end"] and len(run.records) < planned:
        go_on = shlex.join(["lstm-bench", "run", "--resume", str(run.folder)])
        warning(
            f"{len(run.records):,} of {planned:,} records: the time budget of "
            f"{run.manifest['spec']['time_budget_s']:g} s is spent; measure more with: {go_on}"
        )


def torn(run: Run) -> None:
    """Say that a half-written line was dropped, on stderr."""
    if run.torn:
        dropped = f"{run.folder}: the last line of records.jsonl is torn and was left out"
        err.print(Text(f"{dropped}; lstm-bench run --resume measures it again"), soft_wrap=True)


def no_limits(run: Run) -> None:
    """Why a run's records have no floor, on stderr."""
    if run.manifest.get("limits") is None:
        warning(run.manifest.get("no_limits") or kept_limits.NONE_KEPT)


def warnings(run: Run) -> None:
    """What records warn of, on stderr, one line a backend and warning."""
    found = Counter((record.backend, text) for record in run.records for text in record.warnings)
    for (backend, text), count in found.items():
        warning(f"{backend}: in {count} records: {text}")


def warning(text: str) -> None:
    """One line on stderr."""
    err.print(Text(text), soft_wrap=True)


def line(text: str) -> None:
    """One line of a result on stdout, whatever is in it."""
    out.print(Text(text), soft_wrap=True)


def baselines(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every baseline in a line."""
    table = empty_table("baseline", "cells", "records", "of run", "made", "commit")
    for row in rows:
        facts = ("name", "cells", "records", "run", "start", "commit")
        table.add_row(*(Text(str(row[name] if row[name] is not None else "")) for name in facts))
    out.print(table)


def path(place: Path | str) -> None:
    """A path or an address alone on a line, for scripts to take."""
    print(place, flush=True)  # noqa: T201 - the result itself


def run_document(run: Run, fastest: "pd.DataFrame", report: Path | None) -> dict[str, Any]:
    """What `run --json` prints: where the run lies, its statuses, the fastest a case."""
    columns = ["label", "backend", "median_ns", "runner_up", "margin", "margin_low", "margin_high"]
    rows = json.loads(fastest[[*columns, "tie"]].to_json(orient="records"))
    return {
        "run": str(run.folder),
        "report": None if report is None else str(report),
        "records": len(run.records),
        "statuses": dict(Counter(record.status for record in run.records)),
        "fastest": rows,
    }


def noise(cases: "Sequence[CaseNoise]", alarms: "Sequence[Verdict]") -> None:
    """What A differs from A by, case by case, and what could be told from that."""
    table = empty_table("backend", "case", "A against A", "blocks", "a slowdown is found from")
    for case in cases:
        verdict = case.verdict
        ratio = f"{verdict.ratio:.3f} ({verdict.low:.3f} to {verdict.high:.3f})"
        found = f"{case.resolvable:.1%}"
        table.add_row(
            Text(verdict.backend), Text(verdict.label), ratio, str(verdict.new_blocks), found
        )
    out.print(table)
    for verdict in alarms:
        what = f"{verdict.kind} of {verdict.measure}"
        out.print(
            Text(f"FALSE ALARM: {verdict.backend} on {verdict.label}: {what}"), soft_wrap=True
        )
    out.print(f"{len(alarms)} false alarms in {len(cases)} cases")


def backend_rows(survey: Survey) -> list[dict[str, Any]]:
    """Every backend: name, whether it can run here, and why not."""
    return [
        {
            "name": name,
            "available": name not in survey.missing,
            "reason": survey.missing.get(name),
            "raced": backend.raced,
            "summary": backend.summary,
            "devices": list(backend.devices),
        }
        for name, backend in survey.backends.items()
    ] + [
        {"name": source, "available": False, "reason": f"cannot be imported: {error}"}
        for source, error in survey.unavailable.items()
    ]


def backends(survey: Survey) -> None:
    """Who can run here, who cannot and why."""
    table = empty_table("backend", f"on {survey.device}", "what it is, or why not")
    for row in backend_rows(survey):
        says = row["summary"] if row["available"] else row["reason"]
        table.add_row(Text(row["name"]), "yes" if row["available"] else "no", Text(says))
    out.print(table)


def suites(found: Sequence[Suite]) -> None:
    """Every suite in a line."""
    table = empty_table("suite", "cases", "what it stands for")
    for each in found:
        table.add_row(each.name, str(len(_cases(each))), Text(each.title))
    out.print(table)


def suite_row(found: Suite) -> dict[str, Any]:
    """A suite as `suites --json` prints it."""
    cases = [case.to_dict() for case in _cases(found)]
    return {"name": found.name, "title": found.title, "source": found.source, "cases": cases}


def suite(found: Suite) -> None:
    """One suite's shapes and their source."""
    out.print(Text(f"{found.name}: {found.title}"), soft_wrap=True)
    out.print(Text(f"source: {found.source}"), soft_wrap=True)
    passes: dict[str, list[str]] = {}
    for case in _cases(found):
        passes.setdefault(case.problem.label(), []).append(case.pass_name)
    for label, names in passes.items():
        out.print(Text(f"  {label}: {', '.join(dict.fromkeys(names))}"), soft_wrap=True)


def plan(found: Plan) -> None:
    """What would run, what is skipped and why, how long."""
    table = empty_table("case", *found.backends)
    for case in found.cases:
        marks = ["skip" if (name, case) in found.skips else "run" for name in found.backends]
        table.add_row(Text(case.label()), *marks)
    out.print(table)
    skips = Counter((backend, skip.reason) for (backend, _), skip in found.skips.items())
    for (backend, reason), count in skips.items():
        out.print(Text(f"{backend} skips {count} cases: {reason}"), soft_wrap=True)
    for name, reason in found.absent.items():
        out.print(Text(f"{name} takes no part: {reason}"), soft_wrap=True)
    out.print(
        f"{found.planned_records} records in {found.blocks} blocks on {found.device}; about "
        f"{found.estimated_s / 60:.1f} minutes and {found.estimated_bytes / 2**20:,.0f} MiB, "
        "guessed from the sizes",
        soft_wrap=True,
    )


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


def verified(outcomes: Sequence[Outcome]) -> None:
    """One line a backend: how many cases are right, and its worst error."""
    table = empty_table("backend", "right", "wrong", "not checked", "worst error", "bound", "where")
    for name in dict.fromkeys(outcome.cell.backend for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.cell.backend == name]
        statuses = Counter(outcome.status for outcome in mine)
        right, wrong = statuses["ok"], statuses["incorrect"]
        counts = str(right), str(wrong), str(len(mine) - right - wrong)
        table.add_row(Text(name), *counts, *_error_cells(max(map(_worst, mine))))
    out.print(table)


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


def _cases(suite: Suite) -> tuple[Any, ...]:
    return build(suite, {}, {}).cases("cpu")


def empty_table(*columns: str) -> Table:
    """An empty one in the house's style, its columns named."""
    empty = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        empty.add_column(column, overflow="fold")
    return empty


def print_wide(rows: Table, width: int) -> None:
    """A table with a line a row: as wide as this where there is no terminal to fit."""
    (out if out.is_terminal else Console(width=width)).print(rows)
