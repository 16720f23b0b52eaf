"""Two sets of kernels on this machine, measured in turn and judged: `ab`, and A against A.

A block has fresh workers of both sides. Each cell is measured on one side and then at once on the
other, the first side changing from block to block (A B, B A, A B, ...), so that what the machine
does meanwhile hits both alike. What is flagged or not settled is measured once more, in new
blocks, before it is believed (`judge.confirm`). The harness that measures, and the float64
answers, are the same for both sides.

    <out>/base, <out>/new          ordinary runs, as `report` and `compare` read them
    <out>/again/base, .../new      the second measurement, of what was in doubt
"""

import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstm_harness.ab.revisions import Revision
from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.comparison import Comparison, Side, told
from lstm_harness.judge.confirm import confirmed, doubtful, in_doubt, pooled
from lstm_harness.judge.noise import kept
from lstm_harness.judge.verdict import Kind, Rules, Verdict, judge
from lstm_harness.model.case import Case
from lstm_harness.model.errors import Interrupted, MeasuringFailed, NotComparable, UserError
from lstm_harness.model.plan import DEFAULT_SHARE_S, Plan, PlannedCell
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs
from lstm_harness.race.answers import Answers
from lstm_harness.race.budget import Budget
from lstm_harness.race.lock import device_lock
from lstm_harness.race.process import WorkerSettings
from lstm_harness.race.runs import Watch
from lstm_harness.race.scheduler import Race
from lstm_harness.race.survey import Scout, Survey, make_plan
from lstm_harness.store import run_folder
from lstm_kernels.names import check_name

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
    by_noise: bool = True,
) -> Result:
    """Measure both sides in turn and judge the second by the first.

    Args:
        spec: its `time_budget_s` is for the first measurement of both sides together.
        by_noise: this machine's own noise, where a selftest kept it, is a margin.
    Raises:
        UserError: nothing can be compared; `Interrupted` where records are left in `out`.
    """
    if spec.blocks < LEAST_BLOCKS:
        raise UserError(f"--blocks {spec.blocks}: expected at least {LEAST_BLOCKS}, to tell noise")
    folder = out or runs.default_folder(replace(spec, suite="ab"))
    run_folder.refuse_used(folder)
    with runs.scratch_folder() as scratch:
        sides = _sides(spec, revisions, scratch)
        survey = sides[1].survey
        noise = kept(survey.environment).margins if by_noise else {}
        with device_lock(survey.identity):
            run_folder.create(folder)
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
        Side(
            side.revision.title,
            run_folder.read_manifest(folder / side.name),
            summarise(records),
            absent=side.plan.absent,
        )
        for side, records in zip(sides, measured, strict=True)
    )
    also = [f"{file} is the same on both sides" for file in spec.plugins]
    if base.manifest["kernels_digest"] == new.manifest["kernels_digest"]:
        also.append("the kernels' sources are the same on both sides")
    comparison = told(base, new, rules, verdicts, (), fail_on, also)
    return Result(folder, comparison, first, survey.environment)


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        tell = shlex.join(["lstm-bench", "compare", *(str(folder / name) for name in NAMES)])
        raise Interrupted(
            f"interrupted; to measure, start anew; what there is so far: {tell}"
        ) from None


def _sides(spec: Spec, revisions: tuple[Revision, Revision], scratch: Path) -> Pair:
    """Survey both, and plan what each can run of what was asked for."""
    with ExitStack() as stack:
        scouts = [
            stack.enter_context(_scout(spec, revision, scratch / name))
            for name, revision in zip(NAMES, revisions, strict=True)
        ]
        surveys = [
            _survey(scout, revision) for scout, revision in zip(scouts, revisions, strict=True)
        ]
        _refuse_unknown(spec, surveys)
        # What a neighbour took of the memory meanwhile must not tell the two apart.
        free_bytes = min(survey.free_bytes for survey in surveys)
        base, new = (
            _contestant(spec, *each, free_bytes)
            for each in zip(NAMES, revisions, surveys, scouts, strict=True)
        )
    return base, new


def _scout(spec: Spec, revision: Revision, scratch: Path) -> Scout:
    scratch.mkdir()
    return Scout(spec, scratch, kernels=revision.root)


def _survey(scout: Scout, revision: Revision) -> Survey:
    try:
        survey = scout.survey()
    except MeasuringFailed as failure:
        raise NotComparable(
            f"the kernels of {revision.name} do not work with this harness: {failure}"
        ) from None
    if survey.kernels != revision.root.resolve():
        raise MeasuringFailed(
            f"python imports lstm_kernels from {survey.kernels}, not from {revision.root}, where "
            f"those of {revision.name} are; what puts that folder first on its path?"
        )
    return survey


def _refuse_unknown(spec: Spec, surveys: Sequence[Survey]) -> None:
    """A backend that one side alone has is missing or new; one that neither has is a mistake."""
    known = dict.fromkeys(name for survey in surveys for name in survey.backends)
    for backend in spec.backends:
        try:
            check_name("backend", backend, known)
        except ValueError as error:
            raise UserError(str(error)) from None


def _contestant(
    spec: Spec, name: str, revision: Revision, survey: Survey, scout: Scout, free_bytes: int
) -> Contestant:
    known = tuple(backend for backend in spec.backends if backend in survey.backends)
    if spec.backends and not known:
        raise UserError(
            f"{revision.name} has no backend {', '.join(spec.backends)}; it has "
            f"{', '.join(survey.backends)}"
        )
    with_room = replace(survey, free_bytes=free_bytes)
    plan = make_plan(replace(spec, backends=known), with_room, scout)
    return Contestant(name, revision, survey, plan)


def _in_doubt(side: Contestant, doubt: Sequence[Verdict]) -> Contestant:
    return replace(side, plan=in_doubt(side.plan, doubt))


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
        pair = uuid.uuid4().hex
        files = [stack.enter_context(_file(spec, side, out, pair)) for side in sides]
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


def _turns(spec: Spec, sides: Pair, block: int) -> list[tuple[int, PlannedCell]]:
    """Which side measures which cell, in order: both sides' turns at a cell follow each other."""
    cells: dict[tuple[str, Case], dict[int, PlannedCell]] = {}
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


def _file(spec: Spec, side: Contestant, out: Path, pair: str) -> Any:
    folder = out / side.name
    run_folder.create(folder)
    named = replace(spec, label=f"{side.name}: {side.revision.title}")
    manifest = runs.manifest_of(folder, named, side.plan, side.survey)
    revision = {"name": side.revision.name, "commit": side.revision.commit}
    environment = {**manifest["environment"], "git": side.revision.git}
    more = {"pair": pair, "revision": revision, "environment": environment}
    run_folder.write_manifest(folder, manifest | more)
    return run_folder.appender(folder)


def _close(spec: Spec, sides: Pair, out: Path, state: Any) -> None:
    for side in sides:
        manifest = run_folder.read_manifest(out / side.name)
        environment = {**manifest["environment"], "end": state}
        run_folder.write_manifest(
            out / side.name, manifest | {"environment": environment, "end": runs.now()}
        )


def _judged(
    records: Sequence[Sequence[Record]], rules: Rules, noise: Mapping[Any, float]
) -> list[Verdict]:
    base, new = (summarise(side) for side in records)
    return judge(base, new, rules, noise)
