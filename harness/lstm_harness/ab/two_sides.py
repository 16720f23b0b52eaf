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
from lstm_harness.model.errors import Interrupted, MeasuringFailed, NotComparable, UserError
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs
from lstm_harness.race.lock import device_lock
from lstm_harness.race.runs import RunSide, Watch
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.race.survey import Survey, SurveyWorker, make_plan
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


Both = tuple[Contestant, Contestant]


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
    with scratch_folder() as scratch:
        sides = _sides(spec, revisions, scratch)
        survey = sides[1].survey
        noise = kept(survey.environment).margins if by_noise else {}
        with device_lock(survey.identity):
            run_folder.create(folder)
            with _interruptible(folder):
                measured = _measure(spec, sides, folder, scratch, watch, MEMORY_BLOCKS)
                first = verdicts = _judged(measured, rules, noise)
                doubt = doubtful(first)
                if doubt:
                    parts = _in_doubt(sides[0], doubt), _in_doubt(sides[1], doubt)
                    in_memory = any(verdict.measure != "time" for verdict in doubt)
                    memory_blocks = MEMORY_BLOCKS if in_memory else 0
                    anew = replace(spec, seed=spec.seed + 1)
                    again = _measure(anew, parts, folder / "again", scratch, watch, memory_blocks)
                    second = _judged(again, rules, noise)
                    measured = [
                        pooled(side, more, spec.blocks)
                        for side, more in zip(measured, again, strict=True)
                    ]
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
        raise Interrupted(f"interrupted; to measure, start again; results so far: {tell}") from None


def _sides(spec: Spec, revisions: tuple[Revision, Revision], scratch: Path) -> Both:
    """Survey both, and plan what each can run of what was asked for."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_survey_worker(spec, revision, scratch / name))
            for name, revision in zip(NAMES, revisions, strict=True)
        ]
        surveys = [
            _survey(worker, revision) for worker, revision in zip(workers, revisions, strict=True)
        ]
        _refuse_unknown(spec, surveys)
        # What a neighbour took of the memory meanwhile must not tell the two apart.
        free_bytes = min(survey.free_bytes for survey in surveys)
        base, new = (
            _contestant(spec, *each, free_bytes)
            for each in zip(NAMES, revisions, surveys, workers, strict=True)
        )
    return base, new


def _survey_worker(spec: Spec, revision: Revision, scratch: Path) -> SurveyWorker:
    scratch.mkdir()
    return SurveyWorker(spec, scratch, kernels=revision.root)


def _survey(worker: SurveyWorker, revision: Revision) -> Survey:
    try:
        survey = worker.survey()
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
    spec: Spec, name: str, revision: Revision, survey: Survey, worker: SurveyWorker, free_bytes: int
) -> Contestant:
    known = tuple(backend for backend in spec.backends if backend in survey.backends)
    if spec.backends and not known:
        raise UserError(
            f"{revision.name} has no backend {', '.join(spec.backends)}; it has "
            f"{', '.join(survey.backends)}"
        )
    with_room = replace(survey, free_bytes=free_bytes)
    plan = make_plan(replace(spec, backends=known), with_room, worker)
    return Contestant(name, revision, survey, plan)


def _in_doubt(side: Contestant, doubt: Sequence[Verdict]) -> Contestant:
    return replace(side, plan=in_doubt(side.plan, doubt))


def _measure(
    spec: Spec, sides: Both, out: Path, scratch: Path, watch: Watch, memory_blocks: int
) -> list[list[Record]]:
    """Measure both in turn, as `run` measures one; the records are kept as they come."""
    pair = uuid.uuid4().hex
    parts = [_run_side(spec, side, out, pair) for side in sides]
    return runs.measure(parts, spec, scratch, watch, memory_blocks)


def _run_side(spec: Spec, side: Contestant, out: Path, pair: str) -> RunSide:
    folder, revision = out / side.name, side.revision
    run_folder.create(folder)
    named = replace(spec, label=f"{side.name}: {revision.title}")
    manifest = runs.manifest_of(folder, named, side.plan, side.survey)
    told = {
        "pair": pair,
        "revision": {"name": revision.name, "commit": revision.commit},
        "environment": {**manifest["environment"], "git": revision.git},
    }
    return RunSide(folder, manifest | told, side.plan, side.survey, revision.root, side.name)


def _judged(
    records: Sequence[Sequence[Record]], rules: Rules, noise: Mapping[Any, float]
) -> list[Verdict]:
    base, new = (summarise(side) for side in records)
    return judge(base, new, rules, noise)
