"""The order of work: blocks of fresh workers, one active at a time, a record for every cell.

One side is a run. Two sides are two sets of kernels that measure the same cells in turn.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lstm_harness.model.case import Case
from lstm_harness.model.part import Part
from lstm_harness.model.plan import ONE_WAVE, Plan, PlannedCell, Skip
from lstm_harness.model.protocol import Trial
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec
from lstm_harness.race.crew import Crew
from lstm_harness.race.layout import drawn
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.oracle import Oracle
from lstm_harness.race.process import Failed, WorkerSettings
from lstm_harness.race.sampler import StopRule
from lstm_harness.race.visit import Job, Outcome, Proved, Visit, take_turns
from lstm_harness.race.waves import Budget, coarse_first

# A backend that times out on this many cells in a row is not tried again.
MOST_TIMEOUTS = 3

Started = Callable[[PlannedCell], None]
# Which side, and which of its cells.
Turn = tuple[int, PlannedCell]


@dataclass(frozen=True)
class Side:
    """The kernels and the plan of one side.

    `plugin_of` maps a backend to the plugin its workers must load, `backward` names those that have
    one. `threads` is how many a worker may have. `finished` are records that an earlier,
    interrupted session of the same run left. `part` is what to measure of the plan; None for all.
    """

    plan: Plan
    settings: WorkerSettings
    plugin_of: Mapping[str, str]
    backward: frozenset[str] = frozenset()
    threads: int = 1
    finished: tuple[Record, ...] = ()
    part: Part | None = None

    @cached_property
    def done(self) -> set[tuple[int, str, Case]]:
        """The identities of its finished records."""
        return {record.identity for record in self.finished}

    @cached_property
    def planned(self) -> frozenset[tuple[int, Case]]:
        """The (block, case) pairs that it measures, with every backend."""
        return self.plan.cells(self.part)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases that it measures, in the plan's order."""
        planned = {case for _, case in self.planned}
        return tuple(case for case in self.plan.cases if case in planned)

    def cells_to_measure(self) -> int:
        """How many cells will share the time: planned cells without those done or skipped."""
        skips = self.plan.skips
        names = self.plan.backends
        planned = sum((name, case) not in skips for _, case in self.planned for name in names)
        return planned - sum((name, case) not in skips for _, name, case in self.done)

    def lacks(self, case: Case) -> bool:
        """Whether a case has still to be measured in any block."""
        blocks = range(self.plan.blocks)
        return any(
            (block, case) in self.planned and (block, name, case) not in self.done
            for block in blocks
            for name in self.plan.backends
        )


