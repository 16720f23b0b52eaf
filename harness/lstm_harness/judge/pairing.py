"""What is compared for one cell: its blocks on both sides, its margin, and any doubt.

Where both sides took turns within a block, it says the median of the ratios of every sample to
every sample of the other side's same turn (Hodges and Lehmann's estimator, by strata). A burst of a
neighbour's that lasts longer than a turn slows both sides of it alike; one that is shorter makes a
few of the ratios wild, in both directions, which a median leaves alone.

Where several machines measured, both sides of a pair are of one of them, and the machines are a
random effect (`judge.machines`).

A doubt is whatever forbids believing a difference before it is tested: no time, too few blocks or
machines, a disturbed machine, a second estimator that disagrees.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_harness.analysis.log_ratio import LogRatio, of_blocks, of_pairs
from lstm_harness.analysis.machines import may_be_one
from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL
from lstm_harness.judge import machines
from lstm_harness.judge.machines import Machines, machines_of

Key = tuple[Any, ...]
# The label of a verdict on a backend's cases together, and how many that must be.
ALL_CASES = "all cases together"
FEWEST_TOGETHER = 3
# For a turn with more samples than that, this many quantiles say as much.
MOST_A_TURN = 25


@dataclass(frozen=True)
class Rules:
    """How to judge.

    `margin` is the change of a time, as a share, that counts as none; `floor_ns` is the least
    change that counts. `memory_margin` and `memory_floor_bytes` are the same for memory; a
    `memory_margin` of 0 lets no byte pass. `q` is the false discovery rate. `paired` says that
    block k of one side belongs to block k of the other, both measured in one go. A side of which
    more than `most_marked` samples were taken while disturbed or throttled proves nothing. On a
    CPU, time that no CPU time was spent on is the neighbours' where more than `few_marked` of the
    slower side's samples show any, and else the backend's own: it waits, or has lost a thread.
    """

    margin: float = 0.05
    floor_ns: float = 1000.0
    memory_margin: float = 0.01
    memory_floor_bytes: int = 4096
    q: float = 0.05
    paired: bool = False
    most_marked: float = 0.5
    few_marked: float = 0.05


@dataclass(frozen=True)
class Pair:
    """One cell's two sides. With a `doubt` nothing is tested; `compared` is None without blocks.

    `ratios` are the logarithms of new/base by block, where blocks are paired.
    """

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
    ratios: Mapping[int, float] = field(default_factory=dict)
    cases: int = 1

    @property
    def edge(self) -> float:
        """The margin as a log ratio."""
        return math.log1p(self.margin)


def pair_up(
    key: Key,
    old: Mapping[str, Any],
    now: Mapping[str, Any],
    rules: Rules,
    noise: float,
    several: bool = False,
) -> Pair:
    """A cell's two sides, rows of Summaries that both have times.

    Args:
        noise: this machine's own.
        several: whether several machines measured a side, in this cell or in others. Two runs'
            sides that one machine measured are judged by its blocks all the same; pairs are not,
            because chance gave all of a case to that machine.
    """
    margin = _margin(rules, noise, old["median_ns"])
    before, after = _by_block(old, "block_medians_ns"), _by_block(now, "block_medians_ns")
    counts = len(before), len(after)
    for side, times in (("base", before), ("new", after)):
        wrong = [time for time in times.values() if not (math.isfinite(time) and time > 0)]
        if wrong:
            doubt = f"{wrong[0]} ns is not a time ({side})"
            return Pair(key, old, now, *margin, counts, doubt=doubt)
    ratios = _ratios(old, now) if rules.paired else {}
    logs = {block: math.log(before[block]) for block in ratios}
    who = machines_of(old, now)
    by_machine = several and (rules.paired or not who.is_one)
    if rules.paired:
        compared = machines.paired(logs, ratios, who) if by_machine else of_pairs(logs, ratios)
    elif by_machine:
        compared = machines.unpaired(before, after, who)
    else:
        compared = of_blocks(before, after, paired=False)
    if compared is None and by_machine:
        return Pair(key, old, now, *margin, counts, doubt=_too_few(who), ratios=ratios)
    if compared is None:
        least = len(before.keys() & after.keys()) if rules.paired else min(counts)
        shared = "shared " if rules.paired else ""
        doubt = f"too few blocks: {least} {shared}of at least {BLOCKS_FOR_INTERVAL}"
        lacks = BLOCKS_FOR_INTERVAL - least
        return Pair(key, old, now, *margin, counts, doubt=doubt, lacks_blocks=lacks)
    effort = _effort(old, now, rules, who if by_machine else None)
    doubt = _disturbed(old, now, rules) or _not_its_own(
        compared, effort, now if compared.d > 0 else old, math.log1p(margin[0]), rules
    )
    return Pair(
        key, old, now, *margin, compared.blocks, compared, doubt, effort=effort, ratios=ratios
    )


def all_together(
    pairs: list[Pair], rules: Rules, noise: Mapping[Key, float], several: bool = False
) -> list[Pair]:
    """Each backend's cases as one: in a block, the geometric mean over those that have no doubt.

    Noise that every case has for itself is smaller there, and what they share is not. A backend
    with too few cases, or with most of them in doubt, has no such pair. Where several machines
    measured, the mean is one of each machine's blocks.
    """
    together = []
    for backend in dict.fromkeys(pair.key[0] for pair in pairs):
        own = [pair for pair in pairs if pair.key[0] == backend]
        sure = [pair for pair in own if pair.compared and not pair.doubt]
        if len(sure) < FEWEST_TOGETHER or 2 * len(sure) < len(own):
            continue
        values = zip(*(pair.key[1:] for pair in sure), strict=True)
        key = (backend, *(each[0] if len(set(each)) == 1 else None for each in values))
        old = _mean([pair.old for pair in sure])
        now = _mean([pair.now for pair in sure])
        if several:
            one = _over_machines(key, old, now, sure, rules, noise.get(key, 0.0))
        else:
            one = pair_up(key, old, _as_paired(old, now, sure), rules, noise.get(key, 0.0))
        together.append(replace(one, cases=len(sure)))
    return together


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several cases of one side as a row: geometric means, in the blocks that all of them have."""
    ids = [block for block in rows[0]["block_ids"] if all(block in r["block_ids"] for r in rows)]
    columns = {}
    for name in ("block_medians_ns", "block_efforts"):
        by_block = [_by_block(row, name) for row in rows]
        columns[name] = tuple(_geometric_mean([side[block] for side in by_block]) for block in ids)
    return {
        "label": ALL_CASES,
        "status": "ok",
        "device": rows[0]["device"],
        "marked_share": sum(row["marked_share"] for row in rows) / len(rows),
        "median_ns": _geometric_mean([row["median_ns"] for row in rows]),
        "block_ids": tuple(ids),
        "block_turns_ns": (),
        "block_machines": (),
        **columns,
    }


