"""What of one cell is held against what: its blocks on both sides, its margin, and any doubt.

A doubt is whatever forbids believing a difference before it is tested: no time, too few blocks, a
disturbed machine, a second estimator that disagrees.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lstm_harness.analysis.log_ratio import LogRatio, of_blocks
from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL

Key = tuple[Any, ...]
# The label of a verdict on a backend's cases together, and how many that must be.
ALL_CASES = "all cases together"
FEWEST_TOGETHER = 3


@dataclass(frozen=True)
class Rules:
    """How to judge.

    `margin` is how much slower is not worth a word, as a share; `floor_ns` is the least difference
    that is; `q` the false discovery rate; `paired` whether block k of one side belongs to block k
    of the other, both measured in one go. A side of which more than `most_marked` samples were
    taken while disturbed or throttled proves nothing. On a CPU, time that no CPU time was spent on
    is the neighbours' where more than `few_marked` of the slower side's samples show any, and else
    the backend's own: it waits, or has lost a thread.
    """

    margin: float = 0.05
    floor_ns: float = 1000.0
    q: float = 0.05
    paired: bool = False
    most_marked: float = 0.5
    few_marked: float = 0.05


@dataclass(frozen=True)
class Pair:
    """One cell's two sides. With a `doubt` nothing is tested; `compared` is None without blocks."""

    key: Key
    old: Mapping[str, Any]
    now: Mapping[str, Any]
    margin: float
    margin_from: str
    blocks: tuple[int, int]
    compared: LogRatio | None = None
    doubt: str = ""
    lacks_blocks: int | None = None
    effort: LogRatio | None = None
    cases: int = 1

    @property
    def edge(self) -> float:
        """The margin as a log ratio."""
        return math.log1p(self.margin)


def pair_up(
    key: Key, old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules, noise: float
) -> Pair:
    """A cell's two sides, rows of Summaries that both have times; `noise` is this machine's own."""
    margin = _margin(rules, noise, old["median_ns"])
    before, after = _by_block(old, "block_medians_ns"), _by_block(now, "block_medians_ns")
    counts = len(before), len(after)
    for side, times in (("base", before), ("new", after)):
        wrong = [time for time in times.values() if not (math.isfinite(time) and time > 0)]
        if wrong:
            doubt = f"{wrong[0]} ns is not a time ({side})"
            return Pair(key, old, now, *margin, counts, doubt=doubt)
    compared = of_blocks(before, after, rules.paired)
    if compared is None:
        least = len(before.keys() & after.keys()) if rules.paired else min(counts)
        shared = "shared " if rules.paired else ""
        doubt = f"too few blocks: {least} {shared}of at least {BLOCKS_FOR_INTERVAL}"
        lacks = BLOCKS_FOR_INTERVAL - least
        return Pair(key, old, now, *margin, counts, doubt=doubt, lacks_blocks=lacks)
    effort = _effort(old, now, rules)
    doubt = _disturbed(old, now, rules) or _not_its_own(
        compared, effort, now if compared.d > 0 else old, math.log1p(margin[0]), rules
    )
    return Pair(key, old, now, *margin, compared.blocks, compared, doubt, effort=effort)


def all_together(pairs: list[Pair], rules: Rules, noise: Mapping[Key, float]) -> list[Pair]:
    """Each backend's cases as one: in a block, the geometric mean over those that have no doubt.

    Noise that every case has for itself is smaller there, and what they share is not. A backend
    with too few cases, or with most of them in doubt, has no such pair.
    """
    found = []
    for backend in dict.fromkeys(pair.key[0] for pair in pairs):
        own = [pair for pair in pairs if pair.key[0] == backend]
        sure = [pair for pair in own if pair.compared and not pair.doubt]
        if len(sure) < FEWEST_TOGETHER or 2 * len(sure) < len(own):
            continue
        values = zip(*(pair.key[1:] for pair in sure), strict=True)
        key = (backend, *(each[0] if len(set(each)) == 1 else None for each in values))
        old, now = _mean([pair.old for pair in sure]), _mean([pair.now for pair in sure])
        one = pair_up(key, old, now, rules, noise.get(key, 0.0))
        found.append(replace(one, cases=len(sure)))
    return found


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several cases of one side as a row: geometric means, in the blocks that all of them have."""
    ids = [block for block in rows[0]["block_ids"] if all(block in r["block_ids"] for r in rows)]
    columns = {}
    for name in ("block_medians_ns", "block_efforts"):
        by_block = [_by_block(row, name) for row in rows]
        columns[name] = tuple(_geometric_mean([of[block] for of in by_block]) for block in ids)
    return {
        "label": ALL_CASES,
        "status": "ok",
        "device": rows[0]["device"],
        "marked_share": sum(row["marked_share"] for row in rows) / len(rows),
        "median_ns": _geometric_mean([row["median_ns"] for row in rows]),
        "block_ids": tuple(ids),
        **columns,
    }


def _geometric_mean(values: Sequence[float]) -> float:
    """NaN where a value is unknown, or no positive number."""
    if not all(0 < value < math.inf for value in values):
        return math.nan
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _margin(rules: Rules, noise: float, time_ns: float) -> tuple[float, str]:
    """The largest of the margins, and which it is."""
    floor = rules.floor_ns / time_ns if time_ns > 0 else 0.0
    margins = {"asked": rules.margin, "noise": noise, "floor": floor}
    largest = max(margins, key=lambda name: margins[name])
    return margins[largest], largest


def _by_block(row: Mapping[str, Any], figure: str) -> dict[int, float]:
    return dict(zip(row["block_ids"], row[figure], strict=True))


def _disturbed(old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules) -> str:
    for side, row in (("base", old), ("new", now)):
        if row["marked_share"] > rules.most_marked:
            return f"{row['marked_share']:.0%} of the samples disturbed or throttled ({side})"
    return ""


def _effort(old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules) -> LogRatio | None:
    """The second estimator's log ratio; None where it is not known."""
    sides = (_by_block(old, "block_efforts"), _by_block(now, "block_efforts"))
    known = [{block: e for block, e in side.items() if 0 < e < math.inf} for side in sides]
    return of_blocks(known[0], known[1], rules.paired)


def _not_its_own(
    compared: LogRatio,
    effort: LogRatio | None,
    slower: Mapping[str, Any],
    edge: float,
    rules: Rules,
) -> str:
    """Why a difference beyond the edge is not the backend's own; empty where it is.

    A clock that fell is never its own. Time without CPU time is, unless there were neighbours.
    """
    if effort is None or not effort.inside(edge) or abs(compared.d) <= edge:
        return ""
    if slower["device"] != "cpu":
        return "estimators disagree: in clock cycles they are the same"
    if slower["marked_share"] > rules.few_marked:
        share = f"{slower['marked_share']:.0%}"
        return f"estimators disagree: CPU time is the same, and {share} of the samples disturbed"
    return ""
