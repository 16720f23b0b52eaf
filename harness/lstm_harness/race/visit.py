"""One cell while it is open in its worker: asked step by step, within its time."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, TypeVar

from lstm_harness.model.case import Call
from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.protocol import (
    AnswerMade,
    CloseCell,
    Judged,
    OpenCell,
    Request,
    Trial,
)
from lstm_harness.model.record import Record
from lstm_harness.race.oracle import Oracle, impossible_ns
from lstm_harness.race.process import Failed, Spent, WorkerProcess
from lstm_harness.race.sampler import Sampler, Samples, StopRule
from lstm_harness.race.sealed import sealed
from lstm_harness.race.track import Track
from lstm_kernels.problem import Problem

Reply = TypeVar("Reply")

# Cells that take turns have at least this many, each about this long. A neighbour's burst
# lasts for several turns, and slows both sides alike; it rarely begins within one.
FEWEST_TURNS = 6
TURN_S = 0.001


@dataclass(frozen=True)
class Outcome:
    """The outcome of one cell; `measured` is its record if it was timed."""

    cell: PlannedCell
    status: str
    reason: str = ""
    errors: Mapping[str, float | None] = field(default_factory=dict)
    tolerance: float | None = None
    measured: Record | None = None
    side: int = 0

    def record(self) -> Record:
        """The record of a cell that was measured, or that failed."""
        if self.measured:
            return self.measured
        return Record(
            block=self.cell.block,
            order=self.cell.order,
            backend=self.cell.backend,
            case=self.cell.case,
            status=self.status,
            reason=self.reason,
            errors=self.errors,
            tolerance=self.tolerance,
        )


@dataclass(frozen=True)
class Job:
    """How a cell is measured.

    Args:
        threads: how many its worker may have.
        with_gradients: whether the backend has a backward, which is then checked too.
        our_pids: the run's own processes; others on a GPU are foreign.
        proof_only: nothing is timed.
    """

    seed: int
    stop: StopRule
    threads: int
    with_gradients: bool
    with_memory: bool
    with_energy: bool
    our_pids: tuple[int, ...]
    proof_only: bool = False
    trial: Trial | None = None


# How gradients were judged that were checked, for each side, backend, problem and call.
Proved = dict[tuple[int, str, Problem, Call], Judged]


class Incorrect(Exception):  # noqa: N818 - a finding about a backend, not a failure of ours
    """The result of a cell is wrong, or came faster than is possible."""


@dataclass
class Visit:
    """A cell in its worker, which may take `timeout_s` in total; it ends with an outcome."""

    cell: PlannedCell
    job: Job
    worker: WorkerProcess
    oracle: Oracle
    timeout_s: float
    proved: Proved
    side: int = 0
    outcome: Outcome | None = None
    _track: Track = field(init=False)
    _sampler: Sampler = field(init=False)
    _proof: Judged = field(default_factory=lambda: Judged({}, ""))
    _setup_ms: float = 0.0
    _first_ms: float = 0.0
    _spent_s: float = 0.0

    def __post_init__(self) -> None:
        weights = secrets.token_hex(8)
        self._track = Track(
            self.cell.case,
            self.worker,
            self._ask_together,
            weights,
            self.job.threads,
        )
        self._sampler = Sampler(
            self._track.take,
            self.job.stop,
            self._track.most_repeats,
            self._track.counted,
            self._track.picks.clear,
        )

    @property
    def has_enough(self) -> bool:
        """Whether no further turn is needed."""
        return self.outcome is not None or self._sampler.has_enough

    def open(self) -> None:
        """Check the cell against float64 and warm it up; if nothing is timed, it ends here."""
        with self._failing():
            self._prove()
            if self.job.proof_only:
                errors = self._proof.errors
                self.outcome = Outcome(self.cell, "ok", "", errors, self._tolerance)
            else:
                self._track.begin()
                self._sampler.warm_up()

    def turn(self, at_most_s: float | None) -> None:
        """Take samples: until there are enough, or for about this long."""
        with self._failing():
            self._sampler.turn(at_most_s)

    def close(self) -> None:
        """Check the samples, and make the record."""
        with self._failing():
            self._judge_samples()
            self.outcome = Outcome(self.cell, "ok", measured=self._record())
        self.end()

    def end(self) -> None:
        """Free the samples that were picked."""
        self._track.picks.clear()

    @property
    def _known(self) -> AnswerMade:
        return self.oracle.know(self.cell.case.problem, self.cell.case.call)

    @property
    def _tolerance(self) -> float:
        """The largest error that a tensor was allowed: nearly always the problem's own."""
        return max(self._known.tolerance, self._proof.bound)

    def _prove(self) -> None:
        case = self.cell.case
        key = self.side, self.cell.backend, case.problem, case.call
        # Another choice of launch parameters runs other kernels.
        proved = None if self.job.trial else self.proved.get(key)
        with_gradients = self.job.with_gradients and (case.makes_gradients or proved is None)
        weights = self._track.weights
        opened = self._ask(
            OpenCell(
                self.cell.backend, case, self.job.seed, weights, with_gradients, self.job.trial
            )
        )
        self._setup_ms, self._first_ms = opened.setup_ms, opened.first_ms
        executions = 2 if with_gradients and not case.makes_gradients else 1
        if len(opened.handed.counts) != executions:
            found = len(opened.handed.counts)
            reason = f"the worker handed over {found} executions; expected {executions}"
            raise Failed("crashed", reason)
        with sealed(self.worker, opened.handed) as taken:
            judged = self.oracle.judge_proof(case.problem, taken, case.call)
        self._proof = judged if proved is None else _joined(proved, judged)
        if judged.failure:
            raise Incorrect(judged.failure)
        if with_gradients and not self.job.trial:
            gradients = {n: e for n, e in judged.errors.items() if n.startswith("d_")}
            self.proved[key] = replace(judged, errors=gradients)

    def _judge_samples(self) -> None:
        case, repeats = self.cell.case, self._sampler.samples().inner_repeats
        for pick in self._track.picks.all():
            found = len(pick.taken.handed.counts)
            if found != repeats:
                raise Failed("crashed", f"{found} executions in a sample; expected {repeats}")
            # A captured graph leaves only the result of its last replay.
            is_graph = case.launch == "graph"
            execution = repeats - 1 if is_graph else secrets.randbelow(repeats)
            names = pick.taken.handed.counts[execution]
            if case.makes_gradients and not any(name.startswith("d_") for name in names):
                raise Incorrect("a sample has no gradients")
            judged = self.oracle.judge_sample(
                case.problem, pick.draw, execution, pick.taken, case.call
            )
            if judged.failure:
                raise Incorrect(
                    f"the first execution was right, but a sample is wrong: {judged.failure}"
                )

    def _record(self) -> Record:
        cell, job = self.cell, self.job
        samples = self._sampler.samples()
        times = samples.per_execution_ns()
        execution_ns = median(times)
        least_ns = impossible_ns(self._known, cell.case)
        if execution_ns < least_ns:
            raise Incorrect(
                f"{execution_ns / 1e3:.1f} µs is below the {least_ns / 1e3:.1f} µs that "
                "the products alone need at four times this device's measured rate"
            )
        unranked = self._track.doubt(execution_ns, samples.inner_repeats)
        beside = self._ask(CloseCell(job.with_memory, job.with_energy, job.our_pids))
        taken = _fields(samples, times)
        usual_ms = self._track.prepare_ms + execution_ns / 1e6
        rows = self._known.rows
        return Record(
            block=cell.block,
            order=cell.order,
            backend=cell.backend,
            case=cell.case,
            status="ok",
            errors=self._proof.errors,
            tolerance=self._tolerance,
            setup_ms=self._setup_ms,
            compile_ms=max(0.0, self._first_ms - usual_ms),
            oracle_rows=None if rows is None else len(rows),
            kernels=beside.kernels,
            wall_ns=beside.wall_ns,
            peak_bytes=beside.peak_bytes,
            saved_bytes=beside.saved_bytes,
            energy_mj=beside.energy_mj,
            warnings=(*_throttled(samples), *beside.warnings),
            unranked=unranked,
            **taken,
        )

    def _ask(self, request: Request[Reply]) -> Reply:
        """The worker's reply, within what is left of the cell's time."""
        ((reply, _),) = self._ask_together([request])
        return reply  # type: ignore[no-any-return] # the reply to that request

    def _ask_together(
        self, requests: Sequence[Request[Any]], goes_on: bool = False
    ) -> list[tuple[Any, Spent]]:
        """The worker's replies to requests that it gets all at once, and the time of each.

        Args:
            goes_on: others follow at once, see `WorkerProcess.ask_together`.
        """
        started = time.monotonic()
        try:
            left_s = max(0.0, self.timeout_s - self._spent_s)
            return self.worker.ask_together(requests, left_s, goes_on)
        except Failed as failure:
            if failure.status == "timed_out":
                late = f"took over {self.timeout_s:g} s; raise --cell-timeout"
                raise Failed("timed_out", late) from None
            raise
        finally:
            self._spent_s += time.monotonic() - started

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn what goes wrong in a cell into its outcome."""
        try:
            yield
        except Incorrect as wrong:
            self._fail("incorrect", str(wrong))
        except Failed as failure:
            self._fail(failure.status, failure.reason)

    def _fail(self, status: str, reason: str) -> None:
        self.outcome = Outcome(self.cell, status, reason, self._proof.errors)
        self.end()


def _joined(earlier: Judged, judged: Judged) -> Judged:
    """One judgement, and what was found of gradients before."""
    errors = {**earlier.errors, **judged.errors}
    return Judged(errors, judged.failure, max(earlier.bound, judged.bound))


def _fields(samples: Samples, times: tuple[int, ...]) -> dict[str, Any]:
    """The fields of a record that come from samples."""
    readings = samples.readings
    clocks = [r.sm_clock_mhz for r in readings if r.sm_clock_mhz is not None]
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
        "marked": tuple(index for index, reading in enumerate(readings) if reading.marked),
    }


def _throttled(samples: Samples) -> tuple[str, ...]:
    reasons = Counter(reason for reading in samples.readings for reason in reading.throttling)
    return tuple(f"throttled: {reason}" for reason in reasons)


def take_turns(visits: Sequence[Visit]) -> None:
    """Sample open cells: one alone without turns, two in turn: A B, B A, A B, and so on.

    Each has as many turns as the other, so that disturbances of the machine affect both alike.
    """
    number = 0
    while len(going := [visit for visit in visits if visit.outcome is None]) > 1:
        for visit in going if number % 2 == 0 else reversed(going):
            visit.turn(TURN_S)
        number += 1
        if number >= FEWEST_TURNS and all(visit.has_enough for visit in going):
            break
    else:
        for visit in going:
            visit.turn(None)
    for visit in going:
        if visit.outcome is None:
            visit.close()
