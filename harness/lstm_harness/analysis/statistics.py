"""The mean of logarithms and its interval by Student's t: the one place that makes one.

A ratio or a time is averaged as a logarithm. The unit is a block, and fewer than three say nothing.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

BLOCKS_FOR_INTERVAL = 3
CONFIDENCE = 0.95

Floats = NDArray[np.float64]


def geometric_mean(ratios: Iterable[float]) -> float:
    """The only average of ratios; NaN of none."""
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
    half = stdtrit(safe - 1, (1 + CONFIDENCE) / 2) * np.sqrt(squares / (safe - 1) / safe)
    return np.exp(mean), np.exp(mean - half), np.exp(mean + half)
