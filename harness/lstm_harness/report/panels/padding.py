"""Who saves what padding wastes: a batch of different lengths against the same one full to T.

A *pair* is two cases of one backend that differ in their lengths alone, one of them full: it is
what a batch costs that is padded to T and computed to its end. A backend that computes the steps
that exist, and no others, takes their share of that time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.analysis import ratios
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import plain_rows
from lstm_harness.model import text
from lstm_harness.report.chart import SIZES, Point, Row, Rows, of_each_run, pairs_against, trace
from lstm_harness.report.panel import Figure, Panel, Plot, Subject, chosen_by, numbered
from lstm_harness.report.payload import number

# The ticks of the axis of shares.
SHARES = [0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0]
POOLED = (*SIZES, "lengths", "heads", "cell", "num_layers", "bidirectional")
NOTE = (
    "Each point is the time of a batch of different lengths over the time of the same batch with "
    "every length T, of one backend. Bars are 95% intervals, from 3 blocks on that timed both. On "
    "the lower line the time falls as the steps do; on the upper line nothing is saved. Sequences "
    "arrive padded and unsorted, so a backend's time includes sorting or packing them. A claim "
    "that was not measured here: TrimZero of Element-Research/rnn, which leaves padding out, "
    '"is expected to be faster than MaskZero about 30%", which computes it (J.-H. Kim, the '
    "library's pull request 160, 2016; it does not give the share of padding)."
)


@dataclass(frozen=True)
class PaddingPair:
    """A case of different lengths; `ratio` is its time over the full one's.

    Attributes:
        row: of the Summary, that of the different lengths.
        share: of the T*B steps, those that exist; above 0 and at most 1.
    """

    row: Row
    share: float
    ratio: Ratio


def panel(subject: Subject) -> Panel:
    """A figure for each choice of fields other than size, cell, depth, direction and length."""
    summary, backends = subject.summary, subject.backends
    by = chosen_by(summary, POOLED)
    rows = numbered(plain_rows(summary))
    ok = [row for row in rows if row["status"] == "ok"]
    pairs = pairs_of(ok)
    groups: dict[tuple[Any, ...], list[PaddingPair]] = {}
    for pair in pairs:
        groups.setdefault(tuple(pair.row[name] for name in by), []).append(pair)
    made = tuple(_figure(key, part, backends) for key, part in groups.items())
    return Panel(
        id="padding",
        question="Who saves what padding wastes?",
        answer=of_each_run(ok, lambda part: answer(pairs_of(part))) if pairs else "",
        by=by,
        figures=made,
        note=NOTE,
        absent="" if pairs else _absent(rows, ok),
    )


def _absent(rows: Rows, ok: Rows) -> str:
    if rows and not ok:
        return "No backend gave a correct result, so there is no time to compare."
    if any(row["lengths"] != "full" for row in rows):
        return (
            "Not measured: no backend has a batch of different lengths and the same one full; "
            "add `full` to `--lengths`."
        )
    return "Not measured: every length is T; type `lstm-bench run --lengths full,uniform:1:128`"


def pairs_of(ok: Rows) -> list[PaddingPair]:
    """Every correct row of different lengths whose full one is correct too."""
    # A case whose lengths are all 0 has nothing to save.
    pairs = [pair for pair in pairs_against(ok, "lengths", "full") if _share(pair[0]) > 0]
    known = ratios.of_times(pairs)
    return [
        PaddingPair(row, _share(row), ratio) for (row, _), ratio in zip(pairs, known, strict=True)
    ]


def _share(row: Row) -> float:
    """Of a row's T*B steps, those that exist."""
    valid = row["steps_per_s"] * row["median_ns"] / 1e9
    return float(valid) / (int(row["seq_len"]) * int(row["batch"]))


def _figure(key: tuple[Any, ...], pairs: Sequence[PaddingPair], backends: Sequence[str]) -> Figure:
    ordered = sorted(pairs, key=lambda pair: pair.share)
    data = []
    for index, name in enumerate(backends):
        own = [pair for pair in ordered if pair.row["backend"] == name]
        if own:
            data.append(trace(index, [_point(pair) for pair in own], mode="markers"))
    least = ordered[0].share
    lines = [
        _line("nothing saved", [Point(least, 1.0), Point(1.0, 1.0)]),
        _line("as much time as steps", [Point(least, least), Point(1.0, 1.0)]),
    ]
    layout = {
        "xaxis": {
            "type": "log",
            # Room for a mark at either end, in decades.
            "range": [math.log10(least) - 0.03, 0.03],
            "title": {"text": "steps that exist, of T\N{MULTIPLICATION SIGN}B"},
            "tickvals": SHARES,
            "ticktext": [f"{share:.0%}" for share in SHARES],
        },
        "yaxis": {"type": "log", "title": {"text": "time over the padded batch's time"}},
    }
    plot = Plot("Time of different lengths over full ones", [*data, *lines], layout)
    return Figure(key, (plot,), answer(pairs))


def _point(pair: PaddingPair) -> Point:
    ratio = pair.ratio
    return Point(number(pair.share), ratio.value, ratio.low, ratio.high, pair.row["number"])


def _line(name: str, points: Sequence[Point]) -> dict[str, Any]:
    return trace(None, points, name=name, mode="lines", line={"dash": "dash", "width": 1})


def answer(pairs: Sequence[PaddingPair]) -> str:
    """Who saves time by leaving padding out, and who pays for it, over all pairs."""
    if not pairs:
        return "No backend has a batch of different lengths and the same one full."
    of_each = {pair.row["backend"]: pair for pair in pairs}
    means = [
        _mean(name, [pair for pair in pairs if pair.row["backend"] == name]) for name in of_each
    ]
    means.sort(key=lambda mean: mean.ratio)
    least, most = means[0], means[-1]
    where = f"where {_shares(pairs)} of the steps exist"
    several = "; geometric means" if len(pairs) > len(means) else ""
    unsure = any(pair.ratio.tie is None for pair in pairs)
    end = several + ("; no interval is known, with fewer than 3 blocks." if unsure else ".")
    if len(means) == 1:
        return f"{least.name} takes {least.told} the padded batch's time {where}{end}"
    saving = [mean for mean in means if mean.ratio < 1 and not mean.tied]
    if not saving:
        return (
            f"No backend saves time by leaving padding out: different lengths take {least.told} "
            f"({least.name}) to {most.told} ({most.name}) the padded batch's time {where}{end}"
        )
    said = (
        f"{len(saving)} of {len(means)} backends {'saves' if len(saving) == 1 else 'save'} time by "
        f"leaving padding out, {least.name} the most: it takes {least.told} the padded batch's "
        f"time {where}"
    )
    if most.ratio > 1 and not most.tied:
        said += f"; {most.name} takes {most.told}"
    return said + end


@dataclass(frozen=True)
class _Mean:
    """A backend's pairs in one: their geometric mean, and whether all of them are ties."""

    name: str
    ratio: float
    tied: bool

    @property
    def told(self) -> str:
        return text.ratio(self.ratio)


def _mean(name: str, pairs: Sequence[PaddingPair]) -> _Mean:
    ratio = geometric_mean(pair.ratio.value for pair in pairs)
    return _Mean(text.shorten(name), ratio, all(pair.ratio.tie is True for pair in pairs))


def _shares(pairs: Sequence[PaddingPair]) -> str:
    shares = [pair.share for pair in pairs]
    least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return least if least == most else f"{least} to {most}"
