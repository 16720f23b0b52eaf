"""Samples of one pass: executions timed until they are enough, in one turn or in several.

Warm up, choose how many executions a sample holds, stop at the precision or the budget.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, floor, sqrt
from statistics import median

from lstm_harness.model.protocol import Reading

SHORTEST_SAMPLE_NS = 200_000
# Aim higher, so that a little noise does not make a sample too short.
ROOM = 1.25
# Short passes are repeated inside a sample until about this many samples fill a cell's share of
# the budget, which keeps a record readable.
MOST_SAMPLES = 400
# Every repeat of a sample keeps its graph and outputs alive, so short passes are not repeated
# beyond this.
LONGEST_REPEATED_NS = 2_000_000
# Passes are compared three against three while warming up; slower than that is noise.
STILL_WARMING = 0.98
WARM_UP_SHARE = 0.05
MOST_WARM_UPS = 30
# A turn among several has at least this many samples.
FEWEST_A_TURN = 2

Take = Callable[[int], Reading]


@dataclass(frozen=True)
class StopRule:
    """When a cell has enough samples.

    `budget_s` is its share of the run's time, preparation included. `fixed_repeats` is how many
    executions a sample holds, if its length does not decide it.
    """

    min_samples: int
    rel_ci: float
    budget_s: float
    fixed_repeats: int | None = None


@dataclass(frozen=True)
class Samples:
    """The readings of one cell, in order.

    `stopped_by` is which part of the rule ended them, `rel_ci` or `budget`; `turns` how many
    readings each turn took, empty where one took them all.
    """

    readings: tuple[Reading, ...]
    inner_repeats: int
    stopped_by: str
    turns: tuple[int, ...] = ()

    def per_execution_ns(self) -> tuple[int, ...]:
        """One execution's time in each sample, the mean if it was repeated."""
        return tuple(max(1, round(r.elapsed_ns / self.inner_repeats)) for r in self.readings)


@dataclass
class Sampler:
    """Samples a pass until its median is known well enough or its share of time is spent.

    Time counts while a turn lasts, and not between turns.

    Args:
        take: prepares and times this many executions as one region.
        most_repeats: how many executions a sample may have, whatever time is reported.
        counted: called with each sample that counts, while its results are still there.
        dropped: called when the samples so far do not count any more.
    """

    take: Take
    rule: StopRule
    most_repeats: Callable[[], int] = lambda: sys.maxsize
    counted: Callable[[Reading], None] = lambda reading: None
    dropped: Callable[[], None] = lambda: None
    _spent_s: float = 0.0
    _repeats: int = 0
    _readings: list[Reading] = field(default_factory=list)
    _turns: list[int] = field(default_factory=list)

    def warm_up(self) -> None:
        """Execute until it does not get faster, and choose the executions of a sample."""
        started = time.monotonic()
        fastest_ns = _warm_up(self.take, self.rule.budget_s * WARM_UP_SHARE)
        self._repeats = self.rule.fixed_repeats or self._chosen(fastest_ns)
        self._spent_s += time.monotonic() - started

    def turn(self, at_most_s: float | None) -> None:
        """Take samples until there are enough, or for about that long.

        A turn among several begins with a sample that does not count: another process ran before.
        """
        started, before = time.monotonic(), len(self._readings)
        if at_most_s is not None:
            self.take(self._repeats)
        while True:
            self._take_one()
            taken, lasted_s = len(self._readings) - before, time.monotonic() - started
            enough = self._is_enough(self._spent_s + lasted_s)
            if at_most_s is None and enough:
                break
            if at_most_s is not None and taken >= FEWEST_A_TURN and lasted_s >= at_most_s:
                break
        self._spent_s += lasted_s
        self._turns.append(taken)

    @property
    def has_enough(self) -> bool:
        """Whether no further turn is needed."""
        return self._is_enough(self._spent_s)

    def samples(self) -> Samples:
        """The samples so far."""
        is_precise = len(self._readings) >= self.rule.min_samples and self._is_precise()
        stopped_by = "rel_ci" if is_precise and self._spent_s < self.rule.budget_s else "budget"
        turns = tuple(self._turns) if len(self._turns) > 1 else ()
        return Samples(tuple(self._readings), self._repeats, stopped_by, turns)

    def _take_one(self) -> None:
        reading = self.take(self._repeats)
        while reading.elapsed_ns < SHORTEST_SAMPLE_NS and not self.rule.fixed_repeats:
            # The budget may have cut the warm-up short, before the pass reached its speed.
            repeats = self._chosen(reading.elapsed_ns // self._repeats)
            if self._turns or repeats <= self._repeats:
                break  # samples of earlier turns have this many executions, too
            self._repeats = repeats
            self._readings.clear()
            self.dropped()
            reading = self.take(self._repeats)
        self._readings.append(reading)
        self.counted(reading)

    def _chosen(self, execution_ns: int) -> int:
        return min(choose_repeats(execution_ns, self.rule.budget_s), self.most_repeats())

    def _is_enough(self, spent_s: float) -> bool:
        if len(self._readings) < self.rule.min_samples:
            return False
        return spent_s >= self.rule.budget_s or self._is_precise()

    def _is_precise(self) -> bool:
        if len(self._readings) % 10 and len(self._turns) < 2:
            return False  # a check after each sample would stop when precision is high by chance
        return relative_half_width(self._readings) <= self.rule.rel_ci


def collect(take: Take, rule: StopRule) -> Samples:
    """Sample a pass in one go; see `Sampler`."""
    sampler = Sampler(take, rule)
    sampler.warm_up()
    sampler.turn(None)
    return sampler.samples()


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
