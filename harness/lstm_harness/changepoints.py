"""Where a series of times changed its level: ruptures on logarithms, noise left alone.

The model is a level that stays, steps, and stays again, with noise between runs. Penalised least
squares (Killick et al. 2012) finds the best set of steps; what a step must gain is in units of
the noise, which is estimated from the series itself. `tests/harness/test_changepoints.py` measures
how often pure noise is accused and how often a step is found.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from ruptures import KernelCPD

Floats = NDArray[np.float64]

# A step is believed once so many runs stand on either side: one or two may be a disturbed hour.
LEAST_RUNS = 3
# The least spread between runs, as a share, that a machine is taken to have.
LEAST_SPREAD = 0.002
# Steps and lone outliers show in a few differences of neighbours; so many of them are left aside.
DIFFERENCES_KEPT = 0.9
# A value further than this from the median of its five neighbours, in spreads, is moved to there:
# otherwise a single wild run would draw two of its neighbours into a level of their own.
WILD = 3.0
NEIGHBOURS = 5
# What one more step must gain, in squared spreads: BIC's 2 ln n for a place and a level, and a
# constant for a spread that is known from few runs. In simulated noise, normal or heavy-tailed,
# of 10 to 200 runs a step is then found in at most 3% of the series.
PENALTY = 12.0
# The search takes time by the square of what it sees: longer series are searched in windows of so
# many runs, each beginning in the middle of the one before.
WINDOW = 500
# Distance of two neighbouring levels, in standard errors from their own spread, below which a
# step is taken back: it lies where this series is noisier than elsewhere.
SURE = 4.0
# How many runs the series' own spread counts for in that.
PRIOR_RUNS = 4


def change_points(times: Floats) -> list[int]:
    """The places where a new level begins, in a series of positive times in order.

    Args:
        times: [n] in any unit.
    Returns:
        Indices into `times`, each at least `LEAST_RUNS` from its neighbours and both ends.
    """
    count = len(times)
    if count < 2 * LEAST_RUNS:
        return []
    logs = np.log(times)
    spread = _spread(logs)
    tame = _tamed(logs, spread) / spread
    penalty = PENALTY + 2 * math.log(count)
    found: list[int] = []
    for low, own, high in _windows(count):
        for place in _search(tame[low : low + WINDOW], penalty):
            if own <= low + place < high and low + place - max(found, default=0) >= LEAST_RUNS:
                found.append(low + place)
    return _sure(logs, found, spread)


def _windows(count: int) -> list[tuple[int, int, int]]:
    """Where each window starts, and from where to where the steps it finds are its own."""
    last = max(0, count - WINDOW)
    starts = [*range(0, last, WINDOW // 2), last]
    # Two windows share the half in which they overlap: a step near an edge is the other's.
    edges = [0, *((a + b + WINDOW) // 2 for a, b in itertools.pairwise(starts)), count]
    return list(zip(starts, edges, edges[1:], strict=False))


def _search(signal: Floats, penalty: float) -> list[int]:
    """The best steps of one window."""
    search = KernelCPD(kernel="linear", min_size=LEAST_RUNS)
    ends = search.fit_predict((signal - signal.mean()).reshape(-1, 1), pen=penalty)
    return [int(place) for place in ends[:-1]]


def _spread(logs: Floats) -> float:
    """The noise between runs (standard deviation), which steps do not enlarge."""
    squares = np.sort(np.diff(logs) ** 2)
    kept = squares[: math.ceil(DIFFERENCES_KEPT * len(squares))]
    return max(LEAST_SPREAD, math.sqrt(float(kept.mean()) / 2))


def _tamed(logs: Floats, spread: float) -> Floats:
    """The series with lone wild values moved towards their neighbours."""
    windows = np.lib.stride_tricks.sliding_window_view(logs, NEIGHBOURS)
    middle = np.pad(np.median(windows, axis=1), NEIGHBOURS // 2, mode="edge")
    return np.clip(logs, middle - WILD * spread, middle + WILD * spread)


def _sure(logs: Floats, found: list[int], spread: float) -> list[int]:
    """Take back, the least sure first, steps that are small against the noise beside them."""
    while found:
        edges = [0, *found, len(logs)]
        parts = [logs[low:high] for low, high in itertools.pairwise(edges)]
        sizes = [_distance(a, b, spread) for a, b in itertools.pairwise(parts)]
        least = int(np.argmin(sizes))
        if sizes[least] >= SURE:
            break
        found = found[:least] + found[least + 1 :]
    return found


def _distance(before: Floats, after: Floats, spread: float) -> float:
    errors = [_variance(part, spread) / len(part) for part in (before, after)]
    return abs(float(after.mean() - before.mean())) / math.sqrt(sum(errors))


def _variance(part: Floats, spread: float) -> float:
    own = float(((part - part.mean()) ** 2).sum())
    return (PRIOR_RUNS * spread**2 + own) / (PRIOR_RUNS + len(part) - 1)
