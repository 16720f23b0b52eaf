"""How much faster each rung is than the bottom one, and than the rung before it.

A rung is a backend, in the order of the page's list. Here alone the page turns its ratios round: a
speed-up is the other's time over the rung's own. The reference for a GPU's rungs is NVIDIA's: J.
Appleyard, "Optimizing Recurrent Neural Networks in cuDNN 5" (developer.nvidia.com/blog, 2016), a
forward of an LSTM of 4 layers, T 100, B 64, H 512, float32, on an M40; "up to 6x" is what the same
article says of cuDNN 5's LSTM, with no shape given.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.analysis import ratios
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import Row, Rows, error_bars, grouped, of_each_run, ratio_told
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered
from lstm_harness.report.payload import number, plot_text
from lstm_kernels import PASSES

NOTE = (
    "The rungs are backends, in the order of their optimisations. A speed-up is the bottom rung's "
    "time over the time of the rung; in brackets is the speed-up over the rung before. The ends of "
    "the thin lines are 95% intervals, from the blocks that timed both."
)
REFERENCE_NOTE = (
    " NVIDIA's ladder of 2016 is a reference that was not measured here. Its GPU (M40) differs,"
    ' and so does its problem (LSTM forward, T = 100, 4 layers, B = 64, H = 512), from "Optimizing '
    'Recurrent Neural Networks in cuDNN 5"; "up to 6x" is what it says of cuDNN 5, with no shape.'
)
NAIVE = ("per_gate", "naive")

NVIDIA_2016 = (
    ("their naive", 1.0),
    ("gates grouped", 2.1),
    ("streams", 2.8),
    ("pointwise fused", 5.5),
    ("weights pre-transposed", 6.3),
    ("inputs batched", 6.5),
    ("layers overlapped", 11.1),
    ("cuDNN 5's claim: up to", 6.0),
)


@dataclass(frozen=True)
class Rung:
    """A backend's cell, and its speed-up over the bottom rung and over the rung before."""

    row: Row
    over_bottom: Ratio
    over_before: Ratio

    @property
    def name(self) -> str:
        """As a sentence has it."""
        return text.shorten(self.row["backend"])


def panel(subject: Subject) -> Panel:
    """A figure for each problem and choice of the switches, with a plot for each pass."""
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, ("pass",))
    rows = numbered(plain_rows(summary))
    ok = [row for row in rows if row["status"] == "ok"]
    ladders = {key: _ladders(part, backends) for key, part in grouped(ok, by).items()}
    drawn = {key: rungs for key, rungs in ladders.items() if rungs}
    referred = any(_has_reference(rungs) for rungs in drawn.values())
    return Panel(
        id="ladder",
        question=_question(drawn, backends),
        answer=of_each_run(rows, lambda part: _overall(part, backends)) if drawn else "",
        by=by,
        figures=tuple(_figure(key, rungs, backends) for key, rungs in drawn.items()),
        note=NOTE + (REFERENCE_NOTE if referred else ""),
        absent="" if drawn else _absent({row["backend"] for row in ok}),
    )


def _question(drawn: dict[Any, dict[str, list["Rung"]]], backends: Sequence[str]) -> str:
    """It names the lowest of all bottom rungs."""
    bottoms = {rungs[0].row["backend"] for ladder in drawn.values() for rungs in ladder.values()}
    lowest = next((name for name in backends if name in bottoms), None)
    return f"How much faster than {text.shorten(lowest or 'the bottom rung')}, rung by rung?"


def _absent(correct: set[str]) -> str:
    if not correct:
        return "No backend gave a correct result, so there is no speed-up to show."
    if len(correct) == 1:
        only = text.shorten(next(iter(correct)))
        return (
            f"Only {only} gave a correct result, so a speed-up was not measured; "
            "type `lstm-bench run --backend naive,aten`"
        )
    return "No case has two correct backends, so a speed-up was not measured."


