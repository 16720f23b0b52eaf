"""Samples of one cell, as its worker takes them: prepared, executed, and some handed over."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.protocol import (
    Draw,
    DrawGradients,
    Execute,
    Handed,
    HandOver,
    PrepareSample,
    Reading,
    Request,
)
from lstm_harness.race.account import LONG_SAMPLES, Account
from lstm_harness.race.picks import Pick, Picks
from lstm_harness.race.process import Failed, Spent, WorkerProcess
from lstm_harness.race.sealed import Sealed
from lstm_harness.race.steal import steal_ms
from lstm_harness.race.strangers import children_ms
from lstm_kernels.problem import Problem

# How many samples are repeated for a cell whose times are doubted, and how long to wait
# before each repeat: a neighbour's burst may last as long.
SAMPLES_AGAIN = 7
PAUSES_S = (0.0, 0.1, 0.3)
# How much of its samples' time other processes may run for it: their time is counted in ticks.
MOST_HELP = 0.05
TICK_MS = 20.0


@dataclass
class Track:
    """Has a worker take samples of its open cell, each on inputs that nobody knew before.

    Args:
        ask_together: asks the cell's worker, within what is left of the cell's time; the second
            argument tells that others follow at once, see `WorkerProcess.ask_together`.
        weights: the nonce that the cell's weights were changed by.
        threads: how many the worker may have.
    """

    case: Case
    worker: WorkerProcess
    ask_together: Callable[[Sequence[Request[Any]], bool], list[tuple[Any, Spent]]]
    weights: str
    threads: int
    picks: Picks = field(default_factory=Picks)
    prepare_ms: float = 0.0
    _account: Account = field(init=False)
    _draw: Draw = field(init=False)
    _children_ms: float = 0.0

    def __post_init__(self) -> None:
        self._account = Account(self.threads, _numbers(self.case.problem))

    def begin(self) -> None:
        """Watch the processes that the worker starts, from here on."""
        self._children_ms = children_ms(self.worker.pid)

    def most_repeats(self) -> int:
        """How many executions a sample may have, whatever time is reported."""
        return self._account.most_repeats()

    def take(self, repeats: int) -> Reading:
        """One sample of this many executions.

        Raises:
            Failed: what it reports is impossible (`crashed`), or the worker failed.
        """
        started = time.monotonic()
        reading, spent = self._sample(repeats)
        self._account.executed(reading.elapsed_ns, spent, self.worker.spent_together)
        self._account.waited(repeats, time.monotonic() - started)
        return reading

    def _sample(self, repeats: int) -> tuple[Reading, Spent]:
        """Prepare and execute on inputs that nobody knew before; also return the time."""
        self._draw = Draw(self.weights, secrets.token_hex(8), secrets.token_hex(8))
        prepare = PrepareSample(self._draw.inputs, repeats)
        draw = DrawGradients(self._draw.gradients)
        before_ms = steal_ms()
        # An execution begins as soon as all is ready, as it does without a measurement.
        if self.case.pass_name == "backward":
            # Its preparation is a forward, which must not know what is drawn afterwards.
            ((_, preparing),) = self.ask_together([prepare], True)
            (_, drawing), (reading, spent) = self.ask_together([draw, Execute()], False)
            self._account.beside("drawing gradients for", repeats, drawing)
        else:
            requests = [prepare, draw] if self.case.makes_gradients else [prepare]
            *answered, (reading, spent) = self.ask_together([*requests, Execute()], False)
            for _, each in answered:
                self._account.beside("preparing", repeats, each)
            preparing = answered[0][1]
        self.prepare_ms = preparing.wall_ns / 1e6 / repeats
        # The reply before may have been read late; that time was counted as preparing.
        waited_ns = self.worker.spent_together.wall_ns
        if not 0 <= reading.elapsed_ns <= waited_ns:
            told, took = reading.elapsed_ns / 1e6, waited_ns / 1e6
            reason = f"the worker reported a sample of {told:.3f} ms but replied in {took:.3f} ms"
            raise Failed("crashed", reason)
        if self.case.device != "cpu":
            return reading, spent
        stolen_ms = steal_ms() - before_ms
        marked = reading.marked or stolen_ms > 0
        return replace(reading, steal_ms=stolen_ms, marked=marked), spent

    def counted(self, reading: Reading) -> None:
        """Move a sample out of the worker's reach, if it is picked."""
        places = self.picks.places_for(reading.elapsed_ns)
        if places:
            handed = self._hand_over()
            pick = Pick(Sealed(self.worker, handed), self._draw, reading.elapsed_ns)
            self.picks.keep(places, pick)

    def _hand_over(self) -> Handed:
        answered: list[tuple[Handed, Spent]] = self.ask_together([HandOver()], False)
        ((handed, spent),) = answered
        self._account.beside("handing over", len(handed.counts), spent)
        return handed

    def _others_work(self) -> str:
        """Why processes that it started may have worked for it, which no clock of ours sees."""
        left = self.worker.end_strangers()
        if left:
            return f"it left {left} processes running, which may have computed its samples"
        helped_ms = children_ms(self.worker.pid) - self._children_ms
        if helped_ms > MOST_HELP * self._account.executing_ms + TICK_MS:
            return f"processes that it started worked for {helped_ms:.0f} ms during its samples"
        return ""

    def doubt(self, execution_ns: float, repeats: int) -> str:
        """Why the times are not believed; empty if they are."""
        return self._others_work() or self._doubt(execution_ns, repeats)

    def _doubt(self, execution_ns: float, repeats: int) -> str:
        """The doubt that the clocks raise repeatedly: a single one may come from a neighbour."""
        if self.case.device != "cpu":
            return ""  # a GPU's clock differs from the harness's
        self._take_longer(execution_ns, repeats)
        for pause_s in PAUSES_S:
            if not self._account.doubt(execution_ns):
                break
            time.sleep(pause_s)
            self._account = Account(self.threads, self._account.numbers, again=repeats)
            for _ in range(SAMPLES_AGAIN):
                self.take(repeats)
                self._hand_over()
            self._take_longer(execution_ns, repeats)
        return self._account.doubt(execution_ns)

    def _take_longer(self, execution_ns: float, repeats: int) -> None:
        """Take longer samples that hide nothing, if those that count may be too short."""
        longer = self._account.repeats_longer(execution_ns, repeats)
        if longer:
            for _ in range(LONG_SAMPLES):
                reading, spent = self._sample(longer)
                together = self.worker.spent_together
                self._account.longer(reading.elapsed_ns, longer, spent, together)


def _numbers(problem: Problem) -> int:
    """About how many numbers an execution's inputs, outputs and gradients have."""
    at_a_step = problem.input_size + problem.directions * problem.state_size
    return 2 * problem.seq_len * problem.batch * at_a_step + problem.parameter_count()
