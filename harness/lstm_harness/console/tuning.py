"""What `tune` prints, and which tuned parameters a run could not use."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from lstm_harness.console import output
from lstm_harness.store.run_folder import Run


def untuned(run: Run) -> None:
    """Which files of tuned parameters were refused, and why, on stderr."""
    tuned = run.manifest["environment"].get("tuned", {})
    for name in run.manifest["plan"]["backends"]:
        for reason in tuned.get(name, {}).get("refused", ()):
            output.warning(f"{name}: tuned parameters not used: {reason}")


def tuning(result: Mapping[str, Any]) -> None:
    """What became of each key, what failed and why, the time it took and, last, the file."""
    table = output.empty_table(
        "key", "its own", "tuned", "ratio", "chosen", "tried", "wrong", "failed"
    )
    for row in result["keys"]:
        counts = (str(row[name] or "") for name in ("tried", "wrong", "failed"))
        times = (_times(row[name]) for name in ("own_us", "tuned_us"))
        table.add_row(Text(row["key"]), *times, _ratio(row["ratio"]), _chosen(row), *counts)
    output.print_table(table)
    for row in result["keys"]:
        for each in row["failures"]:
            what = _differences(each["choice"], row["own"])
            output.warning(f"{row['key']}: {what}: {each['status']}: {each['reason']}")
    for row in result["skipped"]:
        output.warning(f"{row['label']}: skipped: {row['reason']}")
    missed = sum(row["status"] == "not_reached" for row in result["keys"])
    if missed:
        output.warning(
            f"{missed} keys not reached in --time-budget; the same command goes on with them"
        )
    output.line(f"{result['tuning_s']:g} s, of which {result['compile_s']:g} s compiling")
    if result["file"]:
        output.path(result["file"])


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


def _ratio(ratio: Sequence[float | None] | None) -> str:
    return "" if ratio is None else _interval(ratio, ".3f", "")


def _interval(interval: Sequence[float | None], form: str, unit: str) -> str:
    mid, *ends = interval
    shown = f"{mid:{form}}{unit}"
    if None in ends:
        return shown
    low, high = ends
    return f"{shown} ({low:{form}} to {high:{form}})"
