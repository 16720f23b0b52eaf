"""How far each backend is from what the device allows: time a step and share of the floor, by size.

The figures run along H where it varies, else along B, else along T; there is one for each choice of
all the rest.
"""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

import pandas as pd

from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model.ceilings import Ceilings
from lstm_harness.report import text
from lstm_harness.report.panel import Figure, Panel, Plot, chosen_by, numbered
from lstm_harness.report.traces import Point, trace
from lstm_harness.report.winner_map import LABELS, Row, Rows, axis_of, grouped, sizes_of
from lstm_harness.store.kept_limits import NONE_KEPT, of_manifest
from lstm_harness.store.run_folder import Run

ALONG = ("hidden_size", "batch", "seq_len")
FLOOR = "the floor"


def panel(summary: pd.DataFrame, backends: Sequence[str]) -> Panel:
    """How far each backend is from the floor, for every choice of what the figures run not along.

    Args:
        backends: the page's list; a trace's `meta` is the place in it.
    """
    along = running_along(summary)
    by = chosen_by(summary, (along,))
    known = [r for r in numbered(plain_rows(summary)) if not math.isnan(r["floor_share"])]
    groups = grouped([row for row in known if row["status"] == "ok"], by)
    return Panel(
        id="limits",
        question="How far from the limit?",
        answer=answer(summary),
        by=by,
        figures=tuple(_figure(key, rows, backends, along) for key, rows in groups.items()),
        note=_NOTE,
        absent="" if groups else _absent(summary),
    )


_NOTE = (
    "Time of a step in µs, with its 95% interval where 3 blocks or more tell it. The floor is the "
    "least time that this device's measured ceilings allow; the share is the floor over the time."
)


def _absent(summary: pd.DataFrame) -> str:
    if not (summary["status"] == "ok").any():
        return "No backend gave a correct result, so there is no time to hold against the floor."
    return "No floor is known for these times: type `lstm-bench limits`, then run again."


def _figure(key: tuple[Any, ...], ok: Rows, backends: Sequence[str], along: str) -> Figure:
    """Of correct rows with a floor: time a step above the floor's, and share of the floor."""
    ok = sorted(ok, key=lambda row: int(row[along]))
    lines = grouped(ok, ["backend"])
    present = [(index, lines[(name,)]) for index, name in enumerate(backends) if (name,) in lines]
    floors = {row[along]: Point(row[along], _floor_us(row)) for row in ok}
    axis = axis_of(sizes_of(ok, along), AXIS_TITLE[along])
    floor = trace(None, list(floors.values()), name=FLOOR, mode="lines", line={"dash": "dash"})
    steps = [trace(n, [_step(row, along) for row in line]) for n, line in present]
    shares = [trace(n, [_share(row, along) for row in line]) for n, line in present]
    step_axis = {"type": axis["type"], "title": {"text": "µs a step"}}
    share_axis = {"title": {"text": "share of the floor, %"}, "rangemode": "tozero"}
    return Figure(
        key=key,
        plots=(
            Plot("Time of a step", [*steps, floor], {"xaxis": axis, "yaxis": step_axis}),
            Plot("Share of the floor", shares, {"xaxis": axis, "yaxis": share_axis}),
        ),
        answer=distance_answer(ok, along),
    )


def _step(row: Row, along: str) -> Point:
    low, high = (row[end] / row["seq_len"] / 1e3 for end in ("low_ns", "high_ns"))
    return Point(row[along], row["step_us"], low, high, row["number"])


def _share(row: Row, along: str) -> Point:
    """The share in percent; the shortest time makes the largest."""
    low, high = (100 * row["floor_ns"] / row[end] for end in ("high_ns", "low_ns"))
    return Point(row[along], 100 * row["floor_share"], low, high, row["number"])


def running_along(summary: pd.DataFrame, sizes: Sequence[str] = ALONG) -> str:
    """The size that figures run along: the first of these that varies."""
    return next((name for name in sizes if summary[name].nunique() > 1), sizes[0])


