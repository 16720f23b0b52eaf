"""One cell of the grid, inside a worker: prove it right, time it, prove it right again."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lstm_harness.model.case import Case
from lstm_harness.model.protocol import CellOpened, OpenCell, TurnTaken
from lstm_harness.model.record import Record
from lstm_harness.worker.clock import make_clock
from lstm_harness.worker.inputs import Inputs, make_inputs
from lstm_harness.worker.oracle import FIRST_SET, LAST_SET, Answer, checked_inputs, load
from lstm_harness.worker.passes import Pass, State, make_pass, refuse_malformed
from lstm_harness.worker.poison import poisoned_memory
from lstm_harness.worker.replay import replayed
from lstm_harness.worker.resources import Resources
from lstm_harness.worker.sampler import Sampler, Samples, Track
from lstm_harness.worker.verify import Correctness, judge, tolerance
from lstm_kernels.problem import Problem

ROTATING_SET = 2


class Incorrect(Exception):  # noqa: N818 - a finding about a backend, not a failure of ours
    """A backend gave a wrong answer, changed what it was given, or was faster than can be."""

    def __init__(self, failure: str, errors: dict[str, float | None] | None = None) -> None:
        super().__init__(failure)
        self.errors = errors or {}


@dataclass
class _Cell:
    """A cell that was proved right, with all that timing it needs."""

    job: OpenCell
    the_pass: Pass
    inputs: Inputs
    answer: Answer
    errors: dict[str, float | None]
    setup_ms: float
    first_ms: float
    track: Track
    sampler: Sampler


@dataclass
class Executor:
    """The cells of one backend in one worker, one open at a time.

    Gradients are proved once a problem. `open` proves a cell right, `take_turn` samples it, once or
    often, and `close` proves it right again and tells what was measured.
    """

    implementation: Any
    passes: tuple[str, ...]
    device: str
    _proved: dict[Problem, Correctness] = field(default_factory=dict)
    _cell: _Cell | None = None
    _around: ExitStack = field(default_factory=ExitStack)

    def execute(self, job: OpenCell) -> Record:
        """Open a cell, sample it in one turn, and close it."""
        self.open(job)
        self.take_turn(None)
        return self.close()

    def open(self, job: OpenCell) -> CellOpened:
        """Verify a cell and, unless only the proof is wanted, make it ready to be timed.

        Raises:
            Incorrect, Malformed: the backend is wrong; whatever else the backend raises.
        """
        self._forget()
        self._around.enter_context(self._choice_of(job))
        problem = job.case.problem
        set_precision(problem)
        answer = load(Path(job.answer))
        bound = tolerance(problem)
        inputs = checked_inputs(problem, job.seed, FIRST_SET, self.device)
        started = time.perf_counter()
        if hasattr(self.implementation, "flatten"):
            self.implementation.flatten(inputs.weights, problem)
        untouched = [tensor.clone() for tensor in _all(inputs)]
        the_pass = self._make_pass(job.case, inputs)
        setup_ms = (time.perf_counter() - started) * 1e3
        first_ms, correctness = self._first(job.case, the_pass, inputs, answer, bound)
        errors = dict(correctness.errors)
        _refuse_changed(inputs, untouched, errors)
        if not job.proof_only:
            other = make_inputs(problem, job.seed, ROTATING_SET, self.device, inputs.weights)
            clock = make_clock(self.device, job.case.cache)
            starts = job.case.pass_name in ("backward", "train")
            track = Track(the_pass, clock, (inputs, other), starts)
            sampler = Sampler(track.take, job.stop)
            self._cell = _Cell(
                job, the_pass, inputs, answer, errors, setup_ms, first_ms, track, sampler
            )
            gc.collect(1)  # what verifying left; older garbage is none of this cell's
            with _uncollected():
                sampler.warm_up()
        return CellOpened(errors, bound)

    def take_turn(self, at_most_s: float | None) -> TurnTaken:
        """Sample the open cell: until it has enough, or for about so many seconds."""
        sampler = self._opened().sampler
        with _uncollected():
            sampler.turn(at_most_s)
        return TurnTaken(sampler.has_enough)

    def close(self) -> Record:
        """Prove the open cell right in a last sample, and tell what was measured of it.

        Raises:
            Incorrect, Malformed: it is wrong by now, or was faster than can be.
        """
        cell = self._opened()
        job, problem = cell.job, cell.job.case.problem
        samples = self._with_last(cell)
        times = samples.per_execution_ns()
        if median(times) < job.impossible_ns:
            raise Incorrect(
                f"{median(times) / 1e3:.1f} µs is below the {job.impossible_ns / 1e3:.1f} µs that "
                "the products alone need at four times this device's measured rate",
                cell.errors,
            )
        usual_ms = cell.track.prepare_ms + median(times) / 1e6
        taken = _fields(samples, times)
        beside = self._beside(cell)
        beside["warnings"] = (*taken.pop("warnings"), *beside["warnings"])
        rows = cell.answer.rows
        record = Record(
            block=job.block,
            order=job.order,
            backend=job.backend,
            case=job.case,
            status="ok",
            errors=cell.errors,
            tolerance=tolerance(problem),
            setup_ms=cell.setup_ms,
            compile_ms=max(0.0, cell.first_ms - usual_ms),
            oracle_rows=None if rows is None else len(rows),
            kernels=tuple(self._kernels(problem)),
            wall_ns=cell.track.wall_ns(cell.inputs) if self.device != "cpu" else (),
            **taken,
            **beside,
        )
        self._forget()
        return record

    def _opened(self) -> _Cell:
        if self._cell is None:
            raise RuntimeError("no cell is open")
        return self._cell

    def _forget(self) -> None:
        """Let go of the cell before, and of the launch parameters it was measured under."""
        self._cell = None
        self._around.close()

    def _choice_of(self, job: OpenCell) -> AbstractContextManager[Any]:
        """The launch parameters that a job tries, for which everything is proved anew."""
        if job.trial is None:
            return nullcontext()
        self._proved.clear()
        self._around.callback(self._proved.clear)
        chosen: AbstractContextManager[Any]
        chosen = self.implementation.using(job.trial.key, dict(job.trial.choice))
        return chosen

    def _with_last(self, cell: _Cell) -> Samples:
        """The samples, the last of them on numbers never seen, whose outcome is right."""
        job, inputs, track = cell.job, cell.inputs, cell.track
        samples = cell.sampler.samples()
        with _uncollected():
            _overwrite(
                inputs,
                checked_inputs(job.case.problem, job.seed, LAST_SET, self.device, inputs.weights),
            )
            last = track.take_last(inputs, samples.inner_repeats)
        refuse_malformed(track.last_state)
        correctness = judge(track.last_outputs, cell.answer, LAST_SET, tolerance(job.case.problem))
        if correctness.failure:
            failure = f"right at first, wrong in the last sample: {correctness.failure}"
            raise Incorrect(failure, cell.errors | dict(correctness.errors))
        return replace(samples, readings=(*samples.readings, last))

    def _make_pass(self, case: Case, inputs: Inputs) -> Pass:
        eager = make_pass(self.implementation, case.problem, case.pass_name)
        if case.launch == "graph":
            return replayed(eager, inputs, fresh_graph=case.pass_name == "backward")
        return eager

    def _first(
        self, case: Case, the_pass: Pass, inputs: Inputs, answer: Answer, bound: float
    ) -> tuple[float, Correctness]:
        """Execute for the first time and judge it; prove the gradients too, once a problem."""
        with poisoned_memory(self.device):
            started = time.perf_counter()
            state = the_pass.prepare(inputs)
            the_pass.execute(state)
            _drain(self.device)
            first_ms = (time.perf_counter() - started) * 1e3
        correctness = _judged(state, answer, FIRST_SET, bound)
        if case.pass_name in ("backward", "train"):
            self._proved[case.problem] = correctness
        elif "backward" in self.passes:
            gradients = self._prove_gradients(case.problem, inputs, answer, bound)
            merged = {**gradients.errors, **correctness.errors}
            correctness = Correctness(merged, correctness.failure or gradients.failure)
        if correctness.failure:
            raise Incorrect(correctness.failure, dict(correctness.errors))
        return first_ms, correctness

    def _prove_gradients(
        self, problem: Problem, inputs: Inputs, answer: Answer, bound: float
    ) -> Correctness:
        if problem not in self._proved:
            train = make_pass(self.implementation, problem, "train")
            with poisoned_memory(self.device):
                state = train.prepare(inputs)
                train.execute(state)
            self._proved[problem] = _judged(state, answer, FIRST_SET, bound)
        return self._proved[problem]

    def _beside(self, cell: _Cell) -> dict[str, Any]:
        """What stands beside the times, from executions of their own, as fields of the record."""
        job = cell.job
        forward = make_pass(self.implementation, job.case.problem, "forward")
        used = Resources(self.device, job.case.pass_name, cell.the_pass, forward, cell.inputs)
        beside: dict[str, Any] = {"warnings": used.warnings(job.our_pids)}
        if job.with_energy:
            beside["energy_mj"] = used.energy_mj()
        # A captured graph took its memory before, from a pool of its own.
        captured = job.case.launch == "graph" or hasattr(self.implementation, "HOLDS_MEMORY")
        if job.with_memory and not captured:
            beside |= used.memory()
        return beside

    def _kernels(self, problem: Problem) -> list[str]:
        used: Callable[[Problem], list[str]] | None
        used = getattr(self.implementation, "kernels_used", None)
        return list(used(problem)) if used else []


def set_precision(problem: Problem) -> None:
    """Make PyTorch's float32 products what the problem says, for cuBLAS and cuDNN alike."""
    torch.backends.cuda.matmul.allow_tf32 = problem.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = problem.precision == "tf32"