@dataclass
class Scheduler:
    """Measures (or, with `proof_only`, only verifies) the cells of one or two sides.

    `oracle` knows the right results; the caller ends it, as it ends this by `close`. An exception
    of `before_block` ends the race before the next block.
    Memory is measured in the first `memory_blocks`. Cells that take turns share `cores` cores, the
    same for both sides and others in each block; None leaves the choice to the system.
    """

    sides: Sequence[Side]
    spec: Spec
    oracle: Oracle
    started: Started = lambda cell: None
    before_block: Callable[[], None] = lambda: None
    proof_only: bool = False
    memory_blocks: int = 1
    cores: int | None = None
    _crews: list[Crew] = field(init=False)
    _nursery: Nursery | None = None
    _hopeless: dict[tuple[int, str, Case], Skip] = field(default_factory=dict)
    _timeouts: Counter[tuple[int, str]] = field(default_factory=Counter)
    _proved: Proved = field(default_factory=dict)

    def __post_init__(self) -> None:
        timeout_s = self.spec.cell_timeout_s
        self._crews = [Crew(side.settings, side.plugin_of, timeout_s) for side in self.sides]

    def outcomes(self) -> Iterator[Outcome]:
        """The outcome of every cell without a record, as it happens."""
        budget = Budget(
            self.spec.time_budget_s, sum(side.cells_to_measure() for side in self.sides)
        )
        for number, side in enumerate(self.sides):
            for record in side.finished:
                cell = PlannedCell(record.order, record.block, record.backend, record.case, None)
                self._remember(number, cell, record.status, record.reason)
        places = [
            itertools.count(1 + max((record.order for record in side.finished), default=-1))
            for side in self.sides
        ]
        for wave in self._waves(budget):
            for block in sorted({block for side in self.sides for block, _ in side.planned}):
                groups = self.block_groups(block, wave)
                numbered = [
                    [(side, replace(cell, order=next(places[side]))) for side, cell in group]
                    for group in groups
                ]
                yield from self._block(numbered, budget)

    def block_groups(self, block: int, wave: Sequence[Case]) -> list[list[Turn]]:
        """The cells of a block in order; those of two sides that are the same cell are together.

        The side that begins changes from block to block.
        """
        groups: dict[tuple[str, Case], list[Turn]] = {}
        for number, side in enumerate(self.sides):
            ours = [case for case in wave if (block, case) in side.planned]
            for cell in side.plan.block_order(self.spec.seed, block, ours):
                if (block, cell.backend, cell.case) not in side.done:
                    groups.setdefault((cell.backend, cell.case), []).append((number, cell))
        return [group if block % 2 == 0 else group[::-1] for group in groups.values()]

    def close(self) -> None:
        """End every worker."""
        for crew in self._crews:
            crew.end()
        if self._nursery:
            self._nursery.close()
            self._nursery = None

    def attempt(self, cell: PlannedCell, share_s: float, trial: Trial) -> Outcome:
        """Measure a cell of the only side under a choice of launch parameters."""
        (outcome,) = self._group([(0, cell)], [share_s], trial)
        return outcome

    def renew(self, backend: str, ahead: int = 1) -> None:
        """Run a backend's next cells in a fresh process; this many are started at a time."""
        self._crews[0].renew(backend, ahead)

    def _waves(self, budget: Budget) -> Iterator[Sequence[Case]]:
        """The cases without records, in waves; with a time budget, until it is spent."""
        cases: Sequence[Case]
        cases = tuple(dict.fromkeys(case for side in self.sides for case in side.cases))
        if self.spec.time_budget_s is not None and len(cases) > ONE_WAVE:
            cases = coarse_first(cases, self.spec.seed)
        waiting = [case for case in cases if any(side.lacks(case) for side in self.sides)]
        cells = sum(side.cells_to_measure() for side in self.sides)
        cells_a_case = cells / max(1, len(waiting))
        while waiting:
            size = budget.next_wave(len(waiting), cells_a_case)
            if not size:
                return
            yield waiting[:size]
            waiting = waiting[size:]

    def _block(self, groups: Sequence[Sequence[Turn]], budget: Budget) -> Iterator[Outcome]:
        """The outcomes of the cells of one block, in fresh workers."""
        self.before_block()
        self.begin([turn for group in groups for turn in group])
        for group in groups:
            yield from self._in_turn(group, budget)
        self.close()

    def begin(self, turns: Iterable[Turn]) -> None:
        """Start a fresh worker for every backend of a block, and wait until none is importing."""
        due = [(side, cell) for side, cell in turns if self._skip(side, cell) is None]
        if not due:
            return
        settings = self.sides[0].settings
        # A fresh one in each block: where things lie in memory is part of what varies.
        if settings.device == "cpu" and Nursery.possible():
            self._nursery = Nursery(settings.threads)
        self.oracle.start()
        block = due[0][1].block
        cores = self._shared_cores(block)
        for number, crew in enumerate(self._crews):
            names = dict.fromkeys(cell.backend for side, cell in due if side == number)
            crew.start(names, self._nursery, cores, drawn(self.spec.seed, block, number))
        for crew in self._crews:
            crew.wait()

    def _shared_cores(self, block: int) -> tuple[int, ...]:
        """The cores on which a block's cells take turns; all if there are none."""
        allowed = sorted(os.sched_getaffinity(0))
        if self.cores is None or len(self.sides) == 1 or self.cores >= len(allowed):
            return ()
        return tuple(allowed[(block + place) % len(allowed)] for place in range(self.cores))

    def _in_turn(self, group: Sequence[Turn], budget: Budget) -> Iterator[Outcome]:
        """The outcomes of the cells of one group, each with its share of the time."""
        due = []
        for side, cell in group:
            self.started(cell)
            skip = self._skip(side, cell)
            if skip:
                yield Outcome(cell, skip.status, skip.reason, side=side)
            else:
                due.append((side, cell))
        for outcome in self._group(due, [budget.next_share_s() for _ in due]):
            self._remember(outcome.side, outcome.cell, outcome.status, outcome.reason)
            yield outcome

    def _group(
        self, group: Sequence[Turn], shares_s: Sequence[float], trial: Trial | None = None
    ) -> list[Outcome]:
        """Open the cells one after the other, then sample them in turn."""
        visits: list[tuple[int, Visit | Outcome]] = []
        for (side, cell), share_s in zip(group, shares_s, strict=True):
            visits.append((side, self._opened(side, cell, share_s, trial)))
        take_turns([visit for _, visit in visits if isinstance(visit, Visit)])
        outcomes = []
        for side, visit in visits:
            outcome = visit.outcome if isinstance(visit, Visit) else visit
            assert outcome is not None, "a visit that ended has its outcome"
            outcomes.append(replace(outcome, side=side))
        return outcomes

    def _opened(
        self, side: int, cell: PlannedCell, share_s: float, trial: Trial | None
    ) -> Visit | Outcome:
        """A cell that was checked, or its outcome if it failed."""
        try:
            self.oracle.know(cell.case.problem, cell.case.call)
        except Failed as failure:
            return Outcome(cell, "error", f"no float64 answer to compare with: {failure.reason}")
        worker, timeout_s = self._crews[side].worker(cell.backend), self.spec.cell_timeout_s
        job = self._job(side, cell, share_s, trial)
        visit = Visit(cell, job, worker, self.oracle, timeout_s, self._proved, side)
        visit.open()
        return visit

    def _skip(self, side: int, cell: PlannedCell) -> Skip | None:
        if cell.skip:
            return cell.skip
        if self._timeouts[side, cell.backend] >= MOST_TIMEOUTS:
            reason = f"not tried: {MOST_TIMEOUTS} cells of {cell.backend} in a row timed out"
            return Skip("timed_out", reason)
        return self._hopeless.get((side, cell.backend, cell.case))

    def _remember(self, side: int, cell: PlannedCell, status: str, reason: str) -> None:
        """A cell that hung or took its worker with it is not tried again in later blocks."""
        timeouts = self._timeouts[side, cell.backend]
        self._timeouts[side, cell.backend] = timeouts + 1 if status == "timed_out" else 0
        if status in ("timed_out", "crashed"):
            again = f"{reason} (in block {cell.block}; not tried again)"
            self._hopeless.setdefault((side, cell.backend, cell.case), Skip(status, again))

    def _job(self, side: int, cell: PlannedCell, share_s: float, trial: Trial | None) -> Job:
        case = cell.case
        # A flushed cache serves one execution. On a GPU a graph, eager or captured, keeps one
        # forward's values at a time, and events are fine enough for one backward.
        gpu_backward = case.device == "cuda" and case.pass_name == "backward"
        one_a_sample = case.cache == "cold" or gpu_backward
        pids = [pid for crew in self._crews for pid in crew.pids()]
        return Job(
            seed=self.spec.seed,
            stop=StopRule(
                min_samples=self.spec.min_samples,
                rel_ci=self.spec.rel_ci,
                # Verifying and compiling need the rest of the cell's time.
                budget_s=min(share_s, self.spec.cell_timeout_s / 2),
                fixed_repeats=1 if one_a_sample else None,
            ),
            threads=self.sides[side].threads,
            with_gradients=cell.backend in self.sides[side].backward
            and case.problem.reason_against("backward") is None,
            with_memory=cell.block < self.memory_blocks,
            with_energy=cell.block == 0,
            our_pids=(os.getpid(), *pids, *self.oracle.pids()),
            proof_only=self.proof_only,
            trial=trial,
        )
