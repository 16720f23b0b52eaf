"""Which backend should `auto` take where noise hides which is faster? The times that answers lose.

    PYTHONPATH=kernels:harness python tests/perf/auto_in_noise.py

The truth is the medians of every shipped row. Blocks with a normal spread of their logarithms are
drawn around them, and each answer reads the same blocks. They agree where the fastest backend is
beyond noise, and where a tie with PyTorch's own is proven (`for_auto.EVEN`). Else one takes
PyTorch's own, one the fastest median, and one leaves the row out, so that the nearest other one
decides. A loss is the time of the backend taken over that of the truly fastest, less 1: the
geometric mean over rows and repetitions.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from lstm_harness.analysis.for_auto import EVEN
from lstm_harness.analysis.statistics import geometric_means
from lstm_kernels import measured, preference
from lstm_kernels.measured import Row

ANSWERS = ("PyTorch's own", "the fastest median", "the neighbour's")
SPREADS, BLOCKS = (0.01, 0.02, 0.05, 0.10, 0.20), (3, 5, 8)


def rows_of(path) -> list[Row]:
    """The rows of a file in which PyTorch's own has a rival that `auto` may take."""
    (own,) = measured.own_on("cpu")
    rows = measured.read(path).rows
    return [row for row in rows if own in row.median_ns and len(contenders(row)) > 1]


def contenders(row: Row) -> list[str]:
    """The backends that `auto` may take, PyTorch's own first."""
    (own,) = measured.own_on("cpu")
    return [own, *(n for n in row.median_ns if n != own and n not in preference.ONLY_BY_NAME)]


def neighbours(rows: Sequence[Row]) -> list[list[int]]:
    """Of each row the places of those near it, the nearest first."""
    found = []
    for row in rows:
        away = [
            (preference.distance(row.problem, other.problem), place)
            for place, other in enumerate(rows)
            if other is not row and other.use == row.use
        ]
        near = sorted(pair for pair in away if pair[0] is not None and pair[0] <= preference.NEAR)
        found.append([place for _, place in near])
    return found


def drawn(row: Row, blocks: int, spread: float, times: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """What `times` noisy runs say of a row: the place of the one to take, -1 where noise hides it.

    Returns:
        that, and the place of the fastest median, both [times].
    """
    names = contenders(row)
    truth = np.log([row.median_ns[name] for name in names])
    logs = truth + rng.normal(0, spread, (times, blocks, len(names)))
    fastest = np.median(logs, axis=1).argmin(axis=1)
    ratios = logs[..., 0] - np.take_along_axis(logs, fastest[:, None, None], axis=2)[..., 0]
    groups = np.repeat(np.arange(times), blocks)
    _, low, high = geometric_means(groups, ratios.ravel(), times)
    is_even = (low <= 1) & (low > 1 / EVEN) & (high < EVEN)
    return np.where(is_even, 0, np.where(low > 1, fastest, -1)), fastest


def losses(rows: Sequence[Row], blocks: int, spread: float, times: int, rng) -> list[list[float]]:
    """The logarithms of the losses of each answer, and 1 for each row that noise left unclear."""
    seen = [drawn(row, blocks, spread, times, rng) for row in rows]
    found: list[list[float]] = [[] for _ in (*ANSWERS, "unclear")]
    for row, (clear, fastest), around in zip(rows, seen, neighbours(rows), strict=True):
        names = contenders(row)
        truth = np.log([row.median_ns[name] for name in names])
        for time in range(times):
            told = clear[time]
            near = next((place for place in around if seen[place][0][time] >= 0), None)
            named = names[0] if near is None else contenders(rows[near])[seen[near][0][time]]
            theirs = names.index(named) if named in names else 0
            taken = [told if told >= 0 else each for each in (0, fastest[time], theirs)]
            for answer, place in zip(found, taken, strict=False):
                answer.append(truth[place] - truth.min())
            found[-1].append(told < 0)
    return found


def main() -> None:
    """Print a line for each number of blocks and spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    files = [rows_of(path) for path in sorted(measured.SHIPPED.glob("cpu-*.json"))]
    print(f"{sum(map(len, files))} rows, {options.times} runs of each, seed {options.seed}")
    print("spread  blocks  unclear  time lost, where unclear, by taking")
    print(" " * 25 + "".join(f"{each:>20}" for each in ANSWERS))
    for spread in SPREADS:
        for blocks in BLOCKS:
            each = [losses(rows, blocks, spread, options.times, rng) for rows in files]
            *means, unclear = (np.mean(np.concatenate(of)) for of in zip(*each, strict=True))
            shown = "".join(f"{np.expm1(mean):20.2%}" for mean in means)
            print(f"{spread:6.0%}  {blocks:6}  {unclear:7.0%}{shown}", flush=True)


if __name__ == "__main__":
    main()
