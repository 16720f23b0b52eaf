"""A Summary and its manifests to what is listed: trust, refusals, environment, every row."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import pandas as pd

from lstm_harness.analysis.correctness import CORRECTNESS_COLUMNS, correctness_by_backend
from lstm_harness.analysis.summary import CASE_COLUMNS, SEVERITY, plain_rows
from lstm_harness.model import text
from lstm_harness.model.case import PLAIN, Case
from lstm_harness.model.record import SCHEMA
from lstm_harness.report.chart import LABELS
from lstm_harness.report.payload import number
from lstm_harness.store.run_folder import Run

ORACLE = "float64 reference"

# The order of the columns of errors: outputs, then gradients from the input inwards.
TENSORS = (
    *("y", "h_n", "c_n", "d_x", "d_h0", "d_c0"),
    *("d_w_ih", "d_w_hh", "d_w_hr", "d_b_ih", "d_b_hh"),
)

# Columns of the table of all rows, after the case's own: name, title, unit.
MEASURED = (
    ("status", "Status", ""),
    ("median_ns", "Median", "ns"),
    ("low_ns", "Low", "ns"),
    ("high_ns", "High", "ns"),
    ("sequences_per_s", "Sequences", "1/s"),
    ("steps_per_s", "Steps", "1/s"),
    ("step_us", "A step", "µs"),
    ("tflops", "Arithmetic", "TFLOP/s"),
    ("gbytes_per_s", "Traffic", "GB/s"),
    ("floor_ns", "Floor", "ns"),
    ("floor_share", "Share of floor", ""),
    ("floor_term", "Floor set by", ""),
    ("worst_error", "Worst error", ""),
    ("tolerance", "Bound", ""),
    ("peak_bytes", "Peak memory", "B"),
    ("saved_bytes", "Saved", "B"),
    ("setup_ms", "Set-up", "ms"),
    ("compile_ms", "Compile", "ms"),
    ("energy_mj", "Energy", "mJ"),
    ("sm_clock_mhz", "SM clock", "MHz"),
    ("blocks", "Blocks", ""),
    ("samples", "Samples", ""),
    ("marked_share", "Marked share", ""),
    ("reason", "Reason", ""),
)


def correctness(summary: pd.DataFrame) -> dict[str, Any]:
    """Each backend and dtype against float64, the wrong ones first."""
    parts = summary.groupby("run", sort=False) if "run" in summary else [("", summary)]
    rows = [
        _trust_row(row, str(run))
        for run, part in parts
        for row in plain_rows(correctness_by_backend(part))
    ]
    rows.sort(key=lambda row: ("fail", "not checked", "pass").index(row["verdict"]))
    checked = dict.fromkeys(tensor for row in rows for tensor in row["errors"])
    tensors = sorted(checked, key=lambda t: TENSORS.index(t) if t in TENSORS else len(TENSORS))
    shown = [name for name in ("run", *CORRECTNESS_COLUMNS) if _tells(rows, name)]
    return {
        "rows": rows,
        "tensors": tensors,
        "columns": [(name, LABELS.get(name, "Backend")) for name in shown],
        "answer": _trust_answer(rows),
        "oracle": ORACLE,
    }


def _trust_row(row: dict[str, Any], run: str) -> dict[str, Any]:
    low, high = row["tolerance_low"], row["tolerance_high"]
    bound = "none" if math.isnan(low) else f"{low:g}" if low == high else f"{low:g} to {high:g}"
    over = set(row["over"])
    errors = {t: (text.error(e), t in over) for t, e in row["errors"].items()}
    rows_checked = row["oracle_rows"]
    every = math.isnan(rows_checked)
    return {
        **{name: row[name] for name in CORRECTNESS_COLUMNS},
        "run": run,
        "errors": errors,
        "bound": bound,
        "cases": row["cases"],
        "incorrect": row["incorrect"],
        "verdict": row["verdict"],
        "rows_checked": "" if every else f"{int(rows_checked)} rows of the batch",
    }


def _trust_answer(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "Nothing was checked."
    wrong = list(dict.fromkeys(row["backend"] for row in rows if row["verdict"] == "fail"))
    right = {row["backend"] for row in rows if row["verdict"] == "pass"} - set(wrong)
    unchecked = {row["backend"] for row in rows} - right - set(wrong)
    parts = []
    if wrong:
        names = ", ".join(text.shorten(name) for name in wrong[:4])
        verb = "is" if len(wrong) == 1 else "are"
        parts.append(f"{names} {verb} wrong in some cases, and not ranked there")
    if right:
        pairs = text.count(sum(row["cases"] for row in rows if row["backend"] in right), "pair")
        everyone = len(right) == len({row["backend"] for row in rows})
        who = "every backend" if everyone else text.count(len(right), "backend")
        verb = "keep" if len(right) > 1 and not everyone else "keeps"
        within = f"within its bound, in {pairs} of a backend and a case"
        parts.append(f"{who} {verb} each tensor {within}")
    if unchecked:
        parts.append(f"{text.count(len(unchecked), 'backend')} could not be checked")
    sentence = "; ".join(parts) + "."
    return sentence if wrong else sentence[0].upper() + sentence[1:]


def _tells(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a column is worth its place: who and which dtype always, others if they vary."""
    return name in ("backend", "dtype") or len({row[name] for row in rows}) > 1