def sign_of(along: str) -> str:
    """The letter of a size: T, B or H."""
    return LABELS[along].rpartition(" ")[2]


AXIS_TITLE = {
    "hidden_size": "H, hidden size",
    "batch": "B, sequences in a batch",
    "seq_len": "T, steps in a sequence",
}


def distance_answer(ok: Rows, along: str) -> str:
    """One sentence about who comes nearest to the floor, and where."""
    if not ok:
        return "No backend gave a correct result here."
    best = max(ok, key=lambda row: float(row["floor_share"]))
    where = f"at {LABELS[along].rpartition(' ')[2]} = {best[along]}"
    return (
        f"{text.shorten(best['backend'])} comes nearest {where}: it reaches "
        f"{percent(best['floor_share'])} of the floor, which {_binds(best['floor_term'])}."
    )


def answer(summary: pd.DataFrame) -> str:
    """One sentence over all cells that have a floor; empty where none has."""
    ok = summary[(summary["status"] == "ok") & summary["floor_share"].notna()]
    if ok.empty:
        return ""
    keys = (["run"] if "run" in ok else []) + list(CASE_COLUMNS)
    best = plain_rows(ok.sort_values("floor_share").groupby(keys, sort=False).tail(1))
    shares = [row["floor_share"] for row in best]
    terms = Counter(row["floor_term"] for row in best).most_common(3)
    bound = ", ".join(f"{text.shorten(str(term))} in {count}" for term, count in terms)
    reached = f"{percent(median(shares))} of the floor"
    if len(best) > 1:
        spread = f"{percent(min(shares))} to {percent(max(shares))}"
        reached += f" in the median of {text.count(len(best), 'case')} ({spread})"
    said = f"The nearest backend reaches {reached}; what binds at the floor: {bound}."
    below = int((ok["floor_share"] > 1).sum())
    if below:
        are = "is" if below == 1 else "are"
        said += (
            f" {text.count(below, 'cell')} {are} faster than the floor: the ceilings were measured "
            "too low, or work was left out."
        )
    return said


def percent(share: float) -> str:
    """A share for a reader: 4.2%, 71%."""
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


def of_runs(runs: Sequence[Run], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The ceilings that each run had, as a table, or why it had none."""
    return [_of_run(run, label) for run, label in zip(runs, labels, strict=True)]


def _of_run(run: Run, label: str) -> dict[str, Any]:
    try:
        ceilings = of_manifest(run.manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return {"label": label, "rows": [], "notes": [f"its ceilings cannot be read: {error}"]}
    if ceilings is None:
        reason = str(run.manifest.get("no_limits") or NONE_KEPT)
        return {"label": label, "rows": [], "notes": [f"{reason}; then run again"]}
    rows = [
        {
            "name": each.name,
            "value": each.shown(each.value),
            "interval": each.interval(),
            "best": each.shown(each.best),
            "unit": each.shown_unit,
            "detail": each.detail,
        }
        for each in ceilings.ceilings
    ]
    return {"label": label, "rows": rows, "notes": _notes(ceilings)}


def _notes(ceilings: Ceilings) -> list[str]:
    notes = [f"Measured {text.moment(ceilings.measured)} in {ceilings.rounds} rounds."]
    if ceilings.disturbed:
        notes.append(
            f"In {ceilings.disturbed} of them others used this machine: medians and intervals are "
            "too slow; the floors come from the fastest samples."
        )
    notes += [f"No figure for {name}: {reason}" for name, reason in ceilings.failures.items()]
    return notes


def _floor_us(row: Row) -> float:
    return float(row["floor_ns"] / row["seq_len"] / 1e3)


def _binds(term: Any) -> str:
    return f"{text.shorten(str(term), 60)} set" + (
        "" if str(term).partition(" ")[0] in _PLURAL else "s"
    )


_PLURAL = ("products", "weights", "data", "gates")
