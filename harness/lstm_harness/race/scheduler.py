"""Run a plan: blocks of fresh worker processes, one active at a time, a record for every cell."""

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from errno import ENOSPC
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.plan import ONE_WAVE, Plan, PlannedCell, Skip
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec
from lstm_harness.race.answers import AnswerFile, Answers
from lstm_harness.race.budget import Budget
from lstm_harness.race.coverage import coarse_first
from lstm_harness.race.process import START_TIMEOUT_S, Failed, WorkerProcess, WorkerSettings

# With less than this free, an answer that could not be made failed for want of disk.
ROOM_BYTES = 64 << 20
# A backend that times out on this many cells in a row is not waited for again.
MOST_TIMEOUTS = 3

Started = Callable[[PlannedCell], None]


@dataclass
class Race:
    """Measures (or, with `verify_only`, only verifies) the cells of a plan.

    `plugin_of` maps a backend to the plugin its workers must load. `finished` are records that an
    earlier, interrupted session of the same run left. `answers` may be shared with another race
    and is then not ended by this one; `pids_beside` are that race's processes, which are ours too.
    Memory is measured in the first `memory_blocks`.
    """

    plan: Plan
    spec: Spec
    settings: WorkerSettings
    plugin_of: Mapping[str, str]
    finished: tuple[Record, ...] = ()
    verify_only: bool = False
    started: Started = lambda cell: None
    answers: Answers | None = None
    pids_beside: Callable[[], Iterable[int]] = tuple
    memory_blocks: int = 1
    _workers: dict[str, WorkerProcess] = field(default_factory=dict)
    _own_answers: Answers | None = None
    _hopeless: dict[tuple[str, Case], Skip] = field(default_factory=dict)
    _timeouts: Counter[str] = field(default_factory=Counter)
    _spares: list[WorkerProcess] = field(default_factory=list)

    def outcomes(self) -> Iterator["Outcome"]:
        """What became of every cell that the plan still lacks a record of, as it happens."""
        done = {record.identity for record in self.finished}
        budget = Budget(self.spec.time_budget_s, self._cells_to_measure(done))
        for record in self.finished:
            self._remember(record.backend, record.case, record.block, record.status, record.reason)
        places = itertools.count(1 + max((record.order for record in self.finished), default=-1))
        for wave in self._waves(budget, done):
            for block in range(self.plan.blocks):
                cells = [
                    replace(cell, order=next(places))
                    for cell in self.plan.block_order(self.spec.seed, block, wave)
                    if (block, cell.backend, cell.case) not in done
                ]
                yield from self._block(cells, budget)

    def _waves(self, budget: Budget, done: set[tuple[int, str, Case]]) -> Iterator[list[Case]]:
        """The cases that lack records, in waves; with a time budget, until it is spent."""
        cases: Sequence[Case] = self.plan.cases
        if self.spec.time_budget_s is not None and len(cases) > ONE_WAVE:
            cases = coarse_first(cases, self.spec.seed)
        pairs = list(itertools.product(range(self.plan.blocks), self.plan.backends))
        waiting = [case for case in cases if any((*pair, case) not in done for pair in pairs)]
        cells_a_case = self._cells_to_measure(done) / max(1, len(waiting))
        while waiting:
            size = budget.next_wave(len(waiting), cells_a_case)
            if not size:
                return
            yield waiting[:size]
            waiting = waiting[size:]

    def _block(self, cells: list[PlannedCell], budget: Budget) -> Iterator["Outcome"]:
        """What became of the cells of one block, in fresh workers."""
        self.begin(cells)
        for cell in cells:
            yield self.take(cell, budget)
        self.end()

    def begin(self, cells: Iterable[PlannedCell]) -> None:
        """Start a fresh worker for every backend of a block, and wait until none is importing."""
        names = dict.fromkeys(cell.backend for cell in cells if self._skip(cell) is None)
        for name in names:
            self._start(name)
        for name in names:
            self._await(name)

    def take(self, cell: PlannedCell, budget: Budget) -> "Outcome":
        """What became of one cell, with its share of the time."""
        self.started(cell)
        skip = self._skip(cell)
        if skip:
            return Outcome(cell, skip.status, skip.reason)
        outcome = self._enter(cell, budget.next_share_s())
        self._remember(cell.backend, cell.case, cell.block, outcome.status, outcome.reason)
        return outcome

    def end(self) -> None:
        """End the workers of a block."""
        for name in list(self._workers):
            self._close(name)

    def close(self) -> None:
        """End every worker."""
        self.end()
        if self._own_answers:
            self._own_answers.close()
        while self._spares:
            self._spares.pop().close()

    def attempt(self, cell: PlannedCell, share_s: float, trial: Mapping[str, Any]) -> "Outcome":
        """Measure a cell under a choice of launch parameters: `key` and `choice`."""
        return self._enter(cell, share_s, trial=dict(trial))

    def renew(self, backend: str, ahead: int = 1) -> None:
        """Have a backend's next cells run in a fresh process; so many are started at a time."""
        self._close(backend)
        if not self._spares:
            self._spares = [self._launch(backend) for _ in range(ahead)]
        self._workers[backend] = self._spares.pop()
        self._await(backend)

    def state(self) -> Any:
        """The machine's load and clocks now; None where no worker can tell."""
        return self._all_answers().state()

    def _cells_to_measure(self, done: set[tuple[int, str, Case]]) -> int:
        """How many cells will share the time: what was planned, less what is done or skipped."""
        planned = self.plan.planned_records - self.plan.blocks * len(self.plan.skips)
        return planned - sum((name, case) not in self.plan.skips for _, name, case in done)

    def _close(self, name: str) -> None:
        if name in self._workers:
            self._workers.pop(name).close()

    def _worker(self, name: str) -> WorkerProcess:
        """The live worker of that name, a fresh one where the last one ended."""
        if name not in self._workers or not self._workers[name].alive:
            self._start(name)
            self._await(name)
        return self._workers[name]

    def _start(self, name: str) -> None:
        """Start a fresh worker and tell it what to import, which it does while others do."""
        self._close(name)
        self._workers[name] = self._launch(name)

    def _launch(self, name: str) -> WorkerProcess:
        worker = WorkerProcess(self.settings, name)
        worker.send("load", backend=name, plugin=self.plugin_of.get(name))
        return worker

    def _await(self, name: str) -> None:
        """Wait until a worker has imported everything; what failed shows in its first cell."""
        with suppress(Failed):
            self._workers[name].receive(START_TIMEOUT_S + self.spec.cell_timeout_s)

    def _skip(self, cell: PlannedCell) -> Skip | None:
        if cell.skip:
            return cell.skip
        if self._timeouts[cell.backend] >= MOST_TIMEOUTS:
            reason = f"not tried: {MOST_TIMEOUTS} cells of {cell.backend} in a row timed out"
            return Skip("timed_out", reason)
        return self._hopeless.get((cell.backend, cell.case))

    def _remember(self, backend: str, case: Case, block: int, status: str, reason: str) -> None:
        """A cell that hung or took its worker with it is not tried again in later blocks."""
        self._timeouts[backend] = self._timeouts[backend] + 1 if status == "timed_out" else 0
        if status in ("timed_out", "crashed"):
            again = f"{reason} (in block {block}; not tried again)"
            self._hopeless.setdefault((backend, case), Skip(status, again))

    def _enter(self, cell: PlannedCell, share_s: float, **more: Any) -> "Outcome":
        try:
            answer = self._all_answers().to(cell.case.problem)
        except Failed as failure:
            if shutil.disk_usage(self.settings.scratch).free < ROOM_BYTES:
                raise OSError(ENOSPC, os.strerror(ENOSPC)) from None
            return Outcome(cell, "error", f"no float64 answer to compare with: {failure.reason}")
        try:
            found = self._worker(cell.backend).ask(
                "enter", self.spec.cell_timeout_s, **self._job(cell, share_s, answer), **more
            )
        except Failed as failure:
            late = f"took over {self.spec.cell_timeout_s:g} s; raise --cell-timeout"
            reason = late if failure.status == "timed_out" else failure.reason
            return Outcome(cell, failure.status, reason, {"errors": failure.errors})
        return Outcome(cell, "ok", found=found)

    def pids(self) -> list[int]:
        """The processes of this race."""
        return [*(worker.pid for worker in self._workers.values()), *self._all_answers().pids()]

    def _all_answers(self) -> Answers:
        if self.answers:
            return self.answers
        if self._own_answers is None:
            self._own_answers = Answers(self.settings, self.spec.seed)
        return self._own_answers

    def _job(self, cell: PlannedCell, share_s: float, answer: AnswerFile) -> dict[str, Any]:
        case = cell.case
        # A flushed cache serves one execution. On a GPU a graph, eager or captured, keeps one
        # forward's values at a time, and events are fine enough for one backward.
        gpu_backward = case.device == "cuda" and case.pass_name == "backward"
        one_a_sample = case.cache == "cold" or gpu_backward
        return {
            "backend": cell.backend,
            "case": case.to_dict(),
            "seed": self.spec.seed,
            "answer": str(answer.path),
            "limits": {
                "min_samples": self.spec.min_samples,
                "rel_ci": self.spec.rel_ci,
                # Verifying and compiling need the rest of the cell's time.
                "budget_s": min(share_s, self.spec.cell_timeout_s / 2),
                "fixed_repeats": 1 if one_a_sample else None,
            },
            "impossible_ns": answer.impossible_ns(case),
            "with_memory": cell.block < self.memory_blocks,
            "with_energy": cell.block == 0,
            "our_pids": [os.getpid(), *self.pids(), *self.pids_beside()],
            "verify_only": self.verify_only,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one cell; `found` holds fields of its record."""

    cell: PlannedCell
    status: str
    reason: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> Record:
        """The record of a cell that was measured, or failed to be."""
        place = {"block": self.cell.block, "order": self.cell.order, "backend": self.cell.backend}
        outcome = {"status": self.status, "reason": self.reason}
        return Record.from_dict({**self.cell.case.to_dict(), **place, **outcome, **self.found})