def refusals(runs: Sequence[Run], labels: Sequence[str], summaries: Sequence[pd.DataFrame]) -> Any:
    """Skipped and failed cells, those of one backend with one reason together.

    Returns:
        Dicts with `run`, `backend`, `status`, `reason` and `cases` (their labels), wrong first.
    """
    groups: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for run, label, summary in zip(runs, labels, summaries, strict=True):
        for backend, status, reason, case in [*_failed(summary), *_skipped(run)]:
            groups.setdefault((label, backend, status, reason), {})[case] = None
    rows = [
        {"run": run, "backend": backend, "status": status, "reason": reason, "cases": list(cases)}
        for (run, backend, status, reason), cases in groups.items()
    ]
    severity = {status: -rank for rank, status in enumerate(SEVERITY)}
    return sorted(rows, key=lambda row: severity.get(row["status"], 0))


def _failed(summary: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    bad = summary[summary["status"] != "ok"]
    failed = []
    for row in plain_rows(bad):
        some = row["failed_blocks"] < row["blocks"]
        blocks = f" ({row['failed_blocks']} of {row['blocks']} blocks)" if some else ""
        failed.append((row["backend"], row["status"], row["reason"], row["label"] + blocks))
    return failed


def _skipped(run: Run) -> list[tuple[str, str, str, str]]:
    plan = run.manifest.get("plan") or {}
    cases = plan.get("cases") or []
    return [
        (
            str(skip.get("backend", "")),
            str(skip.get("status", "unsupported")),
            str(skip.get("reason", "")),
            _case_label(cases, skip.get("case")),
        )
        for skip in plan.get("skips") or []
    ]


def _case_label(cases: Sequence[dict[str, Any]], index: Any) -> str:
    """The case's name; of one this version cannot read, its place in the plan."""
    try:
        return Case.from_dict(cases[index]).label()
    except (KeyError, IndexError, TypeError, ValueError):
        return f"case {index}"


def absent(run: Run) -> list[tuple[list[str], str]]:
    """Backends that did not run at all, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for one in (run.manifest.get("plan") or {}).get("absent") or []:
        by_reason.setdefault(str(one.get("reason", "")), []).append(str(one.get("backend", "")))
    return [(names, reason) for reason, names in by_reason.items()]


def command(run: Run) -> str:
    """The command that made a run, as one would type it."""
    words = [str(word) for word in run.manifest.get("command") or []]
    if words and PurePath(words[0]).name == "lstm-bench":
        words[0] = "lstm-bench"
    return shlex.join(words)


def environments(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row a fact, one value a run; `differs` where runs disagree."""
    flat = [_flatten({"environment": run.manifest.get("environment")}) for run in runs]
    names = list(dict.fromkeys(name for facts in flat for name in facts))
    rows = []
    for name in names:
        values = [facts.get(name, "not recorded") for facts in flat]
        label = name.removeprefix("environment.")
        rows.append({"name": label, "values": values, "differs": len(set(values)) > 1})
    return rows


def plan_facts(run: Run, label: str) -> list[tuple[str, str]]:
    """What was asked of a run and what came of it."""
    manifest, plan = run.manifest, run.manifest.get("plan") or {}
    backends = ", ".join(text.shorten(str(name)) for name in plan.get("backends") or [])
    facts = [
        ("Run", label),
        ("Suite", manifest.get("suite")),
        ("Command", command(run)),
        ("Raced", backends),
        ("Cases", len(plan.get("cases") or [])),
        ("Blocks", plan.get("blocks")),
        ("Records", f"{len(run.records)} of {plan.get('planned_records', 'unknown')} planned"),
        ("Machines", _machines(run)),
        ("Seed", manifest.get("seed")),
        ("Started", manifest.get("start")),
        ("Ended", manifest.get("end") or "not finished"),
        ("Estimated", _estimate(plan)),
        ("Kernels", manifest.get("kernels_digest")),
        ("Compiled", _compiled(manifest)),
        ("Schema", SCHEMA),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _compiled(manifest: Mapping[str, Any]) -> str:
    if not manifest.get("compiled_earlier"):
        return ""
    return "in part by an earlier run; Compile is then the time to load"


def _machines(run: Run) -> str:
    """The devices that measured a merged run, each with how many records it made."""
    counts = Counter(record.machine for record in run.records if record.machine)
    if "parts" not in run.manifest:
        return ""
    return ", ".join(f"{name} ({count:,} records)" for name, count in sorted(counts.items()))


def _estimate(plan: dict[str, Any]) -> str:
    seconds, size = plan.get("estimated_s"), plan.get("estimated_bytes")
    parts = [f"{seconds:.0f} s"] if isinstance(seconds, int | float) else []
    parts += [f"{text.large(size)}B"] if isinstance(size, int | float) else []
    return ", ".join(parts)


def _flatten(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        merged: dict[str, str] = {}
        for key, inner in value.items():
            merged |= _flatten(inner, f"{name}.{key}" if name else str(key))
        return merged
    if isinstance(value, list):
        return {name: ", ".join(str(item) for item in value)}
    return {name: "none" if value is None else str(value)}


def all_rows(summary: pd.DataFrame) -> dict[str, Any]:
    """The Summary as the page's own table: columns with a `shown` flag, rows of plain values."""
    lead = [("run", "Run", "")] if "run" in summary else []
    lead += [("backend", "Backend", "")]
    lead += [(name, LABELS[name], "") for name in CASE_COLUMNS]
    columns = [*lead, *MEASURED]
    constant = {name for name, _, _ in columns if summary[name].nunique(dropna=False) <= 1}
    kept = {"run", "backend", "seq_len", "batch", "hidden_size", "pass", "status", "median_ns"}
    square = bool((summary["input_size"] == summary["hidden_size"]).all())
    constant |= {"input_size"} if square else set()
    # The plain layer and the plain call need no mention.
    plain = {"heads": 1, **asdict(PLAIN)}
    unsaid = kept | {name for name, usual in plain.items() if (summary[name] == usual).all()}
    data = [[_plain(value) for value in summary[name]] for name, _, _ in columns]
    fixed = [
        (LABELS[name], "H" if name == "input_size" and square else str(summary[name].iloc[0]))
        for name in CASE_COLUMNS
        if len(summary) and name in constant - unsaid
    ]
    return {
        "columns": [
            {
                "name": name,
                "title": title,
                "unit": unit,
                "shown": name in kept or name not in constant,
            }
            for name, title, unit in columns
        ],
        "rows": [list(row) for row in zip(*data, strict=True)],
        "fixed": fixed,
    }


def _plain(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and math.isinf(plain):
        return "not finite"
    return number(plain)
