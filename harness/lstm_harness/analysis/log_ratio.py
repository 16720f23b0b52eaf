"""How two sides' blocks differ: the mean of log(new/base), and how certain it is.

Student's t throughout. Blocks that both sides were measured in are paired; otherwise the sides are
two independent samples (Welch). Where several machines measured, they are the units, not blocks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import stdtr

from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL, CONFIDENCE, half_width

# Nobody waits for more than this.
MOST_MORE_BLOCKS = 200
_LARGEST_LOG = math.log(np.finfo(np.float64).max)

Unit = TypeVar("Unit", int, str)


@dataclass(frozen=True)
class LogRatio:
    """The mean `d`, its standard error, degrees of freedom, and how many blocks each side has.

    `base` is the mean of the base side's logarithms, in those blocks. An edge is a margin as a
    logarithm, positive. `machines` is how many machines are the units; 0 where blocks are.
    """

    base: float
    d: float
    se: float
    df: float
    blocks: tuple[int, int]
    machines: int = 0

    def interval(self) -> tuple[float, float]:
        """95% interval of d."""
        half = float(half_width(self.se, self.df))
        return self.d - half, self.d + half

    def inside(self, edge: float) -> bool:
        """Whether the whole interval lies within the edge on both sides of 0."""
        low, high = self.interval()
        return -edge < low and high < edge

    def p_beyond(self, edge: float, slower: bool) -> float:
        """One-sided p of H0: the new side is not slower (or faster) by more than the edge."""
        distance = (self.d if slower else -self.d) - edge
        if self.se == 0:
            return 0.0 if distance > 0 else 1.0
        return float(stdtr(self.df, -distance / self.se))

    def more_blocks(self, edge: float, level: float) -> int | None:
        """Blocks to add on each side until this difference and spread would be clear of the edge.

        Args:
            level: the p at which a difference beyond the edge is believed.
        Returns:
            How many, or None if more than anybody waits for would be needed, or if machines are
            the units.
        """
        if self.machines:
            return None
        have = min(self.blocks)
        gap, spread = abs(abs(self.d) - edge), self.se * math.sqrt(have)
        if not gap or not spread:
            return None
        needed = level if abs(self.d) > edge else (1 - CONFIDENCE) / 2
        counts = np.arange(have + 1, have + 1 + MOST_MORE_BLOCKS)
        enough = stdtr(counts - 1, -gap * np.sqrt(counts) / spread) <= needed
        return int(counts[enough.argmax()]) - have if enough.any() else None


def of_blocks(base: Mapping[int, float], new: Mapping[int, float], paired: bool) -> LogRatio | None:
    """Two sides' times by block; None with too few blocks."""
    if paired:
        shared = [block for block in base if block in new]
        if len(shared) < BLOCKS_FOR_INTERVAL:
            return None
        logs = {block: math.log(base[block]) for block in shared}
        return of_pairs(logs, {block: math.log(new[block]) - logs[block] for block in shared})
    return of_samples(list(map(math.log, base.values())), list(map(math.log, new.values())))


def of_samples(base: Sequence[float], new: Sequence[float]) -> LogRatio | None:
    """Two independent samples of logarithms; None with too few."""
    counts = len(base), len(new)
    if min(counts) < BLOCKS_FOR_INTERVAL:
        return None
    before, of_before = _mean(base)
    after, of_after = _mean(new)
    parts = of_before**2 / (counts[0] - 1) + of_after**2 / (counts[1] - 1)
    df = (of_before + of_after) ** 2 / parts if parts else min(counts) - 1.0
    return LogRatio(before, after - before, math.sqrt(of_before + of_after), df, counts)


def of_pairs(base: Mapping[Unit, float], ratios: Mapping[Unit, float]) -> LogRatio | None:
    """Logarithms of the base side's times and of the ratios, by block; None with too few blocks.

    Where machines are the units, they are by machine.
    """
    count = len(ratios)
    if count < BLOCKS_FOR_INTERVAL:
        return None
    level, _ = _mean([base[unit] for unit in ratios])
    mean, of_mean = _mean(list(ratios.values()))
    return LogRatio(level, mean, math.sqrt(of_mean), count - 1.0, (count, count))


def exp(log: float) -> float:
    """The ratio; an interval from few scattered blocks may exceed all floats."""
    return math.exp(log) if log < _LARGEST_LOG else math.inf


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the square of its standard error."""
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, squares / (count - 1) / count
