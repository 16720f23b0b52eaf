"""What `history` prints: a row a series, worst first, then every change with its run and commit."""

from collections import Counter
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.history.series import ENVIRONMENT, STEP, History, RunInfo, Series

# More changes than this are counted; `--json` lists them all.
MOST_CHANGES = 40
# More runs that are not whole than this are counted.
MOST_PARTS = 5


def table(history: History) -> None:
    """The series, then the changes."""
    several = len({machine_name(one) for one in history.series}) > 1
    names = ("backend", *(["machine"] if several else []), "runs", "last", "since", "step", "at")
    rows = output.empty_table("case", *names)
    for one in history.series:
        step = one.last_step
        where = [Text(machine_name(one))] if several else []
        rows.add_row(
            Text(one.case.label()),
            Text(one.backend),
            *where,
            str(len(one.runs)),
            output.duration(one.times_ns[-1]) if one.last_status == "ok" else one.last_status,
            percent(one.since),
            percent(step.ratio) if step else "",
            Text(place(history.runs[one.runs[step.at]])) if step else "",
        )
    output.print_table(rows)
    _steps(history)
    _environments(history)


def left_out(history: History) -> None:
    """What no run could be read from, one line each on stderr, and which runs are not whole."""
    for path, reason in history.left_out:
        output.warning(f"left out: {path}: {reason}")
    parts = [f"{run.path} ({run.lacks:,})" for run in history.runs if run.lacks]
    if parts:
        more = f" and {len(parts) - MOST_PARTS:,} more runs" if len(parts) > MOST_PARTS else ""
        output.warning(f"planned records are missing in {', '.join(parts[:MOST_PARTS])}{more}")


def document(store: str, history: History) -> dict[str, Any]:
    """What `history --json` prints; its schema is history.schema.json."""
    return {
        "schema": 1,
        "store": store,
        "runs": [vars(run) for run in history.runs],
        "left_out": [{"path": path, "reason": reason} for path, reason in history.left_out],
        "series": [_row(one) for one in history.series],
    }


def machine_name(series: Series) -> str:
    """The host and the device's name."""
    facts = series.machine
    device = facts.get("gpu.name") or facts.get("cpu.model") or "unknown device"
    return f"{facts.get('host') or 'unknown host'}, {device}"


def percent(ratio: float) -> str:
    """A ratio as what it adds: +10.2%."""
    return f"{ratio - 1:+.1%}"


def place(run: RunInfo) -> str:
    """When a run started, its id and its commit."""
    return " ".join(filter(None, (run.start[:10], run.id, run.commit[:9])))


def _row(one: Series) -> dict[str, Any]:
    return {
        "backend": one.backend,
        "label": one.case.label(),
        **one.case.to_dict(),
        "machine": dict(one.machine),
        "last_status": one.last_status,
        "last_ns": one.times_ns[-1],
        "level_ns": one.level_ns,
        "since": one.since,
        "changes": [
            {
                "kind": change.kind,
                "run": one.runs[change.at],
                "before_ns": change.before_ns,
                "after_ns": change.after_ns,
                "ratio": change.ratio,
                "what": list(change.what),
            }
            for change in one.changes
        ],
        "runs": list(one.runs),
        "times_ns": list(one.times_ns),
        "failed_runs": list(one.failed),
    }


def _steps(history: History) -> None:
    steps = [(c, one) for one in history.series for c in one.changes if c.kind == STEP]
    steps.sort(key=lambda pair: -pair[0].ratio)
    for change, one in steps[:MOST_CHANGES]:
        where = place(history.runs[one.runs[change.at]])
        told = f"{output.duration(change.before_ns)} to {output.duration(change.after_ns)}"
        output.line(f"{percent(change.ratio)} {one.backend} {one.case.label()}: {told} at {where}")
    if len(steps) > MOST_CHANGES:
        output.line(f"and {len(steps) - MOST_CHANGES:,} smaller steps; --json has them all")
    if not steps:
        output.line("no step in any series" if history.series else "no series")


def _environments(history: History) -> None:
    kept: Counter[tuple[int, str, tuple[str, ...]]] = Counter()
    for one in history.series:
        for change in one.changes:
            if change.kind == ENVIRONMENT:
                kept[one.runs[change.at], machine_name(one), change.what] += 1
    for (run, machine, what), count in sorted(kept.items())[-MOST_CHANGES:]:
        series = "1 series begins" if count == 1 else f"{count:,} series begin"
        output.line(f"{series} again on {machine} at {place(history.runs[run])}: {', '.join(what)}")
