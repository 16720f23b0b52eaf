"""Two sets of kernels on this machine, measured in turn and judged: `ab`, and A against A.

A block has fresh workers of both sides. Each cell is measured on one side and then at once on the
other, the first side changing from block to block (A B, B A, A B, ...), so that what the machine
does meanwhile hits both alike. What is flagged or not settled is measured once more, in new
blocks, before it is believed (`lstm_harness.confirm`). The harness that measures, and the float64
answers, are the same for both sides.

    <out>/base, <out>/new          ordinary runs, as `report` and `compare` read them
    <out>/again/base, .../new      the second measurement, of what was in doubt
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstm_harness import session, store
from lstm_harness.analyse import summarise
from lstm_harness.answers import Answers
from lstm_harness.budget import Budget
from lstm_harness.case import Case
from lstm_harness.comparable import notes as notes_of
from lstm_harness.comparison import Comparison, Side
from lstm_harness.confirm import confirmed, doubtful, pooled
from lstm_harness.errors import Interrupted, MeasuringFailed, NotComparable, UserError
from lstm_harness.lock import device_lock
from lstm_harness.measure import Race
from lstm_harness.noise import kept
from lstm_harness.plan import DEFAULT_SHARE_S, Cell, Plan
from lstm_harness.record import Record
from lstm_harness.revisions import Revision
from lstm_harness.session import Watch
from lstm_harness.spec import Spec
from lstm_harness.survey import Scout, Survey, make_plan
from lstm_harness.verdict import Kind, Rules, Verdict, judge
from lstm_harness.workers import WorkerSettings

NAMES = ("base", "new")
LEAST_BLOCKS = 5
# A CPU's peak is not the same each time: what is freed when depends on threads.
MEMORY_BLOCKS = 3


@dataclass(frozen=True)
class Contestant:
    """One of the two: whose kernels, what is registered there, and what it will run."""

    name: str
    revision: Revision
    survey: Survey
    plan: Plan


Pair = tuple[Contestant, Contestant]


@dataclass(frozen=True)
class Result:
    """What was found. `first` are the verdicts before anything was measured again."""

    folder: Path
    comparison: Comparison
    first: list[Verdict]
    environment: Mapping[str, Any]


def compare(
    spec: Spec,
    revisions: tuple[Revision, Revision],
    rules: Rules,
    fail_on: frozenset[Kind],
    out: Path | None,
    watch: Watch,
) -> Result:
    """Measure both sides in turn and judge the second by the first.

    Args:
        spec: its `time_budget_s` is for the first measurement of both sides together.
    Raises:
        UserError: nothing can be compared; `Interrupted` where records are left in `out`.
    """
    if spec.blocks < LEAST_BLOCKS:
        raise UserError(f"--blocks {spec.blocks}: expected at least {LEAST_BLOCKS}, to tell noise")
    folder = out or session.default_folder(replace(spec, suite="ab"))
    store.refuse_used(folder)
    with session.scratch_folder() as scratch:
        sides = _sides(spec, revisions, scratch)
        survey = sides[1].survey
        noise = kept(survey.environment).margins
        with device_lock(survey.identity):
            store.create(folder)
            with _interruptible(folder):
                measured = _measure(spec, sides, folder, scratch, watch)
                first = verdicts = _judged(measured, rules, noise)
                doubt = doubtful(first)
                if doubt:
                    parts = _in_doubt(sides[0], doubt), _in_doubt(sides[1], doubt)
                    again = _measure(spec, parts, folder / "again", scratch, watch)
                    second = _judged(again, rules, noise)
                    measured = (
                        pooled(measured[0], again[0], spec.blocks),
                        pooled(measured[1], again[1], spec.blocks),
                    )
                    verdicts = confirmed(first, second, _judged(measured, rules, noise))
    base, new = (
        Side(name, store.read_manifest(folder / name), summarise(records))
        for name, records in zip(NAMES, measured, strict=True)
    )
    notes = tuple(notes_of(base.manifest, new.manifest))
    comparison = Comparison(base, new, rules, tuple(verdicts), notes=notes, fail_on=fail_on)
    return Result(folder, comparison, first, survey.environment)


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        kept_at = f"{folder / NAMES[0]} {folder / NAMES[1]}"
        raise Interrupted(
            f"interrupted; what was measured is kept: lstm-bench compare {kept_at}"
        ) from None


def _sides(spec: Spec, revisions: tuple[Revision, Revision], scratch: Path) -> Pair:
    """Survey both, and plan what each can run of what was asked for."""
    made = []
    for name, revision in zip(NAMES, revisions, strict=True):
        own = scratch / name
        own.mkdir()
        with Scout(spec, own, kernels=revision.root) as scout:
            try:
                survey = scout.survey()
            except MeasuringFailed as failure:
                raise NotComparable(
                    f"the kernels of {revision.name} do not work with this harness: {failure}"
                ) from None
            known = tuple(b for b in spec.backends if b in survey.backends)
            if spec.backends and not known:
                raise UserError(
                    f"{revision.name} has no backend {', '.join(spec.backends)}; it has "
                    f"{', '.join(b for b in survey.backends)}"
                )
            plan = make_plan(replace(spec, backends=known), survey, scout)
            made.append(Contestant(name, revision, survey, plan))
    return made[0], made[1]


def _in_doubt(side: Contestant, doubt: Sequence[Verdict]) -> Contestant:
    return replace(side, plan=part(side.plan, doubt))


def part(plan: Plan, doubt: Sequence[Verdict]) -> Plan:
    """The plan of the backends and cases that are in doubt, alone."""
    labels, names = {v.label for v in doubt}, {v.backend for v in doubt}
    backends = tuple(name for name in plan.backends if name in names)
    cases = tuple(case for case in plan.cases if case.label() in labels)
    skips = {(b, c): skip for (b, c), skip in plan.skips.items() if b in names and c in set(cases)}
    return replace(plan, backends=backends, cases=cases, skips=skips)


def _measure(
    spec: Spec, sides: Pair, out: Path, scratch: Path, watch: Watch
) -> tuple[list[Record], list[Record]]:
    """Measure both in turn, block by block and cell by cell; the records are kept as they come."""
    counts = [_cells(side.plan) for side in sides]
    watch.planned(sum(side.plan.planned_records for side in sides), 0)
    found: tuple[list[Record], list[Record]] = ([], [])
    with ExitStack() as stack:
        answers = Answers(WorkerSettings(sides[1].survey.device, scratch, spec.threads), spec.seed)
        stack.callback(answers.close)
        races = [_race(spec, side, answers, scratch, watch) for side in sides]
        for race, other in zip(races, races[::-1], strict=True):
            race.pids_beside = other.pids
            stack.callback(race.close)
        files = [stack.enter_context(_file(spec, side, out)) for side in sides]
        budget = Budget(spec.time_budget_s or DEFAULT_SHARE_S * sum(counts), sum(counts))
        for block in range(spec.blocks):
            turns = _turns(spec, sides, block)
            for race, side in zip(races, (0, 1), strict=True):
                race.begin(cell for number, cell in turns if number == side)
            for number, cell in turns:
                outcome = races[number].take(cell, budget)
                files[number].append(outcome.record())
                found[number].append(outcome.record())
                watch.finished(outcome)
            for race in races:
                race.end()
        _close(spec, sides, out, answers.state())
    return found


def _turns(spec: Spec, sides: Pair, block: int) -> list[tuple[int, Cell]]:
    """Which side measures which cell, in order: both sides' turns at a cell follow each other."""
    cells: dict[tuple[str, Case], dict[int, Cell]] = {}
    for number, side in enumerate(sides):
        for cell in side.plan.block_order(spec.seed, block):
            cells.setdefault((cell.backend, cell.case), {})[number] = cell
    order = (0, 1) if block % 2 == 0 else (1, 0)
    return [(number, both[number]) for both in cells.values() for number in order if number in both]