def _ladders(rows: Rows, backends: Sequence[str]) -> dict[str, list[Rung]]:
    """The rungs of each pass of one problem, the bottom first; a pass needs two."""
    place = {backend: number for number, backend in enumerate(backends)}
    by_pass = grouped(sorted(rows, key=lambda row: place[row["backend"]]), ["pass"])
    return {p: _rungs(by_pass[(p,)]) for p in PASSES if len(by_pass.get((p,), [])) > 1}


def _rungs(rows: Rows) -> list[Rung]:
    before = [rows[0], *rows[:-1]]
    over_bottom = [(rows[0], row) for row in rows]
    known = ratios.of_times(over_bottom + list(zip(before, rows, strict=True)))
    return [Rung(*one) for one in zip(rows, known[: len(rows)], known[len(rows) :], strict=True)]


def _figure(
    key: tuple[Any, ...], ladders: dict[str, list[Rung]], backends: Sequence[str]
) -> Figure:
    plots = [_plot(name, rungs, backends) for name, rungs in ladders.items()]
    if _has_reference(ladders):
        plots.append(REFERENCE)
    return Figure(key, tuple(plots), " ".join(_answer(*one) for one in ladders.items()))


def _has_reference(ladders: dict[str, list[Rung]]) -> bool:
    """NVIDIA's ladder is of an LSTM on a GPU, and is shown only with such a ladder."""
    bottoms = [rungs[0].row for rungs in ladders.values()]
    return any(row["cell"] == "lstm" and row["device"] == "cuda" for row in bottoms)


def _plot(pass_name: str, rungs: Sequence[Rung], backends: Sequence[str]) -> Plot:
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "meta": backends.index(rung.row["backend"]),
            "x": [number(rung.over_bottom.value)],
            "y": [height],
            "text": [_label(rung) if height else "bottom"],
            "customdata": [rung.row["number"]],
            **(error_bars("error_x", [_ends(rung.over_bottom)]) if height else {}),
        }
        for height, rung in enumerate(rungs)
    ]
    names = [plot_text(rung.row["backend"]) for rung in rungs]
    return Plot(f"{pass_name}: speed-up over {names[0]}", data, _layout(names))


def _ends(ratio: Ratio) -> tuple[float, float, float]:
    return ratio.value, ratio.low, ratio.high


def _label(rung: Rung) -> str:
    step = "tie" if rung.over_before.tie else text.ratio(rung.over_before.value)
    return f"{text.ratio(rung.over_bottom.value)} ({step})"


def _layout(names: Sequence[str]) -> dict[str, Any]:
    return {
        "barmode": "overlay",
        "xaxis": {"title": {"text": f"speed-up over {names[0]}"}, "rangemode": "tozero"},
        "yaxis": {"tickvals": list(range(len(names))), "ticktext": list(names)},
    }


REFERENCE = Plot(
    "NVIDIA's ladder of 2016: another GPU and problem, not measured here",
    (
        {
            "type": "bar",
            "orientation": "h",
            "meta": None,
            "name": "NVIDIA 2016, M40",
            "x": [speedup for _, speedup in NVIDIA_2016],
            "y": list(range(len(NVIDIA_2016))),
            "text": [f"{speedup}\N{MULTIPLICATION SIGN}" for _, speedup in NVIDIA_2016],
        },
    ),
    _layout([name for name, _ in NVIDIA_2016]),
)


def _answer(pass_name: str, rungs: Sequence[Rung]) -> str:
    """One sentence about the fastest rung and the largest step of one pass."""
    top = min(rungs, key=lambda rung: float(rung.row["median_ns"]))
    bottom = rungs[0].name
    names = _tied_with(top, rungs)
    if top is rungs[0]:
        ties = f" and ties with {', '.join(names)}" if names else ""
        return f"In {pass_name}, {bottom}, the bottom rung, is itself the fastest{ties}."
    if top.over_bottom.tie:
        return f"In {pass_name}, {top.name} and {bottom}, the bottom rung, cannot be told apart."
    ties = f", and it ties with {', '.join(names)}" if names else ""
    told = ratio_told(top.over_bottom)
    said = f"In {pass_name}, the speed-up of {top.name} over {bottom} is {told}{ties}"
    step = max(range(1, len(rungs)), key=lambda place: rungs[place].over_before.value)
    if len(rungs) > 2:
        gain = text.ratio(rungs[step].over_before.value)
        said += f"; the largest step is {rungs[step].name}, {gain} over {rungs[step - 1].name}"
    return f"{said}."


