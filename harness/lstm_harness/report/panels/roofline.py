"""What binds: achieved FLOP/s against arithmetic intensity, under this machine's own ceilings.

A figure shows one choice of everything but T, B and H, a point a cell. Intensity is FLOPs of the
matrix products a byte that the problem moves (`Problem.flops`, `Problem.bytes`): what a step costs
by latency alone has no place in such a drawing, so the answer counts those cases.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.analysis.floors.floor import COMPUTED_IN
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model import text
from lstm_harness.model.ceilings import Ceilings
from lstm_harness.report.chart import Point, Row, Rows, by_backend, grouped, trace
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered
from lstm_harness.report.payload import number, plot_text
from lstm_harness.store.kept_limits import of_manifest
from lstm_harness.store.run_folder import Run

FREE = ("seq_len", "batch", "hidden_size")
ARITHMETIC = ("products", "products of the steps")
LATENCY = ("synchronisation", "gates", "one launch")
GIGA = 1e9


@dataclass(frozen=True)
class Roof:
    """What bounds a figure's points.

    Attributes:
        flops_per_s: the product rate measured for the dtype and precision; None where unknown.
        levels: bytes/s of each level of the memory hierarchy that was measured, by its name.
    """

    flops_per_s: float | None
    levels: dict[str, float]


def panel(subject: Subject) -> Panel:
    """The roofline, for every choice of fields other than sizes."""
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, FREE)
    rows = [row for row in numbered(plain_rows(summary)) if row["status"] == "ok"]
    ceilings = {label: _ceilings(run) for label, run in subject.runs.items()}
    drawn = []
    for key, part in grouped([row for row in rows if row["tflops"] > 0], by).items():
        own = ceilings[part[0]["run"]] if "run" in summary else next(iter(ceilings.values()))
        roof = roof_of(own, part[0])
        if roof:
            drawn.append((key, part, roof))
    return Panel(
        id="roofline",
        question="What binds: arithmetic, memory or latency?",
        answer=_overall([(part, roof) for _, part, roof in drawn]) if drawn else "",
        by=by,
        figures=tuple(_figure(key, part, roof, backends) for key, part, roof in drawn),
        note=_NOTE,
        absent="" if drawn else _absent(rows),
    )


_NOTE = (
    "Points are medians: GFLOP/s of the matrix products against FLOPs a byte that the problem moves"
    " (each weight once a product, the activations once a step). Lines are this device's own "
    "measured ceilings: the bandwidth of each level of memory, and the product rate. Data that "
    "stays in a cache may rise above memory's line. Latency means that synchronisation, gates or "
    "one launch set the floor."
)


def _absent(ok: Rows) -> str:
    if not ok:
        return "No backend gave a correct result, so there is no rate to compare with a roof."
    return "This device's ceilings were not measured: type `lstm-bench limits`, then run again."


def _ceilings(run: Run) -> Ceilings | None:
    try:
        return of_manifest(run.manifest)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # `ceilings.of_runs` tells why


def roof_of(ceilings: Ceilings | None, row: Row) -> Roof | None:
    """The roof over a cell like this row; None where no ceiling bears on it."""
    if ceilings is None or ceilings.device != row["device"]:
        return None
    kinds = COMPUTED_IN[f"{_computed(row)} {row['precision']}"]
    rate = _most(ceilings.best("product", kind) for kind in kinds)
    levels = {
        level.name: _most(ceilings.best(kind, level.name) for kind in ("read", "copy"))
        for level in ceilings.levels
    }
    measured = {name: speed for name, speed in levels.items() if speed is not None}
    return Roof(rate, measured) if rate or measured else None


def _computed(row: Row) -> str:
    """The dtype that a row's case is computed in."""
    return str(row["dtype"] if row["autocast"] == "none" else row["autocast"])


def _most(rates: Iterable[float | None]) -> float | None:
    return max((rate for rate in rates if rate), default=None)


