"""One cell while it is open in its worker: asked step by step, within its time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.protocol import CloseCell, OpenCell, Request, TakeTurn
from lstm_harness.model.record import Record
from lstm_harness.race.process import Failed, WorkerProcess

Reply = TypeVar("Reply")

# Cells that take turns have so many of them at least, each of about that long. A neighbour's burst
# outlasts several turns, and then slows both sides of each alike; it seldom begins within one.
FEWEST_TURNS = 6
TURN_S = 0.001


@dataclass(frozen=True)
class Outcome:
    """What became of one cell; `measured` is its record where it was timed."""

    cell: PlannedCell
    status: str
    reason: str = ""
    errors: Mapping[str, float | None] = field(default_factory=dict)
    tolerance: float | None = None
    measured: Record | None = None
    side: int = 0

    def record(self) -> Record:
        """The record of a cell that was measured, or failed to be."""
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


@dataclass
class Visit:
    """A cell in its worker, which may take `timeout_s` in all; at its end it has an outcome."""

    cell: PlannedCell
    worker: WorkerProcess
    timeout_s: float
    outcome: Outcome | None = None
    has_enough: bool = False
    _spent_s: float = 0.0

    def open(self, job: OpenCell) -> None:
        """Have the cell proved right; where that is all that is wanted, it has its outcome."""
        opened = self._ask(job)
        if opened is not None and job.proof_only:
            self.outcome = Outcome(self.cell, "ok", "", opened.errors, opened.tolerance)

    def turn(self, at_most_s: float | None) -> None:
        """Have samples taken: until they are enough, or for about so long."""
        taken = self._ask(TakeTurn(at_most_s))
        self.has_enough = taken is None or taken.enough

    def close(self) -> None:
        """Have it proved right once more, and take its record."""
        record = self._ask(CloseCell())
        if record is None:
            return
        if record.identity == (self.cell.block, self.cell.backend, self.cell.case):
            self.outcome = Outcome(self.cell, "ok", measured=record)
        else:
            reason = f"the worker told of another cell: {record.backend} on {record.case.label()}"
            self.outcome = Outcome(self.cell, "crashed", reason)

    def _ask(self, request: Request[Reply]) -> Reply | None:
        """The reply, or None where the cell failed and has its outcome."""
        started = time.monotonic()
        try:
            return self.worker.ask(request, max(0.0, self.timeout_s - self._spent_s))
        except Failed as failure:
            late = f"took over {self.timeout_s:g} s; raise --cell-timeout"
            reason = late if failure.status == "timed_out" else failure.reason
            self.outcome = Outcome(self.cell, failure.status, reason, failure.errors)
        finally:
            self._spent_s += time.monotonic() - started
        return None


def take_turns(visits: Sequence[Visit]) -> None:
    """Sample cells that were opened, alone in one go, or in turn: A B, B A, A B, and so on.

    Each has as many turns as the other, so that what the machine does meanwhile hits both alike.
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
