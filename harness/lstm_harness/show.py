"""What the commands print: results to stdout, progress to stderr."""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lstm_harness.limits import keep
from lstm_harness.limits.ceilings import Ceilings
from lstm_harness.measure import Outcome
from lstm_harness.plan import Cell, Plan
from lstm_harness.session import Watch
from lstm_harness.spec import Suite, build
from lstm_harness.store import Run
from lstm_harness.survey import Survey
from lstm_kernels.problem import Problem

if TYPE_CHECKING:
    import pandas as pd

    from lstm_harness.selftest import Noise
    from lstm_harness.verdict import Verdict

# Wide enough for a line a case where there is no terminal to fit.
out = Console(width=None if sys.stdout.isatty() else 100)
err = Console(stderr=True)


def as_json(document: Any) -> None:
    """One JSON document on stdout and nothing else."""
    print(json.dumps(document, indent=1, allow_nan=False))  # noqa: T201 - the result itself


class LiveProgress:
    """A bar on stderr with the cell in flight and the time left."""

    def __init__(self, quiet: bool) -> None:
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Watch:
        self._bar.start()
        return Watch(self._planned, self._started, self._finished)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _planned(self, total: int, done: int) -> None:
        self._bar.update(self._task, total=total, completed=done)

    def _started(self, cell: Cell) -> None:
        self._bar.update(self._task, description=f"{cell.backend} on {cell.case.label()}")

    def _finished(self, outcome: Outcome) -> None:
        self._bar.advance(self._task)


class Counting:
    """A bar on stderr for work that is counted: how many are done, of how many, which is next."""

    def __init__(self, quiet: bool) -> None:
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Callable[[int, int, str], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, done: int, total: int, label: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=label)


def winners(fastest: "pd.DataFrame") -> None:
    """The fastest correct backend of each case, with its margin over the next."""
    table = _table("case", "fastest", "median", "margin", "next")
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
        if time_ns >= size:
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
        warning(run.manifest.get("no_limits") or keep.NONE_KEPT)


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
    table = _table("baseline", "cells", "records", "of run", "made", "commit")
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


def noise(cases: "Sequence[Noise]", alarms: "Sequence[Verdict]") -> None:
    """What A differs from A by, case by case, and what could be told from that."""
    table = _table("backend", "case", "A against A", "blocks", "a slowdown is found from")
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
    table = _table("backend", f"on {survey.device}", "what it is, or why not")
    for row in backend_rows(survey):
        says = row["summary"] if row["available"] else row["reason"]
        table.add_row(Text(row["name"]), "yes" if row["available"] else "no", Text(says))
    out.print(table)


def suites(found: Sequence[Suite]) -> None:
    """Every suite in a line."""
    table = _table("suite", "cases", "what it stands for")
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
    table = _table("case", *found.backends)
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
        "errors": outcome.found.get("errors", {}),
        "tolerance": outcome.found.get("tolerance"),
    }


def verified(outcomes: Sequence[Outcome]) -> None:
    """One line a backend: how many cases are right, and its worst error."""
    table = _table("backend", "right", "wrong", "not checked", "worst error", "bound", "where")
    for name in dict.fromkeys(outcome.cell.backend for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.cell.backend == name]
        statuses = Counter(outcome.status for outcome in mine)
        right, wrong = statuses["ok"], statuses["incorrect"]
        counts = str(right), str(wrong), str(len(mine) - right - wrong)
        table.add_row(Text(name), *counts, *_error_cells(max(map(_worst, mine))))
    out.print(table)


def kernels(rows: Sequence[Mapping[str, Any]]) -> None:
    """What each kernel is made of, a row a kernel and size; then who was refused, and why."""
    table = _table(
        *("problem", "arch", "kernel", "regs", "stack", "local", "spill", "shared", "matrix"),
        *("weight loads in loop", "blocks/SM", "occupancy"),
    )
    for row in rows:
        label = Text(Problem.from_dict(row["problem"]).label())
        kernel = " ".join(filter(None, (row["kernel"], row.get("regime"), _variant(row, rows))))
        facts = _kernel_cells(row) if row["status"] == "ok" else ()
        table.add_row(label, row["arch"], Text(kernel or row["status"]), *facts)
    # A line a kernel where there is no terminal to fit.
    (out if out.is_terminal else Console(width=180)).print(table)
    for row in rows:
        if row["reason"]:
            where = f"{Problem.from_dict(row['problem']).label()} on {row['arch']}"
            out.print(Text(f"{where}: {row['status']}: {row['reason']}"), soft_wrap=True)


def ceilings(found: Ceilings) -> None:
    """What was measured of a device, a line a ceiling; then what has no figure, and why."""
    table = _table("ceiling", "median", "95% interval", "fastest", "unit", "what was done")
    for each in found.ceilings:
        figures = each.shown(each.value), each.interval(), each.shown(each.best)
        table.add_row(Text(each.name), *figures, each.shown_unit, Text(each.detail))
    # A line a ceiling where there is no terminal to fit.
    wide = out if out.is_terminal else Console(width=140)
    wide.print(table)
    if found.disturbed:
        warning(
            f"in {found.disturbed} of {found.rounds} rounds others used this machine: medians and "
            "intervals are too slow; measure again when it is quiet"
        )
    for name, reason in found.failures.items():
        out.print(Text(f"no figure for {name}: {reason}"), soft_wrap=True)