def _figure(key: tuple[Any, ...], rows: Rows, roof: Roof, backends: Sequence[str]) -> Figure:
    data = [
        trace(index, [_point(row) for row in line], mode="markers")
        for index, line in by_backend(rows, backends)
    ]
    layout = {
        "xaxis": {"type": "log", "title": {"text": "FLOPs a byte"}},
        "yaxis": {"type": "log", "title": {"text": "GFLOP/s"}},
    }
    drawing = Plot("Rate of the products, and its roof", [*data, *_lines(rows, roof)], layout)
    return Figure(key, (drawing,), _answer(rows, roof))


def _point(row: Row) -> Point:
    return Point(number(_intensity(row)), 1e3 * row["tflops"], number=row["number"])


def _intensity(row: Row) -> float:
    """FLOPs a byte."""
    return float(1e3 * row["tflops"] / row["gbytes_per_s"])


def _lines(rows: Rows, roof: Roof) -> list[dict[str, Any]]:
    """The ceilings: a slope for each level up to the product rate, and that rate from there on."""
    intensities = [_intensity(row) for row in rows]
    rate = roof.flops_per_s
    ridges = {name: rate / speed for name, speed in roof.levels.items()} if rate else {}
    left = min([*intensities, *ridges.values()]) / 2
    right = max([*intensities, *ridges.values()]) * 2
    made = [
        _line(name, [left, ridges.get(name, right)], speed) for name, speed in roof.levels.items()
    ]
    if rate:
        start = min(ridges.values(), default=left)
        flat = [Point(number(x), rate / GIGA) for x in (start, right)]
        made.append(trace(None, flat, name="product rate", mode="lines", line={"dash": "dash"}))
    return made


def _line(level: str, ends: Sequence[float], speed: float) -> dict[str, Any]:
    points = [Point(number(x), x * speed / GIGA) for x in ends]
    name = f"{plot_text(level)} bandwidth"
    return trace(None, points, name=name, mode="lines", line={"dash": "dot"})


def _answer(rows: Rows, roof: Roof) -> str:
    best = max(rows, key=lambda row: float(row["tflops"]))
    where = f"T = {best['seq_len']}, B = {best['batch']}, H = {best['hidden_size']}"
    said = f"{text.shorten(best['backend'])} is fastest at {where}: {_rate(best, roof)}"
    return f"{said}; {_bound([rows])}."


def _rate(row: Row, roof: Roof) -> str:
    reached = f"{text.large(1e12 * row['tflops'])}FLOP/s"
    if not roof.flops_per_s:
        return f"{reached} (the product rate was not measured)"
    share = f"{100 * row['tflops'] * 1e12 / roof.flops_per_s:.2g}%"
    return f"{reached}, {share} of the product rate"


def _bound(parts: Sequence[Rows]) -> str:
    """What binds at the floor, counted over cases: their backends share it."""
    known = ([row for row in rows if not math.isnan(row["floor_ns"])] for rows in parts)
    terms = [
        group[0]["floor_term"] for rows in known for group in grouped(rows, CASE_COLUMNS).values()
    ]
    if not terms:
        return "no floor is known, so what binds is unknown"
    counts = Counter(_kind(term) for term in terms)
    bound = ", ".join(f"{kind} in {counts[kind]:,}" for kind in _KINDS if counts[kind])
    return f"what sets the floor: {bound} of {text.count(len(terms), 'case')}"


_KINDS = ("arithmetic", "data or weights", "latency")


def _kind(term: Any) -> str:
    if term in ARITHMETIC:
        return _KINDS[0]
    return _KINDS[2] if term in LATENCY else _KINDS[1]


def _overall(parts: Sequence[tuple[Rows, Roof]]) -> str:
    """Who comes nearest to the product rate, and what binds, over all figures."""
    reached = [
        (1e12 * row["tflops"] / roof.flops_per_s, row, roof)
        for rows, roof in parts
        if roof.flops_per_s
        for row in rows
    ]
    bound = _bound([rows for rows, _ in parts])
    if not reached:
        return f"The product rate was not measured; {bound}."
    _, row, roof = max(reached, key=lambda one: one[0])
    kind = f"{row['pass']}, {_computed(row)} {row['precision']}"
    name = text.shorten(row["backend"])
    return f"{name} comes nearest to the product rate ({kind}): {_rate(row, roof)}; {bound}."
