"""Samples of one pass: executions timed until they are enough, in one turn or in several.

Warm up, choose how many executions a sample holds, stop at the precision or the budget. No two
executions see the same inputs.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, cos, floor, pi, sin, sqrt
from statistics import median
from typing import Any

import torch

from lstm_harness.model.protocol import StopRule
from lstm_harness.worker.clock import Clock, Reading
from lstm_harness.worker.inputs import Inputs
from lstm_harness.worker.passes import Pass, State, refuse_shared

SHORTEST_SAMPLE_NS = 200_000
# Aim above that, so that a little noise does not make a sample too short.
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
# A turn that is one of several has at least so many samples.
FEWEST_A_TURN = 2

WALL_SAMPLES = 5
FLOAT_BYTES = 4
# The gradients that a backward starts from.
_STARTS = ("d_y", "d_h_n", "d_c_n")

Take = Callable[[int], Reading]


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
        """One execution's time in each sample, the mean where it was repeated."""
        return tuple(max(1, round(r.elapsed_ns / self.inner_repeats)) for r in self.readings)


@dataclass
class Sampler:
    """Samples a pass until its median is known well enough or its share of time is spent.

    Time counts while a turn lasts, and not between turns.

    Args:
        take: prepares and times that many executions as one region.
    """

    take: Take
    rule: StopRule
    _spent_s: float = 0.0
    _repeats: int = 0
    _readings: list[Reading] = field(default_factory=list)
    _turns: list[int] = field(default_factory=list)

    def warm_up(self) -> None:
        """Execute until it is no faster than before, and choose the executions a sample."""
        started = time.monotonic()
        fastest_ns = _warm_up(self.take, self.rule.budget_s * WARM_UP_SHARE)
        self._repeats = self.rule.fixed_repeats or choose_repeats(fastest_ns, self.rule.budget_s)
        self._spent_s += time.monotonic() - started

    def turn(self, at_most_s: float | None) -> None:
        """Take samples until they are enough, or for about that long.

        A turn of several begins with a sample that does not count: another process ran before.
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
        """What was taken so far."""
        is_precise = len(self._readings) >= self.rule.min_samples and self._is_precise()
        stopped_by = "rel_ci" if is_precise and self._spent_s < self.rule.budget_s else "budget"
        turns = tuple(self._turns) if len(self._turns) > 1 else ()
        return Samples(tuple(self._readings), self._repeats, stopped_by, turns)

    def _take_one(self) -> None:
        reading = self.take(self._repeats)
        while reading.elapsed_ns < SHORTEST_SAMPLE_NS and not self.rule.fixed_repeats:
            # The warm-up, which the budget may have cut short, had not seen the pass at its speed.
            if self._turns:
                break  # samples of earlier turns have this many executions, too
            self._repeats = choose_repeats(reading.elapsed_ns // self._repeats, self.rule.budget_s)
            self._readings.clear()
            reading = self.take(self._repeats)
        self._readings.append(reading)

    def _is_enough(self, spent_s: float) -> bool:
        if len(self._readings) < self.rule.min_samples:
            return False
        return spent_s >= self.rule.budget_s or self._is_precise()

    def _is_precise(self) -> bool:
        if len(self._readings) % 10 and len(self._turns) < 2:
            return False  # asking after each sample would stop where it looks precise by chance
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


@dataclass
class Track:
    """Executes one pass, each time on inputs that no execution had before.

    They are mixed of two sets, every tensor by an angle of its own: what is drawn from a normal
    distribution still is. The gradients that a backward starts from are mixed once it is prepared.
    """

    the_pass: Pass
    clock: Clock
    sets: tuple[Inputs, Inputs]
    with_gradients: bool
    prepare_ms: float = field(default=0.0, init=False)
    last_state: State = field(init=False)
    last_outputs: dict[str, list[torch.Tensor]] = field(init=False)
    # Seeded by the system: nobody knows what comes.
    _chance: random.Random = field(default_factory=random.Random)

    def take(self, repeats: int) -> Reading:
        """One sample of that many executions.

        Raises:
            Malformed: two executions gave their outputs in the same memory.
        """
        states = [self.the_pass.prepare(self._fresh()) for _ in range(repeats)]
        if self.with_gradients:
            for state in states:
                self._draw_gradients(state.inputs)
        reading = self._measure(states)
        # Replays of one captured graph are one state.
        refuse_shared([state.outputs for state in {id(state): state for state in states}.values()])
        return reading

    def _fresh(self) -> Inputs:
        """Inputs in memory of their own; what a backward starts from has but room there."""
        one, other = self.sets
        fresh: dict[str, Any] = {
            name: self._mix(*pair) for name, pair in _pairs(one, other, "x", "h0", "c0")
        }
        if self.with_gradients:
            rooms = _pairs(one, other, *_STARTS)
            fresh |= {name: torch.empty_like(first) for name, (first, _) in rooms}
        return replace(one, **fresh)

    def _draw_gradients(self, inputs: Inputs) -> None:
        for name, pair in _pairs(*self.sets, *_STARTS):
            getattr(inputs, name).copy_(self._mix(*pair))

    def _mix(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        angle = self._chance.uniform(0.0, 2 * pi)
        if first.element_size() < FLOAT_BYTES:
            # Numbers of 16 bits know few angles.
            mixed = torch.mul(first.float(), cos(angle)).add_(second, alpha=sin(angle))
            return mixed.to(first.dtype)
        return torch.mul(first, cos(angle)).add_(second, alpha=sin(angle))

    def take_last(self, inputs: Inputs, repeats: int) -> Reading:
        """One sample whose last execution is on a given set; its outcome is kept as it then is."""
        given = [*(self._fresh() for _ in range(repeats - 1)), inputs]
        started = time.perf_counter()
        states = [self.the_pass.prepare(each) for each in given]
        self.prepare_ms = (time.perf_counter() - started) * 1e3 / repeats
        if self.with_gradients:
            for state in states[:-1]:
                self._draw_gradients(state.inputs)
        reading = self._measure(states)
        self.last_state = states[-1]
        made = self.last_state.tensors().items()
        self.last_outputs = {name: [tensor.clone() for tensor in group] for name, group in made}
        return reading

    def wall_ns(self, inputs: Inputs) -> tuple[int, ...]:
        """A few executions on the clock's second figure."""
        figures = []
        for _ in range(WALL_SAMPLES):
            state = self.the_pass.prepare(inputs)
            figures.append(self.clock.wall_ns([partial(self.the_pass.execute, state)]))
        return tuple(figure for figure in figures if figure is not None)

    def _measure(self, states: list[State]) -> Reading:
        return self.clock.measure([partial(self.the_pass.execute, state) for state in states])


def _pairs(
    one: Inputs, other: Inputs, *names: str
) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """The tensors of two sets by name; a cell without c has some less."""
    for name in names:
        if getattr(one, name) is not None:
            yield name, (getattr(one, name), getattr(other, name))
