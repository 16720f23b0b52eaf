"""How many times longer one cell takes than another: the ratio, and how certain it is.

Two cells of a run are paired block by block, so that what slows a whole block affects both alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
        known = dict(zip(under["block_ids"], under["block_medians_ns"], strict=True))
        shared = [
            math.log(ns / known[block])
            for block, ns in zip(over["block_ids"], over["block_medians_ns"], strict=True)
            if block in known
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