def _tied_with(top: Rung, rungs: Sequence[Rung]) -> list[str]:
    others = [rung for rung in rungs if rung is not top]
    known = ratios.of_times([(rung.row, top.row) for rung in others])
    return [rung.name for rung, ratio in zip(others, known, strict=True) if ratio.tie]


def _overall(rows: Rows, backends: Sequence[str]) -> str:
    """The most often fastest backend against the bottom rung, for each pass, over all cases."""
    by_pass = grouped(rows, ["pass"])
    clauses = [_clause(p, by_pass[(p,)], backends) for p in PASSES if (p,) in by_pass]
    missing = [p for p in ("forward", "backward") if (p,) not in by_pass]
    told = f"{'; '.join(clauses)}."
    # A backend's name keeps its case.
    starts = told.startswith(("the speed-up of ", "in ", "no case "))
    said = [told[0].upper() + told[1:] if starts else told]
    said += [f"{name.capitalize()} alone was not measured." for name in missing]
    correct = {row["backend"] for row in rows if row["status"] == "ok"}
    if correct and correct.isdisjoint(NAIVE):
        said.append(
            f"Neither {' nor '.join(NAIVE)} has a correct result here: the bottom rung is not a "
            "naive loop."
        )
    return " ".join(said)


def _clause(pass_name: str, rows: Rows, backends: Sequence[str]) -> str:
    cases = [_by_backend(part) for part in grouped(rows, CASE_COLUMNS).values()]
    correct = set().union(*cases)
    if len(correct) < 2:
        return f"in {pass_name} fewer than two backends gave a correct result"
    bottom = next(name for name in backends if name in correct)
    top = Counter(min(one, key=_time(one)) for one in cases if one).most_common(1)[0][0]
    if top == bottom:
        return _bottom_wins(pass_name, bottom, cases)
    shared = [one for one in cases if top in one and bottom in one]
    lacking = len(cases) - len(shared)
    names = text.shorten(top), text.shorten(bottom)
    if not shared:
        return f"no case has both {names[0]} and {names[1]} in {pass_name}"
    known = ratios.of_times([(one[bottom], one[top]) for one in shared])
    counted = _counted(known, lacking)
    if all(ratio.tie for ratio in known):
        return f"{names[0]} and {names[1]} cannot be told apart in {pass_name} ({counted})"
    mean = text.ratio(geometric_mean(ratio.value for ratio in known))
    return f"the speed-up of {names[0]} over {names[1]} is {mean} in {pass_name} ({counted})"


def _bottom_wins(pass_name: str, bottom: str, cases: Sequence[dict[str, Row]]) -> str:
    fastest_first = [sorted(one, key=_time(one)) for one in cases]
    won = [
        (one, names)
        for one, names in zip(cases, fastest_first, strict=True)
        if names[:1] == [bottom]
    ]
    second = [(one[names[1]], one[bottom]) for one, names in won if len(names) > 1]
    ties = sum(ratio.tie is True for ratio in ratios.of_times(second))
    said = f"{text.shorten(bottom)}, the bottom rung, is itself the fastest in {pass_name}, in "
    said += f"{len(won)} of {text.count(len(cases), 'case')}"
    return said + (f", {ties} of them tied" if ties else "")


def _counted(known: Sequence[Ratio], lacking: int) -> str:
    ties = sum(ratio.tie is True for ratio in known)
    parts = [("geometric mean of " if len(known) > 1 else "") + text.count(len(known), "case")]
    if 0 < ties < len(known):
        parts.append(f"{ties} of them tied")
    if lacking:
        parts.append(f"{text.count(lacking, 'further case')} without one of the two")
    return ", ".join(parts)


def _by_backend(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["backend"]: row for row in rows if row["status"] == "ok"}


def _time(rows: dict[str, Row]) -> Any:
    return lambda backend: rows[backend]["median_ns"]
