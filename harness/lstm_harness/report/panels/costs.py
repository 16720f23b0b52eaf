"""What lengths, variants, depth and a second direction cost, each against the plain case.

A *pair* is two cases of one backend that differ in one field alone, one of them with the field's
plain value. Pairs of every size count together: their ratios by geometric mean.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import Point, Rows, grouped, trace
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by
from lstm_harness.report.payload import plot_text
from lstm_kernels import CELLS

SIZES = ("seq_len", "batch", "input_size", "hidden_size", "bias", "proj_size")


@dataclass(frozen=True)
class Field:
    """A field of a problem whose cost is told.

    `plain` is the value the others are held against; `against` and `noun` say it to a reader, and
    `flag` is what measures a pair.
    """

    name: str
    plain: Any
    title: str
    against: str
    noun: str
    flag: str


LENGTHS = Field(
    "lengths", "full", "Lengths", "full lengths", "lengths", "--lengths full,uniform:1:128"
)
FIELDS = (
    LENGTHS,
    Field("cell", "lstm", "Variants", "lstm", "variants", "--cell lstm,gru"),
    Field("num_layers", 1, "Layers", "one layer", "depth", "--layers 1,2"),
    Field(
        *("bidirectional", False, "Directions", "one direction", "a second direction"),
        "--bidirectional false,true",
    ),
)


@dataclass(frozen=True)
class OptionPair:
    """A case against its plain one: ratios of the times of an execution and of a valid step."""

    key: tuple[Any, ...]
    field: Field
    value: Any
    backend: str
    time: float
    step: float


def panel(subject: Subject) -> Panel:
    """What each field costs, for every choice of what is neither such a field nor a size."""
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, (*SIZES, *(field.name for field in FIELDS)))
    ok = [row for row in plain_rows(summary) if row["status"] == "ok"]
    pairs = [pair for field in FIELDS for pair in pairs_of(ok, field, by)]
    groups: dict[tuple[Any, ...], list[OptionPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.key, []).append(pair)
    return Panel(
        id="costs",
        question="What do variable lengths, variants, depth and a second direction cost?",
        answer=_answer(pairs) if pairs else "",
        by=by,
        figures=tuple(_figure(key, part, backends) for key, part in groups.items()),
        note=_note(pairs),
        absent="" if pairs else _absent(ok),
    )


def _note(pairs: Sequence[OptionPair]) -> str:
    """How to read it, and which fields have no pair at all."""
    met = {pair.field for pair in pairs}
    missing = [f"{field.noun} (`{field.flag}`)" for field in FIELDS if field not in met]
    said = (
        "Ratio of times within one backend between cases that differ in that alone: the geometric "
        "mean over all pairs; the bar on it goes from the least ratio to the greatest, and is no "
        "confidence interval."
    )
    return said + (f" Not measured: {', '.join(missing)}." if missing else "")


def _absent(ok: Rows) -> str:
    if not ok:
        return "No backend gave a correct result, so there is no cost to tell."
    flags = ", ".join(f"`{field.flag}`" for field in FIELDS)
    return (
        "Not measured: no backend has two cases that differ in one of these alone; add one of "
        f"{flags} to `lstm-bench run`."
    )


def pairs_of(ok: Rows, field: Field, by: Sequence[str]) -> Iterator[OptionPair]:
    """Every pair of correct rows that differ in this field alone."""
    run = ("run",) if ok and "run" in ok[0] else ()
    shared = ("backend", *run, *(name for name in CASE_COLUMNS if name != field.name))
    for rows in grouped(ok, shared).values():
        plain = next((row for row in rows if row[field.name] == field.plain), None)
        if plain is None:
            continue
        for row in rows:
            # A case whose lengths are all 0 has no step to tell the time of.
            if row is not plain and row["steps_per_s"] > 0:
                yield OptionPair(
                    key=tuple(row[name] for name in by),
                    field=field,
                    value=row[field.name],
                    backend=row["backend"],
                    time=row["median_ns"] / plain["median_ns"],
                    step=plain["steps_per_s"] / row["steps_per_s"],
                )


def _figure(key: tuple[Any, ...], pairs: Sequence[OptionPair], backends: Sequence[str]) -> Figure:
    plots = []
    for field in FIELDS:
        of_field = [pair for pair in pairs if pair.field == field]
        if of_field:
            title = f"{field.title}, against {field.against}"
            if field == LENGTHS:
                plots.append(_plot(f"{title}: a sequence", of_field, backends))
                plots.append(_plot(f"{title}: a valid step", of_field, backends, by_step=True))
            else:
                plots.append(_plot(title, of_field, backends))
    return Figure(key, tuple(plots), _answer(pairs))


def _plot(
    title: str, pairs: Sequence[OptionPair], backends: Sequence[str], *, by_step: bool = False
) -> Plot:
    values = _values(pairs)
    data = []
    for index, name in enumerate(backends):
        bars = [
            (value, [p for p in pairs if (p.backend, p.value) == (name, value)]) for value in values
        ]
        bars = [(value, part) for value, part in bars if part]
        if bars:
            points = [_point(value, part, by_step) for value, part in bars]
            counts = [text.count(len(part), "pair") for _, part in bars]
            data.append(trace(index, points, type="bar", text=counts, textposition="none"))
    layout = {
        "xaxis": {"type": "category", "categoryarray": [_shown(value) for value in values]},
        "yaxis": {"title": {"text": "time, as a ratio"}, "rangemode": "tozero"},
    }
    return Plot(title, data, layout)


def _point(value: Any, pairs: Sequence[OptionPair], by_step: bool) -> Point:
    ratios = [pair.step if by_step else pair.time for pair in pairs]
    several = len(ratios) > 1
    low, high = (min(ratios), max(ratios)) if several else (math.nan, math.nan)
    return Point(_shown(value), geometric_mean(ratios), low, high)


def _values(pairs: Sequence[OptionPair]) -> list[Any]:
    """The values that pairs have, in a reader's order."""
    values = {pair.value for pair in pairs}
    known = tuple(CELLS)
    return sorted(values, key=lambda v: (known.index(v), "") if v in known else (len(known), v))


