"""Every backend of a run against the fastest of each case, and against one that is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lstm_harness.analysis import ratios
from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.analysis.summary import plain_rows

# By a case's label, then by backend.
Entries = Mapping[str, Mapping[str, "Entry"]]


@dataclass(frozen=True)
class Entry:
    """One backend on one case.

    Attributes:
        rank: from 1, by median; None where its status is not ok.
        to_fastest: its time over the fastest's; None without a time.
        to_other: its time over the named backend's; None where either has no time, or none is
            named.
    """

    status: str
    median_ns: float
    rank: int | None = None
    to_fastest: Ratio | None = None
    to_other: Ratio | None = None


@dataclass(frozen=True)
class Contestant:
    """One backend over all cases in which it has a time.

    Attributes:
        cases: how many those are.
        fastest, tied: in how many it is the fastest alone, and in how many no other is faster
            beyond noise, but one ties.
        mean, worst: its time over the fastest's, the geometric mean over its cases and the largest.
        shared, to_other: in how many the named backend has a time, too, and the geometric mean of
            its time over that backend's there; None where there is none.
    """

    backend: str
    cases: int
    fastest: int
    tied: int
    mean: float
    worst: float
    shared: int
    to_other: float | None


def entries(summary: pd.DataFrame, other: str | None = None) -> dict[str, dict[str, Entry]]:
    """What every backend did on every case, in the order of the Summary.

    Args:
        other: the backend that all are compared with, in addition to the fastest.
    """
    rows = plain_rows(summary)
    places = {(row["label"], row["backend"]): row for row in plain_rows(ranked(summary))}
    known = {row["label"]: row for row in places.values() if row["backend"] == other}
    pairs = [(row, known[row["label"]]) for row in places.values() if row["label"] in known]
    to_other = {
        (row["label"], row["backend"]): ratio
        for (row, _), ratio in zip(pairs, ratios.of_times(pairs), strict=True)
    }
    found: dict[str, dict[str, Entry]] = {}
    for row in rows:
        key = row["label"], row["backend"]
        found.setdefault(row["label"], {})[row["backend"]] = _entry(
            row, places.get(key), to_other.get(key)
        )
    return found


def contestants(by_case: Entries) -> list[Contestant]:
    """A row a backend that has a time at all: who has most of them first, then by the mean."""
    names = dict.fromkeys(name for case in by_case.values() for name in case)
    alone = [not any(map(_ties, case.values())) for case in by_case.values()]
    found = [
        _contestant(
            name,
            [
                (case[name], is_alone)
                for case, is_alone in zip(by_case.values(), alone, strict=True)
                if name in case
            ],
        )
        for name in names
    ]
    return sorted(filter(None, found), key=lambda one: (-one.cases, one.mean))


def _entry(row: Mapping[str, Any], place: Mapping[str, Any] | None, other: Ratio | None) -> Entry:
    if place is None:
        return Entry(row["status"], row["median_ns"])
    to_fastest = Ratio(place["ratio"], place["ratio_low"], place["ratio_high"])
    return Entry("ok", row["median_ns"], int(place["rank"]), to_fastest, other)


def _ties(entry: Entry) -> bool:
    """Whether it ties with the fastest, which is another."""
    return bool(entry.rank != 1 and entry.to_fastest and entry.to_fastest.tie)


def _contestant(name: str, mine: Sequence[tuple[Entry, bool]]) -> Contestant | None:
    """One backend's row.

    Args:
        mine: its entries, and whether no other ties with the fastest of that case.
    """
    timed = [(each, each.to_fastest, alone) for each, alone in mine if each.to_fastest is not None]
    if not timed:
        return None
    others = [each.to_other.value for each, _, _ in timed if each.to_other is not None]
    first = [alone for each, _, alone in timed if each.rank == 1]
    return Contestant(
        backend=name,
        cases=len(timed),
        fastest=sum(first),
        tied=len(first) - sum(first) + sum(_ties(each) for each, _, _ in timed),
        mean=geometric_mean(ratio.value for _, ratio, _ in timed),
        worst=max(ratio.value for _, ratio, _ in timed),
        shared=len(others),
        to_other=geometric_mean(others) if others else None,
    )
