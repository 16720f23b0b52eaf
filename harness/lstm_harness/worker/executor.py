"""One cell of the grid, inside a worker: prove it right, time it, prove it right again."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lstm_harness.model.case import Case
from lstm_harness.worker.clock import make_clock
from lstm_harness.worker.inputs import Inputs, make_inputs
from lstm_harness.worker.oracle import FIRST_SET, LAST_SET, Answer, checked_inputs, load
from lstm_harness.worker.passes import Pass, State, make_pass, refuse_malformed
from lstm_harness.worker.poison import poisoned_memory
from lstm_harness.worker.replay import replayed
from lstm_harness.worker.resources import Evidence
from lstm_harness.worker.sampler import Track
from lstm_harness.worker.sampling import Limits, Samples, collect
from lstm_harness.worker.verify import Verdict, judge, tolerance
from lstm_kernels.problem import Problem

ROTATING_SET = 2


class Incorrect(Exception):  # noqa: N818 - a finding about a backend, not a failure of ours
    """A backend gave a wrong answer, changed what it was given, or was faster than can be."""

    def __init__(self, failure: str, errors: dict[str, float | None] | None = None) -> None:
        super().__init__(failure)
        self.errors = errors or {}


@dataclass(frozen=True)
class Job:
    """What a worker is asked to do with one cell.

    `impossible_ns` is a time no device of this kind could beat. `our_pids` are the run's own
    processes; others on the GPU are foreign. With `verify_only` nothing is timed.
    """

    backend: str
    case: Case
    seed: int
    answer: Path
    limits: Limits
    impossible_ns: float
    with_memory: bool
    with_energy: bool = False
    our_pids: frozenset[int] = frozenset()
    verify_only: bool = False


@dataclass
class Contest:
    """The cells of one backend in one worker; gradients are proved once a problem."""

    implementation: Any
    passes: tuple[str, ...]
    device: str
    _proved: dict[Problem, Verdict] = field(default_factory=dict)

    def enter(self, job: Job) -> dict[str, Any]:
        """Verify a cell and, unless told otherwise, time it; return fields of its record.

        Raises:
            Incorrect, Malformed: the backend is wrong; whatever else the backend raises.
        """
        problem = job.case.problem
        set_precision(problem)
        answer = load(job.answer)
        bound = tolerance(problem)
        inputs = checked_inputs(problem, job.seed, FIRST_SET, self.device)
        started = time.perf_counter()
        if hasattr(self.implementation, "flatten"):
            self.implementation.flatten(inputs.weights, problem)
        untouched = [tensor.clone() for tensor in _all(inputs)]
        the_pass = self._make_pass(job.case, inputs)
        setup_ms = (time.perf_counter() - started) * 1e3
        first_ms, verdict = self._first(job.case, the_pass, inputs, answer, bound)
        errors = dict(verdict.errors)
        _refuse_changed(inputs, untouched, errors)
        found: dict[str, Any] = {
            "errors": errors,
            "tolerance": bound,
            "setup_ms": setup_ms,
            "oracle_rows": None if answer.rows is None else len(answer.rows),
            "kernels": self._kernels(problem),
        }
        if job.verify_only:
            return found
        timed = self._time(job, the_pass, inputs, answer, bound, errors)
        usual_ms = timed.pop("prepare_ms") + median(timed["samples_ns"]) / 1e6
        compile_ms = max(0.0, first_ms - usual_ms)
        evidence = self._evidence(job, the_pass, inputs)
        evidence["warnings"] = timed["warnings"] + evidence["warnings"]
        return found | timed | {"compile_ms": compile_ms} | evidence

    def attempt(self, job: Job, key: str, choice: dict[str, Any]) -> dict[str, Any]:
        """Enter a cell under a choice of launch parameters, everything proved anew for it."""
        with self.implementation.using(key, choice):
            return replace(self, _proved={}).enter(job)

    def _make_pass(self, case: Case, inputs: Inputs) -> Pass:
        eager = make_pass(self.implementation, case.problem, case.pass_name)
        if case.launch == "graph":
            return replayed(eager, inputs, fresh_graph=case.pass_name == "backward")
        return eager

    def _first(
        self, case: Case, the_pass: Pass, inputs: Inputs, answer: Answer, bound: float
    ) -> tuple[float, Verdict]:
        """Execute for the first time and judge it; prove the gradients too, once a problem."""
        with poisoned_memory(self.device):
            started = time.perf_counter()
            state = the_pass.prepare(inputs)
            the_pass.execute(state)
            _drain(self.device)
            first_ms = (time.perf_counter() - started) * 1e3
        verdict = _judged(state, answer, FIRST_SET, bound)
        if case.pass_name in ("backward", "train"):
            self._proved[case.problem] = verdict
        elif "backward" in self.passes:
            gradients = self._prove_gradients(case.problem, inputs, answer, bound)
            merged = {**gradients.errors, **verdict.errors}
            verdict = Verdict(merged, verdict.failure or gradients.failure)
        if verdict.failure:
            raise Incorrect(verdict.failure, dict(verdict.errors))
        return first_ms, verdict

    def _prove_gradients(
        self, problem: Problem, inputs: Inputs, answer: Answer, bound: float
    ) -> Verdict:
        if problem not in self._proved:
            train = make_pass(self.implementation, problem, "train")
            with poisoned_memory(self.device):
                state = train.prepare(inputs)
                train.execute(state)
            self._proved[problem] = _judged(state, answer, FIRST_SET, bound)
        return self._proved[problem]

    def _time(
        self,
        job: Job,
        the_pass: Pass,
        inputs: Inputs,
        answer: Answer,
        bound: float,
        errors: dict[str, float | None],
    ) -> dict[str, Any]:
        """Sample the pass over rotating inputs; the last sample runs on numbers never seen."""
        problem = job.case.problem
        clock = make_clock(self.device, job.case.cache)
        other = make_inputs(problem, job.seed, ROTATING_SET, self.device, inputs.weights)
        track = Track(the_pass, clock, [inputs, other])
        with _no_garbage_collection():
            samples = collect(track.take, job.limits)
            _overwrite(
                inputs,
                checked_inputs(problem, job.seed, LAST_SET, self.device, inputs.weights),
            )
            last = track.take_last(inputs, samples.inner_repeats)
        refuse_malformed(track.last_state.outputs, track.last_state.inputs)
        verdict = judge(track.last_found, answer, LAST_SET, bound)
        if verdict.failure:
            failure = f"right at first, wrong in the last sample: {verdict.failure}"
            raise Incorrect(failure, errors | dict(verdict.errors))
        samples = replace(samples, readings=(*samples.readings, last))
        times = samples.per_execution_ns()
        if median(times) < job.impossible_ns:
            raise Incorrect(
                f"{median(times) / 1e3:.1f} µs is below the {job.impossible_ns / 1e3:.1f} µs that "
                "the products alone need at four times this device's measured rate",
                errors,
            )
        wall = track.wall_ns(inputs) if self.device != "cpu" else ()
        return _fields(samples, times) | {"wall_ns": wall, "prepare_ms": track.prepare_ms}

    def _evidence(self, job: Job, the_pass: Pass, inputs: Inputs) -> dict[str, Any]:
        """What stands beside the times, from executions of their own."""
        forward = make_pass(self.implementation, job.case.problem, "forward")
        seen = Evidence(self.device, job.case.pass_name, the_pass, forward, inputs)
        found: dict[str, Any] = {"warnings": seen.warnings(job.our_pids)}
        if job.with_energy:
            found["energy_mj"] = seen.energy_mj()
        if job.with_memory:
            # A captured graph took its memory before, from a pool of its own.
            captured = job.case.launch == "graph" or hasattr(self.implementation, "HOLDS_MEMORY")
            found |= {} if captured else seen.memory()
        return found

    def _kernels(self, problem: Problem) -> list[str]:
        used: Callable[[Problem], list[str]] | None
        used = getattr(self.implementation, "kernels_used", None)
        return list(used(problem)) if used else []


def set_precision(problem: Problem) -> None:
    """Make PyTorch's float32 products what the problem says, for cuBLAS and cuDNN alike."""
    torch.backends.cuda.matmul.allow_tf32 = problem.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = problem.precision == "tf32"


def _judged(state: State, answer: Answer, index: int, bound: float) -> Verdict:
    refuse_malformed(state.outputs, state.inputs)
    return judge(state.found(), answer, index, bound)


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
        "cpu_ns": [r.cpu_ns for r in readings if r.cpu_ns is not None],
        "steal_ms": [r.steal_ms for r in readings if r.steal_ms is not None],
        "involuntary_switches": [
            r.involuntary_switches for r in readings if r.involuntary_switches is not None
        ],
        "sm_clock_mhz": median(clocks) if clocks else None,
        "warnings": [f"throttled: {reason}" for reason in throttling],
        "marked": [index for index, reading in enumerate(readings) if reading.marked],
    }


def _drain(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect(1)  # what verifying left; older garbage is none of this cell's
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
