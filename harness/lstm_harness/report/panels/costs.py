"""What variants, depth and a second direction cost, each against the plain case.

A *pair* is two cases of one backend that differ in one field alone, one of them with the field's
plain value. Pairs of every size count together: their ratios by geometric mean. Next to them is
what counting products gives.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import SIZES, Point, Row, Rows, pairs_against, trace
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by
from lstm_harness.report.payload import plot_text
from lstm_kernels import CELLS

PRODUCTS = "counting products"


@dataclass(frozen=True)
class Field:
    """A field of a problem whose cost the panel shows.

    `plain` is the value that the others are compared with; `against` and `noun` say it to a
    reader, and `flag` is what measures a pair.
    """

    name: str
    plain: Any
    title: str
    against: str
    noun: str
    flag: str


LAYERS = Field("num_layers", 1, "Layers", "one layer", "depth", "--layers 1,2,4")
FIELDS = (
    Field("cell", "lstm", "Variants", "lstm", "variants", "--cell lstm,gru"),
    LAYERS,
    Field(
        *("bidirectional", False, "Directions", "one direction", "a second direction"),
        "--bidirectional false,true",
    ),
)


@dataclass(frozen=True)
class OptionPair:
    """A case against its plain one.

    Attributes:
        option: the field's value as a reader has it.
        place: sorts options; where depth meets a second direction, it stands last.
        layers: how many the case has.
        time, products: ratios of the times, and of the arithmetic of the products.
    """

    key: tuple[Any, ...]
    field: Field
    option: str
    place: tuple[bool, int]
    backend: str
    layers: int
    time: float
    products: float


def panel(subject: Subject) -> Panel:
    """What each field costs, for every choice of what is neither such a field nor a size."""
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, (*SIZES, "lengths", *(field.name for field in FIELDS)))
    ok = [row for row in plain_rows(summary) if row["status"] == "ok"]
    pairs = [pair for field in FIELDS for pair in pairs_of(ok, field, by)]
    groups: dict[tuple[Any, ...], list[OptionPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.key, []).append(pair)
    return Panel(
        id="costs",
        question="What do variants, depth and a second direction cost?",
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
        "Each bar is the time of one case over the time of another that differs in that field "
        "alone, of one backend: the geometric mean over all such pairs. The thin line on it runs "
        "from the least ratio to the greatest; it is not a confidence interval. Counting products "
        "gives what the arithmetic alone would cost. A bar below that means that layers or "
        "directions run side by side, or that costs which do not grow weigh more. A layer above "
        "the first reads H numbers a step, and 2H where there are two directions."
    )
    return said + (f" Not measured: {', '.join(missing)}." if missing else "")


def _absent(ok: Rows) -> str:
    if not ok:
        return "No backend gave a correct result, so there is no cost to show."
    flags = ", ".join(f"`{field.flag}`" for field in FIELDS)
    return (
        "Not measured: no backend has two cases that differ in one of these alone; add one of "
        f"{flags} to `lstm-bench run`."
    )


def pairs_of(ok: Rows, field: Field, by: Sequence[str]) -> list[OptionPair]:
    """Every pair of correct rows that differ in this field alone."""
    return [
        OptionPair(
            key=tuple(row[name] for name in by),
            field=field,
            option=_option(row, field),
            place=_place(row, field),
            backend=row["backend"],
            layers=int(row["num_layers"]),
            time=row["median_ns"] / plain["median_ns"],
            products=_products(row) / _products(plain),
        )
        for row, plain in pairs_against(ok, field.name, field.plain)
        # A case whose lengths are all 0 has no product.
        if _products(plain) > 0
    ]


def _option(row: Row, field: Field) -> str:
    """A value on an axis as a text, because a category must not be a number."""
    if field.name == "bidirectional":
        deep = f" of {row['num_layers']} layers" if row["num_layers"] > 1 else ""
        return f"two directions{deep}"
    if field == LAYERS:
        directions = " of two directions" if row["bidirectional"] else ""
        return f"{row['num_layers']} layers{directions}"
    return plot_text(str(row[field.name]))


def _place(row: Row, field: Field) -> tuple[bool, int]:
    if field == LAYERS:
        return bool(row["bidirectional"]), int(row["num_layers"])
    if field.name == "bidirectional":
        return row["num_layers"] > 1, int(row["num_layers"])
    known = tuple(CELLS)
    return False, known.index(row["cell"]) if row["cell"] in known else len(known)


def _products(row: Row) -> float:
    """The arithmetic of a row's matrix products, from its rate and its time."""
    return float(row["tflops"] * row["median_ns"])