def _over_machines(
    key: Key,
    old: Mapping[str, Any],
    now: Mapping[str, Any],
    pairs: Sequence[Pair],
    rules: Rules,
    noise: float,
) -> Pair:
    """Several cases as one, by machine; a machine may have measured some of the cases only."""
    blocks = [(pair, block) for pair in pairs for block in pair.ratios]
    where = {
        place: machines_of(pair.old, pair.now).base[block]
        for place, (pair, block) in enumerate(blocks)
    }
    logs = {
        place: math.log(_by_block(pair.old, "block_medians_ns")[block])
        for place, (pair, block) in enumerate(blocks)
    }
    ratios = {place: pair.ratios[block] for place, (pair, block) in enumerate(blocks)}
    who, count = Machines(where, where), len({block for _, block in blocks})
    compared = machines.paired(logs, ratios, who)
    doubt = "" if compared else _too_few(who)
    compared = compared and replace(compared, blocks=(count, count))
    margin = _margin(rules, noise, old["median_ns"])
    return Pair(key, old, now, *margin, (count, count), compared, doubt)


def _too_few(who: Machines) -> str:
    measured = f"{len(who.shared)} of at least {BLOCKS_FOR_INTERVAL} measured both sides"
    return f"too few machines: {measured}"


def _as_paired(
    old: Mapping[str, Any], now: Mapping[str, Any], pairs: Sequence[Pair]
) -> dict[str, Any]:
    """The new side, its blocks the old side's times the geometric mean of the pairs' ratios."""
    before = _by_block(old, "block_medians_ns")
    ids = [block for block in before if all(block in pair.ratios for pair in pairs)]
    means = [math.fsum(pair.ratios[block] for pair in pairs) / len(pairs) for block in ids]
    times = (before[block] * math.exp(mean) for block, mean in zip(ids, means, strict=True))
    efforts = _by_block(now, "block_efforts")
    return {
        **now,
        "block_ids": tuple(ids),
        "block_medians_ns": tuple(times),
        "block_efforts": tuple(efforts[block] for block in ids),
    }


def _ratios(old: Mapping[str, Any], now: Mapping[str, Any]) -> dict[int, float]:
    """The logarithm of new/base in every block that one machine measured both sides in."""
    before, after = _by_block(old, "block_medians_ns"), _by_block(now, "block_medians_ns")
    turns = [_turns_by_block(row) for row in (old, now)]
    who = machines_of(old, now)
    shared = [
        block for block in before if block in after and may_be_one(who.base[block], who.new[block])
    ]
    ratios = {}
    for block in shared:
        base, new = (side.get(block, ()) for side in turns)
        if base and len(base) == len(new):
            ratios[block] = _shift(base, new)
        else:
            ratios[block] = math.log(after[block] / before[block])
    return ratios


def _shift(base: Sequence[Sequence[int]], new: Sequence[Sequence[int]]) -> float:
    """The median over all turns of log(new sample / base sample)."""
    logs = []
    for before, after in zip(base, new, strict=True):
        numerators, denominators = (np.log(_thinned(side)) for side in (after, before))
        logs.append(np.subtract.outer(numerators, denominators).ravel())
    return float(np.median(np.concatenate(logs)))


def _thinned(samples: Sequence[int]) -> NDArray[np.float64]:
    """The samples of a turn, or as many of its quantiles as leave their distribution as it is."""
    if len(samples) <= MOST_A_TURN:
        return np.array(samples, dtype=np.float64)
    shares = (np.arange(MOST_A_TURN) + 0.5) / MOST_A_TURN
    quantiles: NDArray[np.float64] = np.quantile(samples, shares)
    return quantiles


def _turns_by_block(row: Mapping[str, Any]) -> dict[int, tuple[tuple[int, ...], ...]]:
    turns = row["block_turns_ns"]
    return dict(zip(row["block_ids"], turns, strict=True)) if turns else {}


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


def _effort(
    old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules, who: Machines | None
) -> LogRatio | None:
    """The second estimator's log ratio; None where it is not known.

    Args:
        who: the machines, where they are the units.
    """
    sides = (_by_block(old, "block_efforts"), _by_block(now, "block_efforts"))
    base, new = ({block: e for block, e in side.items() if 0 < e < math.inf} for side in sides)
    if who is None:
        return of_blocks(base, new, rules.paired)
    if not rules.paired:
        return machines.unpaired(base, new, who)
    logs = {block: math.log(effort) for block, effort in base.items()}
    shared = [block for block in base if block in new and who.base[block] == who.new[block]]
    return machines.paired(logs, {b: math.log(new[b]) - logs[b] for b in shared}, who)


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
