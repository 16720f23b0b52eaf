"""How many times longer one cell takes than another: the ratio, and how certain it is.

Two cells of a run are paired block by block, so that what slows a whole block affects both alike.
Blocks that two machines measured are not a pair.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_harness.analysis.machines import may_be_one, of_blocks
from lstm_harness.analysis.statistics import geometric_means


@dataclass(frozen=True)
class Ratio:
    """One cell's time over another's.

    Attributes:
        value: the geometric mean of the ratios within blocks; below 3 shared blocks the ratio of
            the two medians.
        low, high: its 95% interval; NaN below 3 shared blocks.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def tie(self) -> bool | None:
        """Whether the two tie; None if the interval is unknown."""
        if math.isnan(self.low):
            return None
        return self.low <= 1 <= self.high

    def times(self, factor: float) -> "Ratio":
        """The ratio of rates, or of times a step, if work differs by this factor."""
        return Ratio(self.value * factor, self.low * factor, self.high * factor)


def of_times(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Ratio]:
    """The ratio of each pair: the first's time over the second's.

    Args:
        pairs: ok rows of one run's Summary, as `summary.plain_rows` makes them.
    """
    groups: list[int] = []
    logs: list[float] = []
    for number, (over, under) in enumerate(pairs):
        known = {block: (ns, machine) for block, ns, machine in _blocks(under)}
        shared = [
            math.log(ns / known[block][0])
            for block, ns, machine in _blocks(over)
            if block in known and may_be_one(machine, known[block][1])
        ]
        groups += [number] * len(shared)
        logs += shared
    means, lows, highs = geometric_means(
        np.array(groups, dtype=np.int64), np.array(logs, dtype=np.float64), len(pairs)
    )
    return [
        Ratio(over["median_ns"] / under["median_ns"])
        if math.isnan(mean)
        else Ratio(float(mean), float(low), float(high))
        for (over, under), mean, low, high in zip(pairs, means, lows, highs, strict=True)
    ]


def _blocks(row: Mapping[str, Any]) -> Iterator[tuple[int, float, str]]:
    """A row's blocks, the time of each, and the machine that measured it."""
    return zip(row["block_ids"], row["block_medians_ns"], of_blocks(row), strict=True)
