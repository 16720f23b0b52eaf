"""How many samples: warm up, choose the inner repeat, stop at the precision or the budget."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, sqrt
from statistics import median

from lstm_harness.worker.clock import Reading

SHORTEST_SAMPLE_NS = 200_000
# Aim above that, so that a little noise does not make a sample too short.
ROOM = 1.25
# Short passes are repeated inside a sample until about this many samples fill a cell's share of
# the budget, which keeps a record readable.
MOST_SAMPLES = 400
# Passes are compared three against three while warming up; slower than that is noise.
# Every repeat of a sample keeps its graph and outputs alive, so short passes are not repeated
# beyond this.
LONGEST_REPEATED_NS = 2_000_000
STILL_WARMING = 0.98
WARM_UP_SHARE = 0.05
MOST_WARM_UPS = 30

Take = Callable[[int], Reading]


@dataclass(frozen=True)
class Limits:
    """When a cell has enough. `budget_s` is its share of the run's time, preparation included."""

    min_samples: int
    rel_ci: float
    budget_s: float
    fixed_repeats: int | None = None


@dataclass(frozen=True)
class Samples:
    """The readings of one cell, in order, and which limit ended them: `rel_ci` or `budget`."""

    readings: tuple[Reading, ...]
    inner_repeats: int
    stopped_by: str

    def per_execution_ns(self) -> tuple[int, ...]:
        """One execution's time in each sample, the mean where it was repeated."""
        return tuple(max(1, round(r.elapsed_ns / self.inner_repeats)) for r in self.readings)


def collect(take: Take, limits: Limits) -> Samples:
    """Sample a pass until its median is known well enough or its share of time is spent.

    Args:
        take: prepares and times that many executions as one region.
    """
    started = time.monotonic()
    fastest_ns = _warm_up(take, limits.budget_s * WARM_UP_SHARE)
    repeats = limits.fixed_repeats or choose_repeats(fastest_ns, limits.budget_s)
    readings: list[Reading] = []
    while True:
        reading = take(repeats)
        if reading.elapsed_ns < SHORTEST_SAMPLE_NS and not limits.fixed_repeats:
            # The warm-up, which the budget may have cut short, had not seen the pass at its speed.
            repeats = choose_repeats(reading.elapsed_ns // repeats, limits.budget_s)
            readings = []
            continue
        readings.append(reading)
        if len(readings) < limits.min_samples:
            continue
        if time.monotonic() - started >= limits.budget_s:
            return Samples(tuple(readings), repeats, "budget")
        if len(readings) % 10 == 0 and relative_half_width(readings) <= limits.rel_ci:
            return Samples(tuple(readings), repeats, "rel_ci")


def choose_repeats(fastest_ns: int, budget_s: float) -> int:
    """Executions a sample, so that no sample is shorter than the clock is good for."""
    spread_ns = min(budget_s * 1e9 / MOST_SAMPLES, LONGEST_REPEATED_NS)
    target_ns = max(ROOM * SHORTEST_SAMPLE_NS, spread_ns)
    return max(1, ceil(target_ns / max(1, fastest_ns)))


def relative_half_width(readings: list[Reading]) -> float:
    """Half the 95% interval of the median over the median, from the ranks of the samples alone."""
    ordered = sorted(reading.elapsed_ns for reading in readings)
    count = len(ordered)
    rank = max(0, floor((count - 1.96 * sqrt(count)) / 2))
    return (ordered[count - 1 - rank] - ordered[rank]) / 2 / max(1.0, median(ordered))


def _warm_up(take: Take, budget_s: float) -> int:
    """Execute until three are no longer faster than the three before; return the fastest, in ns."""
    started = time.monotonic()
    times = [take(1).elapsed_ns]
    while len(times) < MOST_WARM_UPS and time.monotonic() - started < budget_s:
        times.append(take(1).elapsed_ns)
        settled = len(times) >= 6 and median(times[-3:]) >= STILL_WARMING * median(times[-6:-3])
        if settled:
            break
    return min(times)
