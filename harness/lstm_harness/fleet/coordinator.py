"""The coordinator of a fleet: it plans on a device, has every part measured once, and merges.

It touches no device. What it has accepted is on disk before it goes on, so that it may be killed at
any moment and resumed. A task that was lost is carried out again as a whole.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lstm_harness.analysis.precision import blocks_to_add, precisions
from lstm_harness.fleet import doubt
from lstm_harness.fleet import ledger as ledgers
from lstm_harness.fleet.ledger import FLEET, Foreign, Ledger, Settings, Spoilt, State, name_of
from lstm_harness.fleet.pieces import affordable, cases_a_task, grown, in_parts, piece, whole
from lstm_harness.fleet.task import Ended, Engine, Task
from lstm_harness.model.errors import (
    Exit,
    Interrupted,
    MeasuringFailed,
    NotComparable,
    UserError,
)
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import count
from lstm_harness.race import runs
from lstm_harness.store import run_folder
from lstm_harness.store.run_folder import Kind, Run

# How often a task may end without a result. A refusal by a place that refused nothing before is not
# counted.
MOST_LOST = 5
PLANNING = "plan"

MakeEngine = Callable[[Settings, Path], Engine]
Accept = Callable[[Task, Mapping[str, bytes]], None]


@dataclass(frozen=True)
class FleetWatch:
    """Callbacks: for records accepted, of how many, and what goes on; and for warnings."""

    counted: Callable[[int, int, str], None] = lambda done, total, label: None
    warned: Callable[[str], None] = lambda said: None


def run(
    state: State,
    out: Path | None,
    make_engine: MakeEngine,
    watch: FleetWatch,
    roots: Sequence[Path] = (),
) -> Path:
    """Measure everything that is asked for on a fleet and return the run's folder.

    Args:
        make_engine: makes the engine of these settings, which may keep files in the folder.
        roots: the kernels of both sides, if two are compared.
    Raises:
        UserError: before anything ran; `Interrupted` or `MeasuringFailed` with what to type after.
    """
    spec = Spec.from_dict(dict(state.spec))
    folder = out or runs.default_folder(replace(spec, suite="ab") if state.pair else spec)
    run_folder.refuse_used(folder, state.kind)
    engine = make_engine(state.settings, folder)
    ledgers.begin(folder, state, roots)
    with _resumable(folder, state.kind), ledgers.held(folder, state.kind) as ledger:
        _measure(ledger, engine, watch)
    return folder


def resume(
    folder: Path,
    settings: Settings | None,
    make_engine: MakeEngine,
    watch: FleetWatch,
    kind: Kind = FLEET,
) -> Path:
    """Go on with a fleet's run whose coordinator ended, with the plan it had.

    Args:
        settings: of another engine; None for the engine it had.
        kind: of the run; one of another kind is refused.
    Raises:
        UserError: it is not the run of a fleet, or another coordinator works on it.
    """
    if kind == FLEET and ledgers.is_finished(folder):
        return folder
    with _resumable(folder, kind), ledgers.held(folder, kind) as ledger:
        if ledger.is_merged:
            ledger.merge()  # it was ended while it removed the parts
        else:
            _measure(ledger, make_engine(settings or ledger.state.settings, folder), watch)
    return folder


def _measure(ledger: Ledger, engine: Engine, watch: FleetWatch) -> None:
    """Have what is missing measured, and merge."""
    try:
        _Coordinator(ledger, engine, watch).measure()
    finally:
        engine.cancel()
    ledger.merge()


@contextmanager
def _resumable(folder: Path, kind: Kind) -> Iterator[None]:
    """Where the coordinator ends too early, say how to go on."""
    go_on = kind.go_on(folder)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with: {go_on}") from None
    except MeasuringFailed as error:
        kept = "" if go_on in str(error) else f"; what was measured is kept: {go_on}"
        raise MeasuringFailed(f"{error}{kept}") from None


class _Coordinator:
    def __init__(self, ledger: Ledger, engine: Engine, watch: FleetWatch) -> None:
        self._ledger = ledger
        self._engine = engine
        self._watch = watch
        self._refusing: set[str] = set()
        self._lost: Counter[str] = Counter()

    def measure(self) -> None:
        """Have every part of the plan accepted, and of the blocks that are added to it."""
        manifests = self._ledger.manifests() or self._planned()
        # Two sides have the same cases and blocks.
        first = [Plan.from_dict(manifest["plan"]) for manifest in manifests]
        if not self._ledger.state.parts:
            self._plan_more(first, whole(first[0]))
        while True:
            plans = [grown(plan, self._ledger.state.parts) for plan in first]
            self._gather(manifests, plans)
            pairs = self._to_add(first[0], plans[0])
            if not pairs:
                return
            self._plan_more(first, pairs)

    def _plan_more(self, first: Sequence[Plan], pairs: Iterable[tuple[int, int]]) -> None:
        """Keep the parts of more pairs of a case and a block."""
        state = self._ledger.state
        parts = in_parts(pairs, state.cases_per_task or cases_a_task(first))
        self._ledger.keep(replace(state, parts=(*state.parts, *parts)))

    def _to_add(self, first: Plan, plan: Plan) -> Sequence[tuple[int, int]]:
        """The blocks to add, if a precision is asked for, or two sides' verdicts are in doubt."""
        state = self._ledger.state
        if state.pair is not None:
            if plan.blocks > first.blocks:
                return ()
            sides = [[r for run in side for r in run.records] for side in self._ledger.runs()]
            return doubt.blocks_to_add(plan, sides, state.pair.rules, self._watch.warned)
        if state.until is not None:
            return self._until_precise(plan, state.until, state.budget_s)
        return ()

    def _until_precise(
        self, plan: Plan, until: float, budget_s: float | None
    ) -> Sequence[tuple[int, int]]:
        """The blocks to add for this precision; what it cannot reach is reported."""
        (measured,) = self._ledger.runs()
        records = [record for run in measured for record in run.records]
        spent_s = sum(map(_device_time_s, measured))
        budget = affordable(budget_s, spent_s, len(records) // len(plan.backends))
        pairs = blocks_to_add(plan, records, until, budget)
        known = precisions(records).values()
        wide = sum(each.half_width > until for each in known)
        if wide and not pairs:
            why = "the budget is spent" if budget_s else "they have the most blocks"
            self._watch.warned(
                f"less precise than {100 * until:.3g}%: "
                f"{wide} of {count(len(known), 'case')}; {why}"
            )
        return pairs

    def _planned(self) -> list[dict[str, Any]]:
        """The manifest of each whole run, from a device of the fleet."""
        state = self._ledger.state
        run_id = self._ledger.folder.resolve().name
        order = {"id": run_id, "spec": state.spec, "command": list(state.command)}
        self._watch.counted(0, 0, "a device of the fleet makes the plan")
        planning = Task(PLANNING, state.spec["device"], order | self._of_pair())
        self._carry_out([planning], lambda _, files: self._ledger.accept_plan(files))
        manifests = self._ledger.manifests()
        assert manifests, "it was accepted"
        return manifests

    def _gather(self, manifests: Sequence[Mapping[str, Any]], plans: Sequence[Plan]) -> None:
        """Have the parts measured that are not accepted yet."""
        waiting = [part for part in self._ledger.state.parts if not self._ledger.has(part)]
        missing = {name_of(part): sum(p.records_of(part) for p in plans) for part in waiting}
        total = sum(plan.planned_records for plan in plans)
        done = total - sum(missing.values())

        def tell() -> None:
            self._watch.counted(done, total, f"{len(missing)} tasks to go")

        def accept(task: Task, files: Mapping[str, bytes]) -> None:
            nonlocal done
            self._ledger.accept(task, files)
            done += missing.pop(task.name)
            tell()

        tell()
        shared = {"manifests": [_without_cases(each) for each in manifests], **self._of_pair()}
        self._carry_out([_task(part, plans, shared) for part in waiting], accept)

    def _of_pair(self) -> dict[str, Any]:
        """What a task has to know of two revisions."""
        pair = self._ledger.state.pair
        if pair is None:
            return {}
        told = {"revisions": list(pair.revisions), "installed": pair.installed}
        return {"pair": told | {"roots": self._ledger.roots}}

    def _carry_out(self, tasks: Sequence[Task], accept: Accept) -> None:
        """Have tasks carried out until a result of each was accepted."""
        waiting = {task.name: task for task in tasks}
        due = list(tasks)
        while waiting:
            if due:
                self._engine.submit(due, frozenset(self._refusing))
            due = []
            for ended in self._engine.poll():
                # Of a task that was carried out twice, one result was accepted.
                if task := waiting.get(ended.name):
                    if self._is_accepted(task, ended, accept):
                        del waiting[task.name]
                    else:
                        due.append(task)

    def _is_accepted(self, task: Task, ended: Ended, accept: Accept) -> bool:
        """Accept a task's result, or note why there is none.

        Raises:
            UserError: the plan cannot be made; `MeasuringFailed` if the task was lost too often.
        """
        said, refused = ended.said, ended.refused
        if ended.files:
            try:
                accept(task, ended.files)
                return True
            except Spoilt as reason:
                said, refused = str(reason), isinstance(reason, Foreign)
        if refused:
            if task.name == PLANNING:
                self._ledger.clear()
                raise NotComparable(said) if ended.code == Exit.NOT_COMPARABLE else UserError(said)
            if ended.place and ended.place not in self._refusing:
                self._refusing.add(ended.place)
                self._watch.warned(f"{ended.place} measures nothing of this run: {said}")
                return False
        self._lost[task.name] += 1
        if self._lost[task.name] == MOST_LOST:
            raise MeasuringFailed(
                f"task {task.name} ended {MOST_LOST} times without a result, at last: {said}"
            )
        self._watch.warned(f"task {task.name} begins again: {said}")
        return False


def _device_time_s(run: Run) -> float:
    """How long the run of a part had its device."""
    begun, ended = (datetime.fromisoformat(run.manifest[name]) for name in ("start", "end"))
    return (ended - begun).total_seconds()


def _without_cases(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What all tasks share of a manifest; neither the plan nor the grids that it was made of."""
    shared = {name: value for name, value in manifest.items() if name != "plan"}
    return shared | {"spec": {**manifest["spec"], "grids": []}}


def _task(part: Part, plans: Sequence[Plan], shared: Mapping[str, Any]) -> Task:
    name, pieces = name_of(part), [piece(plan, part) for plan in plans]
    order = {
        "id": name,
        "part": pieces[0][1].to_dict(),
        "plans": [plan.to_dict() for plan, _ in pieces],
    }
    return Task(name, plans[0].device, order, shared)
