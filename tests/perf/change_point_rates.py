"""How often noise is accused of a step, and a step found: rates over simulated series.

    PYTHONPATH=kernels:harness python tests/perf/change_point_rates.py

Exits with 1 where more than 5% of pure noise is accused, 10% of noise of another kind, or a 10%
step at 2% spread with ten runs on each side is found less than 95% of the time. `noisy spell` is a
machine whose spread is eight times as large for up to a quarter of the runs, `follows itself` noise
that remembers 0.3 of the run before.
"""

import sys

import numpy as np

from lstm_harness.history.change_points import change_points

SERIES = 2000
LENGTHS = (10, 12, 15, 20, 30, 50, 100, 200)


def normal(rng, count):
    """The run-to-run spread of a quiet to a noisy machine, 1% to 5%."""
    return rng.normal(0, rng.uniform(0.01, 0.05), count)


def heavy_tails(rng, count):
    """Student's t with 3 degrees of freedom."""
    return 0.02 * rng.standard_t(3, count)


def two_modes(rng, count):
    """Half of the runs 5% slower, by chance."""
    return rng.normal(0, 0.005, count) + 0.05 * (rng.random(count) < 0.5)


def noisy_spell(rng, count):
    """A spread of 1.5%, in a spell 12%."""
    spread = np.full(count, 0.015)
    first = rng.integers(0, count)
    spread[first : first + rng.integers(1, max(2, count // 4))] = 0.12
    return rng.normal(0, spread)


def follows_itself(rng, count):
    """Each run's noise with 0.3 of the one before."""
    noise = rng.normal(0, 0.02, count)
    for place in range(1, count):
        noise[place] += 0.3 * noise[place - 1]
    return noise


def accused(noise, count: int) -> float:
    """The share of noise series in which a step is found."""
    rng = np.random.default_rng(count)
    return sum(bool(change_points(np.exp(noise(rng, count)))) for _ in range(SERIES)) / SERIES


def found(before: int, after: int, size: float, spread: float) -> float:
    """The share of series in which the one step is found, and no other, within two runs."""
    rng = np.random.default_rng(before + after)
    right = 0
    for _ in range(SERIES):
        logs = rng.normal(0, spread, before + after)
        logs[before:] += np.log1p(size)
        places = change_points(np.exp(logs))
        right += len(places) == 1 and abs(places[0] - before) <= 2
    return right / SERIES


def main() -> int:
    """Print both tables and judge."""
    print(f"{SERIES} series each; share of pure noise in which a step is found")
    kinds = (normal, heavy_tails, two_modes, noisy_spell, follows_itself)
    print("runs  " + "  ".join(kind.__name__.replace("_", " ") for kind in kinds))
    worst = worst_odd = 0.0
    for count in LENGTHS:
        rates = [accused(kind, count) for kind in kinds]
        worst, worst_odd = max(worst, rates[0]), max(worst_odd, *rates)
        cells = (f"{r:{len(k.__name__)}.1%}" for r, k in zip(rates, kinds, strict=True))
        print(f"{count:4}  " + "  ".join(cells))
    print("before  after  step  spread  found")
    least = 1.0
    for before, after, size, spread in (
        *((10, 10, 0.10, 0.02), (10, 10, -0.10, 0.02), (10, 5, 0.10, 0.02), (30, 3, 0.10, 0.02)),
        *((10, 10, 0.05, 0.02), (30, 30, 0.05, 0.02), (100, 100, 0.03, 0.02)),
    ):
        rate = found(before, after, size, spread)
        least = min(least, rate) if (before, after) == (10, 10) and abs(size) == 0.10 else least
        print(f"{before:6}  {after:5}  {size:+4.0%}  {spread:6.0%}  {rate:5.1%}")
    return int(worst > 0.05 or worst_odd > 0.1 or least < 0.95)


if __name__ == "__main__":
    sys.exit(main())