def _figure(key: tuple[Any, ...], pairs: Sequence[OptionPair], backends: Sequence[str]) -> Figure:
    plots = []
    for field in FIELDS:
        of_field = [pair for pair in pairs if pair.field == field]
        if of_field:
            plots.append(_plot(f"{field.title}, against {field.against}", of_field, backends))
        if of_field and field == LAYERS:
            title = f"Time a layer, against {field.against}"
            plots.append(_plot(title, of_field, backends, by_layer=True))
    return Figure(key, tuple(plots), _answer(pairs))


def _plot(
    title: str, pairs: Sequence[OptionPair], backends: Sequence[str], *, by_layer: bool = False
) -> Plot:
    options = _options(pairs)
    data = []
    for index, name in enumerate(backends):
        own = [pair for pair in pairs if pair.backend == name]
        if own:
            parts = [[pair for pair in own if pair.option == option] for option in options]
            points = [_point(part, by_layer) for part in parts if part]
            counts = [text.count(len(part), "pair") for part in parts if part]
            data.append(trace(index, points, type="bar", text=counts, textposition="none"))
    layout = {
        "xaxis": {"type": "category", "categoryarray": options},
        "yaxis": {"title": {"text": "time over the plain case's time"}, "rangemode": "tozero"},
    }
    counted = [_counted(option, pairs, by_layer) for option in options]
    return Plot(title, [*data, trace(None, counted, type="bar", name=PRODUCTS)], layout)


def _point(pairs: Sequence[OptionPair], by_layer: bool) -> Point:
    ratios = _times(pairs, by_layer)
    low, high = (min(ratios), max(ratios)) if len(ratios) > 1 else (math.nan, math.nan)
    return Point(pairs[0].option, geometric_mean(ratios), low, high)


def _counted(option: str, pairs: Sequence[OptionPair], by_layer: bool) -> Point:
    """What counting the products of an option gives, over all its pairs."""
    own = [pair for pair in pairs if pair.option == option]
    ratios = [pair.products / (pair.layers if by_layer else 1) for pair in own]
    return Point(option, geometric_mean(ratios))


def _times(pairs: Sequence[OptionPair], by_layer: bool) -> list[float]:
    return [pair.time / (pair.layers if by_layer else 1) for pair in pairs]


def _options(pairs: Sequence[OptionPair]) -> list[str]:
    """What pairs differ in, in a reader's order."""
    return [option for _, option in sorted({(pair.place, pair.option) for pair in pairs})]


def _answer(pairs: Sequence[OptionPair]) -> str:
    """A clause for each field, about the option that `_most_told` picks."""
    clauses = []
    for field in FIELDS:
        of_field = [pair for pair in pairs if pair.field == field]
        if of_field:
            option = _most_told(of_field)
            clauses.append(_clause(field, [p for p in of_field if p.option == option]))
    said = "; ".join(clauses)
    mean = "; geometric means" if len(pairs) > len({(p.backend, p.field) for p in pairs}) else ""
    return f"{said}{mean}."


def _most_told(pairs: Sequence[OptionPair]) -> str:
    """The option with the most pairs; of equals the last that is plain in all else."""
    count = Counter(pair.option for pair in pairs)
    last = max(pairs, key=lambda pair: (count[pair.option], not pair.place[0], pair.place))
    return last.option


def _clause(field: Field, pairs: Sequence[OptionPair]) -> str:
    verb = "takes" if field.name == "cell" else "take"
    said = f"{pairs[0].option} {verb} {_spread(pairs)} the time of {field.against}"
    if field == LAYERS:
        said += f" ({_spread(pairs, by_layer=True)} a layer)"
    return f"{said}, over {text.count(len(pairs), 'pair')}"


def _spread(pairs: Sequence[OptionPair], *, by_layer: bool = False) -> str:
    """The least and the greatest mean of a backend, with its name."""
    parts = {pair.backend: [p for p in pairs if p.backend == pair.backend] for pair in pairs}
    means = {name: geometric_mean(_times(own, by_layer)) for name, own in parts.items()}
    least, greatest = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    low, high = (f"{text.ratio(means[n])} ({text.shorten(n)})" for n in (least, greatest))
    return low if len(means) == 1 else f"{low} to {high}"
