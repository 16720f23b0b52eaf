"""The mean and its interval by Student's t: the one place that computes it.

A ratio or a time is averaged as a logarithm. The unit is a block; fewer than three give no
interval.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

BLOCKS_FOR_INTERVAL = 3
CONFIDENCE = 0.95

Floats = NDArray[np.float64]
Numbers = TypeVar("Numbers", float, Floats)


def half_width(standard_error: Numbers, df: Numbers) -> Numbers:
    """Half the 95% interval of a mean, t-based.

    Args:
        standard_error: of the mean; a number or an array.
        df: degrees of freedom, a number or an array.
    """
    quantile: Any = stdtrit(df, (1 + CONFIDENCE) / 2)
    half: Numbers = quantile * standard_error
    return half


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of some values with its 95% interval.

    Returns:
        mean, low and high; the ends are NaN below 3 values, and all three without values.
    """
    count = len(values)
    if not count:
        return math.nan, math.nan, math.nan
    mean = math.fsum(values) / count
    if count < BLOCKS_FOR_INTERVAL:
        return mean, math.nan, math.nan
    squares = math.fsum((value - mean) ** 2 for value in values)
    half = float(half_width(math.sqrt(squares / (count - 1) / count), count - 1))
    return mean, mean - half, mean + half


def geometric_mean(ratios: Iterable[float]) -> float:
    """The only average of ratios; NaN for no ratios."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def geometric_means(
    groups: NDArray[np.int64], logs: Floats, count: int
) -> tuple[Floats, Floats, Floats]:
    """exp(mean of logs) in each of `count` groups with its 95% interval, t-based.

    Args:
        groups: which group each value belongs to, 0 to count - 1.
        logs: the values, logarithms.
    Returns:
        mean, low and high [count], all NaN for a group of fewer than 3 values.
    """
    n = np.bincount(groups, minlength=count).astype(np.float64)
    known = n >= BLOCKS_FOR_INTERVAL
    safe = np.where(known, n, BLOCKS_FOR_INTERVAL)
    sums = np.bincount(groups, weights=logs, minlength=count)
    mean = np.where(known, sums / safe, np.nan)
    squares = np.bincount(groups, weights=(logs - mean[groups]) ** 2, minlength=count)
    half = half_width(np.sqrt(squares / (safe - 1) / safe), safe - 1)
    return np.exp(mean), np.exp(mean - half), np.exp(mean + half)
