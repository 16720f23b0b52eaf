"""Where a series of times changed its level: least squares on logarithms, ignoring noise.

The model is a level that stays, steps, and stays again, with noise between runs. Penalised least
squares, solved exactly (Jackson et al. 2005), finds the best set of steps; what a step must gain is
in units of the noise, which is estimated from the series itself.
`tests/harness/history/test_change_points.py` measures how often pure noise is accused and how often
a step is found.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A step counts if this many runs are on either side: one or two may be a disturbed hour.
LEAST_RUNS = 3
# The smallest spread between runs, as a share, that a machine is assumed to have.
LEAST_SPREAD = 0.002
# Steps and single outliers show in a few differences of neighbours; this many of them are left out.
DIFFERENCES_KEPT = 0.9
# A value further than this from the median of its five neighbours, in spreads, is moved to there:
# otherwise a single wild run would draw two of its neighbours into a level of their own.
WILD = 3.0
NEIGHBOURS = 5
# What one more step must gain, in squared spreads: BIC's 2 ln n for a place and a level, and a
# constant for a spread that is known from few runs. In simulated noise, normal or heavy-tailed,
# of 10 to 200 runs a step is then found in at most 3% of the series.
PENALTY = 12.0
# The search takes time by the square of what it sees: longer series are searched in windows of this
# many runs, each beginning in the middle of the one before.
WINDOW = 500
# Distance of two neighbouring levels, in standard errors by the noise there, below which a step is
# taken back. Penalty and distance both have to be passed: the first knows one noise for the whole
# series, the second that a machine may be noisier for a while and that noise may follow itself.
SURE = 4.4
# How many runs the series' own spread counts for in the noise of a level, so that three runs alike
# by chance are not taken for quiet ones; and this many on each side of a level are asked too.
PRIOR_RUNS = 2
RUNS_BESIDE = 10
# How many runs say that noise does not follow itself, before a series has said anything. And the
# most that is believed of a series that says it does.
PRIOR_INDEPENDENT = 20
MOST_FOLLOWING = 0.9


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
    steps: list[int] = []
    for low, own, high in _windows(count):
        for place in _search(tame[low : low + WINDOW], penalty):
            if own <= low + place < high and low + place - max(steps, default=0) >= LEAST_RUNS:
                steps.append(low + place)
    return _sure(logs, steps, spread)


def _windows(count: int) -> list[tuple[int, int, int]]:
    """Where each window starts, and from where to where the steps it finds are its own."""
    last = max(0, count - WINDOW)
    starts = [*range(0, last, WINDOW // 2), last]
    # Two windows share the half in which they overlap: a step near an edge is the other's.
    edges = [0, *((a + b + WINDOW) // 2 for a, b in itertools.pairwise(starts)), count]
    return list(zip(starts, edges, edges[1:], strict=False))


def _search(signal: Floats, penalty: float) -> list[int]:
    """The best steps of one window: those that leave the least squares, a penalty for each added.

    The best way to part the first n values is the best of all ways to place the last step and to
    split the values before it, so that each n is solved once, from those below it.
    """
    count = len(signal)
    sums = np.concatenate(([0.0], np.cumsum(signal - signal.mean())))
    # By how much levels lower the squares of the first n values, less the penalties of their steps.
    gains = np.full(count + 1, -math.inf)
    gains[0] = penalty  # the first level takes no step
    starts = np.zeros(count + 1, dtype=np.int64)  # of the last level of the first n values
    for n in range(LEAST_RUNS, count + 1):
        levels = slice(0, n - LEAST_RUNS + 1)
        lengths = np.arange(n, LEAST_RUNS - 1, -1)
        gain = gains[levels] + (sums[n] - sums[levels]) ** 2 / lengths
        starts[n] = np.argmax(gain)
        gains[n] = gain[starts[n]] - penalty
    steps = []
    place = int(starts[count])
    while place:
        steps.append(place)
        place = int(starts[place])
    return steps[::-1]


def _spread(logs: Floats) -> float:
    """The noise between runs (standard deviation), not enlarged by steps."""
    squares = np.sort(np.diff(logs) ** 2)
    kept = squares[: math.ceil(DIFFERENCES_KEPT * len(squares))]
    return max(LEAST_SPREAD, math.sqrt(float(kept.mean()) / 2))


def _tamed(logs: Floats, spread: float) -> Floats:
    """The series with lone wild values moved towards their neighbours."""
    windows = np.lib.stride_tricks.sliding_window_view(logs, NEIGHBOURS)
    middle = np.pad(np.median(windows, axis=1), NEIGHBOURS // 2, mode="edge")
    return np.clip(logs, middle - WILD * spread, middle + WILD * spread)


def _sure(logs: Floats, steps: list[int], spread: float) -> list[int]:
    """Remove, the least certain first, steps that are small compared with the noise around them."""
    while steps:
        sizes = _distances(logs, steps, spread)
        least = int(np.argmin(sizes))
        if sizes[least] >= SURE:
            break
        steps = steps[:least] + steps[least + 1 :]
    return steps


def _distances(logs: Floats, steps: list[int], spread: float) -> Floats:
    """[steps], from each level to the next, in standard errors of the difference."""
    edges = np.array([0, *steps, len(logs)])
    counts = np.diff(edges)
    levels = np.add.reduceat(logs, edges[:-1]) / counts
    left = logs - np.repeat(levels, counts)  # [n], noise about the levels
    squares = np.concatenate(([0.0], np.cumsum(left**2)))
    # Each level that was fitted has taken one run's worth of noise away.
    freedom = np.concatenate(([0.0], np.cumsum(np.repeat(1 - 1 / counts, counts))))
    own = edges[:-1], edges[1:]
    beside = np.maximum(own[0] - RUNS_BESIDE, 0), np.minimum(own[1] + RUNS_BESIDE, len(logs))
    variances = [
        (PRIOR_RUNS * spread**2 + squares[high] - squares[low])
        / (PRIOR_RUNS + freedom[high] - freedom[low])
        for low, high in (own, beside)
    ]
    errors = np.maximum(*variances) / counts * _following(left, len(levels))
    return np.asarray(np.abs(np.diff(levels)) / np.sqrt(errors[:-1] + errors[1:]))


def _following(left: Floats, levels: int) -> float:
    """How much more a mean varies where each run's noise holds some of the one before (AR(1))."""
    total = float((left**2).sum())
    if not total:
        return 1.0
    count = len(left)
    # Fitting levels makes noise look negatively correlated, by this much on average.
    share = float((left[1:] * left[:-1]).sum()) / total + levels / count
    share *= count / (count + PRIOR_INDEPENDENT)
    share = min(max(share, 0.0), MOST_FOLLOWING)
    return (1 + share) / (1 - share)