def _shown(value: Any) -> str:
    """A value on an axis, told from a number, which a category must not be."""
    if value is True:
        return "two directions"
    if isinstance(value, int):
        return f"{value} layers"
    return plot_text(str(value))


def _answer(pairs: Sequence[OptionPair]) -> str:
    """A clause for each field, about its value with the most pairs, the last of equals."""
    clauses = []
    for field in FIELDS:
        of_field = [pair for pair in pairs if pair.field == field]
        if of_field:
            counted = [(sum(p.value == v for p in of_field), v) for v in _values(of_field)]
            most = max(count for count, _ in counted)
            value = [value for count, value in counted if count == most][-1]
            clauses.append(_clause(field, value, [p for p in of_field if p.value == value]))
    said = "; ".join(clauses)
    mean = "; geometric means" if len(pairs) > len({(p.backend, p.field) for p in pairs}) else ""
    return f"{said}{mean}."


def _clause(field: Field, value: Any, pairs: Sequence[OptionPair]) -> str:
    verb = "take" if field.name in ("num_layers", "bidirectional") else "takes"
    said = f"{_shown(value)} {verb} {_spread(pairs)} the time of {field.against}"
    if field == LENGTHS:
        said += f" ({_spread(pairs, by_step=True)} a valid step)"
    return f"{said}, over {text.count(len(pairs), 'pair')}"


def _spread(pairs: Sequence[OptionPair], *, by_step: bool = False) -> str:
    """The least and the greatest mean of a backend, with its name."""
    ratios: dict[str, list[float]] = {}
    for pair in pairs:
        ratios.setdefault(pair.backend, []).append(pair.step if by_step else pair.time)
    means = {name: geometric_mean(own) for name, own in ratios.items()}
    least, greatest = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    low, high = (f"{text.ratio(means[n])} ({text.shorten(n)})" for n in (least, greatest))
    return low if len(means) == 1 else f"{low} to {high}"
