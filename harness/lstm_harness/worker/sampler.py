"""The samples of one pass: inputs prepared, executions timed, the last outcome kept."""

import time
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from lstm_harness.worker.clock import Clock, Reading
from lstm_harness.worker.inputs import Inputs
from lstm_harness.worker.passes import Pass, State

WALL_SAMPLES = 5
# A bfloat16 has eight bits of precision.
DIGIT = 128


@dataclass
class Track:
    """Takes samples of one pass, rotating over input sets; no two executions see the same x."""

    the_pass: Pass
    clock: Clock
    sets: list[Inputs]
    prepare_ms: float = field(default=0.0, init=False)
    last_state: State = field(init=False)
    last_found: dict[str, list[torch.Tensor]] = field(init=False)
    _taken: int = 0

    def take(self, repeats: int) -> Reading:
        """One sample of that many executions, each on the next set with a number of its own."""
        states = []
        for _ in range(repeats):
            self._taken += 1
            inputs = self.sets[self._taken % len(self.sets)]
            x = _numbered(inputs.x, self._taken)
            states.append(self.the_pass.prepare(replace(inputs, x=x)))
        return self._measure(states)

    def take_last(self, inputs: Inputs, repeats: int) -> Reading:
        """One sample on a given set, whose outcome is kept as it is when the clock stops."""
        started = time.perf_counter()
        states = [self.the_pass.prepare(inputs) for _ in range(repeats)]
        self.prepare_ms = (time.perf_counter() - started) * 1e3 / repeats
        reading = self._measure(states)
        self.last_state = states[-1]
        self.last_found = {n: [t.clone() for t in g] for n, g in self.last_state.found().items()}
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


def _numbered(x: torch.Tensor, number: int) -> torch.Tensor:
    """A copy whose first elements hold a number, in digits that every dtype holds exactly."""
    digits = [number // DIGIT**place % DIGIT / DIGIT for place in range(min(4, x.numel()))]
    fresh = x.clone()
    fresh.view(-1)[: len(digits)] = torch.tensor(digits, dtype=x.dtype, device=x.device)
    return fresh