def _cells(plan: Plan) -> int:
    """How many cells of a plan will be measured, over all blocks."""
    return plan.planned_records - plan.blocks * len(plan.skips)


def _race(spec: Spec, side: Contestant, answers: Answers, scratch: Path, watch: Watch) -> Race:
    settings = WorkerSettings(
        side.survey.device, scratch / side.name, spec.threads, side.revision.root
    )
    plugins = side.survey.plugin_of
    return Race(
        side.plan,
        spec,
        settings,
        plugins,
        started=watch.started,
        answers=answers,
        memory_blocks=MEMORY_BLOCKS,
    )


def _file(spec: Spec, side: Contestant, out: Path) -> Any:
    folder = out / side.name
    store.create(folder)
    named = replace(spec, label=f"{side.name}: {side.revision.name}")
    manifest = session.manifest_of(folder, named, side.plan, side.survey)
    revision = {"name": side.revision.name, "commit": side.revision.commit}
    store.write_manifest(folder, manifest | {"revision": revision})
    return store.appender(folder)


def _close(spec: Spec, sides: Pair, out: Path, state: Any) -> None:
    for side in sides:
        manifest = store.read_manifest(out / side.name)
        environment = {**manifest["environment"], "end": state}
        store.write_manifest(
            out / side.name, manifest | {"environment": environment, "end": session.now()}
        )


def _judged(
    records: Sequence[Sequence[Record]], rules: Rules, noise: Mapping[Any, float]
) -> list[Verdict]:
    base, new = (summarise(side) for side in records)
    return judge(base, new, rules, noise)