def floors(rows: Sequence[Mapping[str, Any]]) -> None:
    """The least time of each problem and pass, and what binds there."""
    table = _table("problem", "pass", "floor", "a step", "set by")
    for row in rows:
        label = Text(Problem.from_dict(row["problem"]).label())
        if row["floor_ns"] is None:
            table.add_row(label, row["pass"], "unknown")
            continue
        times = duration(row["floor_ns"]), duration(1e3 * row["step_us"])
        table.add_row(label, row["pass"], *times, row["term"])
    out.print(table)


def _variant(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What tells a kernel from the others of its name: one constant, or several that differ."""
    same = ("kernel", "arch", "problem")
    peers = [each for each in rows if all(each[name] == row[name] for name in same)]
    others = [each["constants"] for each in peers if each is not row and "constants" in each]
    own = row.get("constants", {})
    # A constant that another kernel lacks is a tensor there.
    differ = [n for n in own if any(n not in each or each[n] != own[n] for each in others)]
    enough = [n for n in differ if all(n not in each or each[n] != own[n] for each in others)]
    return " ".join(f"{name}={own[name]}" for name in enough[:1] or differ)


def _kernel_cells(row: Mapping[str, Any]) -> list[str]:
    amounts = ("registers", "stack_bytes", "local_bytes", "spill_bytes", "shared_bytes")
    matrix = ", ".join(f"{name} {count}" for name, count in row["matrix_instructions"].items())
    return [
        *(str(row[name]) for name in amounts),
        matrix or "none",
        f"{row['weight_loads_in_loop']} of {row['weight_loads']}",
        str(row["blocks_per_sm"]),
        f"{row['occupancy']:.0%}, {row['occupancy_limit']}",
    ]


def untuned(run: Run) -> None:
    """Which files of tuned parameters were refused, and why, on stderr."""
    tuned = run.manifest["environment"].get("tuned", {})
    for name in run.manifest["plan"]["backends"]:
        for reason in tuned.get(name, {}).get("refused", ()):
            warning(f"{name}: tuned parameters not used: {reason}")


def tuning(found: Mapping[str, Any]) -> None:
    """What became of each key, what failed and why, the time it took and, last, the file."""
    table = _table("key", "its own", "tuned", "ratio", "chosen", "tried", "wrong", "failed")
    for row in found["keys"]:
        counts = (str(row[name] or "") for name in ("tried", "wrong", "failed"))
        times = (_times(row[name]) for name in ("own_us", "tuned_us"))
        table.add_row(Text(row["key"]), *times, _ratio(row["ratio"]), _chosen(row), *counts)
    (out if out.is_terminal else Console(width=180)).print(table)
    for row in found["keys"]:
        for each in row["failures"]:
            what = _differences(each["choice"], row["own"])
            warning(f"{row['key']}: {what}: {each['status']}: {each['reason']}")
    for row in found["skipped"]:
        warning(f"{row['label']}: skipped: {row['reason']}")
    missed = sum(row["status"] == "not_reached" for row in found["keys"])
    if missed:
        warning(f"{missed} keys not reached in --time-budget; the same command goes on with them")
    out.print(f"{found['tuning_s']:g} s, of which {found['compile_s']:g} s compiling")
    if found["file"]:
        path(found["file"])


def _chosen(row: Mapping[str, Any]) -> Text:
    """What differs from the backend's own choice; or that it is kept, or why there is none."""
    if row["status"] not in ("tuned", "kept", "known"):
        return Text(f"{row['status'].replace('_', ' ')}: {row['reason']}".removesuffix(": "))
    said = _differences(row["choice"], row["own"]) if row["choice"] else "its own"
    return Text(f"{said} (known)" if row["status"] == "known" else said)


def _differences(choice: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    differ = [f"{name}={value}" for name, value in choice.items() if own.get(name) != value]
    return " ".join(differ) or "its own"


def _times(us: Sequence[float | None] | None) -> str:
    return "" if us is None else _interval(us, ".4g", " µs")


def _ratio(of: Sequence[float | None] | None) -> str:
    return "" if of is None else _interval(of, ".3f", "")


def _interval(interval: Sequence[float | None], form: str, unit: str) -> str:
    mid, *ends = interval
    shown = f"{mid:{form}}{unit}"
    if None in ends:
        return shown
    low, high = ends
    return f"{shown} ({low:{form}} to {high:{form}})"


def _worst(outcome: Outcome) -> tuple[float, float, str]:
    errors = outcome.found.get("errors", {})
    sizes = {n: float("inf") if error is None else error for n, error in errors.items()}
    name = max(sizes, key=lambda n: sizes[n], default="")
    where = f"{name} of {outcome.cell.case.label()}" if name else ""
    return sizes.get(name, -1.0), outcome.found.get("tolerance") or 0.0, where


def _error_cells(worst: tuple[float, float, str]) -> tuple[str, str, Text]:
    error, bound, where = worst
    if error < 0:
        return "", "", Text("")
    return f"{error:.1e}", f"{bound:.0e}" if bound else "", Text(where)


def _cases(suite: Suite) -> tuple[Any, ...]:
    return build(suite, {}, {}).cases("cpu")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
