"""From what the runs of a device class tell to the fastest correct backend of each case.

A contestant is a backend; another source of a plugin is another contestant. Its time of a case is
that of the newest run in which it is correct. Two contestants of one run are paired by block, and
tie if the interval of their ratio includes 1. Two of different runs are independent samples: what
differs between runs adds to their ratio, so they tie unless its whole interval is beyond the
margin with which `compare` judges two runs. Times are compared only where every fact that
`compare` needs to agree does.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_harness.analysis.log_ratio import exp, of_blocks
from lstm_harness.analysis.ratios import Ratio, of_times
from lstm_harness.judge.verdict import Rules
from lstm_harness.site.board.told import Told
from lstm_harness.site.catalogue import Listed
from lstm_kernels.registry import BUILT_IN

MARGIN = Rules().margin
OURS = frozenset(backend.name for backend in BUILT_IN)


@dataclass(frozen=True)
class Contestant:
    """A backend and its source: of a plugin its file and SHA-256, empty if it is built in.

    Of a backend that is neither, `sha256` is the digest of all kernels of its run, plugins
    included, and `file` is empty.
    """

    backend: str
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Entry:
    """A contestant's time of a case, and the run it comes from."""

    contestant: Contestant
    run: Listed
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """The answer for one case.

    Attributes:
        first: the fastest, by median.
        ties: the others that tie with it, fastest first.
        second: the fastest other; None if there is none.
        ratio: the time of `second` over that of `first`.
        entries: how many contestants have a time.
    """

    label: str
    first: Entry
    ties: tuple[Entry, ...]
    second: Entry | None
    ratio: Ratio | None
    entries: int

    @property
    def state(self) -> str:
        """`alone`, `tie`, `unknown` where fewer than 3 blocks give no interval, or `win`."""
        if self.ratio is None:
            return "alone"
        if self.ties:
            return "tie"
        return "unknown" if math.isnan(self.ratio.low) else "win"


@dataclass(frozen=True)
class Group:
    """The cases of runs whose times may be compared, and the conditions that these runs share."""

    conditions: Mapping[str, str]
    places: tuple[Place, ...]


def contestant_of(backend: str, told: Told) -> Contestant:
    """Which contestant a backend of a run is."""
    if backend in told.plugins:
        return Contestant(backend, *told.plugins[backend])
    return Contestant(backend) if backend in OURS else Contestant(backend, "", told.kernels_digest)


def groups(runs: Iterable[Listed], told: Mapping[str, Told]) -> list[Group]:
    """The answers of a device class, the conditions with most cases first.

    Args:
        runs: newest first.
        told: what each tells, by its name.
    """
    found: dict[tuple[tuple[str, str], ...], dict[str, dict[Contestant, Entry]]] = {}
    for run in runs:
        said = told[run.name]
        if not said.rows:
            continue
        cases = found.setdefault(tuple(sorted(said.conditions.items())), {})
        for row in said.rows:
            contestant = contestant_of(row["backend"], said)
            by_contestant = cases.setdefault(row["label"], {})
            by_contestant.setdefault(contestant, Entry(contestant, run, row))
    made = [Group(dict(facts), tuple(_places(cases.values()))) for facts, cases in found.items()]
    return sorted(made, key=lambda one: (-len(one.places), sorted(one.conditions.items())))


def _places(cases: Iterable[Mapping[Contestant, Entry]]) -> list[Place]:
    """The answer for each case, in the order in which a reader expects cases."""
    raced = [sorted(entries.values(), key=_by_time) for entries in cases]
    raced.sort(key=lambda entries: (*entries[0].row["order"], entries[0].row["label"]))
    ratios = iter(_ratios([(other, entries[0]) for entries in raced for other in entries[1:]]))
    return [_place(entries, [next(ratios) for _ in entries[1:]]) for entries in raced]


def _by_time(entry: Entry) -> tuple[Any, ...]:
    contestant = entry.contestant
    return entry.row["median_ns"], contestant.backend, contestant.file, contestant.sha256


def _place(entries: Sequence[Entry], ratios: Sequence[Ratio]) -> Place:
    first, others = entries[0], entries[1:]
    ties = (
        other for other, ratio in zip(others, ratios, strict=True) if _ties(first, other, ratio)
    )
    return Place(
        label=first.row["label"],
        first=first,
        ties=tuple(ties),
        second=others[0] if others else None,
        ratio=ratios[0] if others else None,
        entries=len(entries),
    )


def _ties(first: Entry, other: Entry, ratio: Ratio) -> bool:
    if math.isnan(ratio.low):
        return False
    return ratio.low <= (1 if first.run.name == other.run.name else 1 + MARGIN)


def _ratios(pairs: Sequence[tuple[Entry, Entry]]) -> list[Ratio]:
    """The first's time over the second's, for each pair."""
    paired = [(over.row, under.row) for over, under in pairs if over.run.name == under.run.name]
    of_one_run = iter(of_times(paired))
    return [
        next(of_one_run) if over.run.name == under.run.name else _apart(over.row, under.row)
        for over, under in pairs
    ]


def _apart(over: Mapping[str, Any], under: Mapping[str, Any]) -> Ratio:
    """The ratio of two times of different runs, as of independent samples."""
    told = of_blocks(_blocks(under), _blocks(over), paired=False)
    if told is None:
        return Ratio(over["median_ns"] / under["median_ns"])
    low, high = told.interval()
    return Ratio(exp(told.d), exp(low), exp(high))


def _blocks(row: Mapping[str, Any]) -> dict[int, float]:
    return dict(zip(row["block_ids"], row["block_medians_ns"], strict=True))