def _judged(state: State, answer: Answer, index: int, bound: float) -> Correctness:
    refuse_malformed(state)
    return judge(state.tensors(), answer, index, bound)


def _all(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    return (*inputs.per_set(), *inputs.parameters())


def _refuse_changed(
    inputs: Inputs, untouched: list[torch.Tensor], errors: dict[str, float | None]
) -> None:
    for tensor, before in zip(_all(inputs), untouched, strict=True):
        if not torch.equal(tensor, before):
            raise Incorrect("it changed its inputs in place", errors)


def _overwrite(inputs: Inputs, fresh: Inputs) -> None:
    """Put other numbers into the same memory, where a cached answer would go stale."""
    for ours, theirs in zip(inputs.per_set(), fresh.per_set(), strict=True):
        ours.copy_(theirs)


def _fields(samples: Samples, times: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a record that samples fill."""
    readings = samples.readings
    clocks = [r.sm_clock_mhz for r in readings if r.sm_clock_mhz is not None]
    throttling = Counter(reason for reading in readings for reason in reading.throttling)
    return {
        "samples_ns": times,
        "inner_repeats": samples.inner_repeats,
        "stopped_by": samples.stopped_by,
        "turns": samples.turns,
        "cpu_ns": tuple(r.cpu_ns for r in readings if r.cpu_ns is not None),
        "steal_ms": tuple(r.steal_ms for r in readings if r.steal_ms is not None),
        "involuntary_switches": tuple(
            r.involuntary_switches for r in readings if r.involuntary_switches is not None
        ),
        "sm_clock_mhz": median(clocks) if clocks else None,
        "warnings": tuple(f"throttled: {reason}" for reason in throttling),
        "marked": tuple(index for index, reading in enumerate(readings) if reading.marked),
    }


def _drain(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
