"""Two sets of kernels on this device: surveyed, planned, and measured in turn.

A block has fresh workers of both sides. Each cell is measured on one side and then at once on the
other, the first side changing from block to block (A B, B A, A B, ...), so that what the machine
does meanwhile hits both alike. The harness that measures, and the float64 answers, are the same for
both sides.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstm_harness.model.errors import MeasuringFailed, NotComparable, UserError
from lstm_harness.model.manifest import check
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import Record
from lstm_harness.model.revision import Revision
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs
from lstm_harness.race.lock import device_lock
from lstm_harness.race.runs import RunSide, Watch
from lstm_harness.race.survey import Survey, SurveyWorker, make_plan, refuse_elsewhere
from lstm_harness.store import run_folder
from lstm_kernels.names import check_name

NAMES = ("base", "new")
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


def planned(spec: Spec, revisions: Sequence[Revision], scratch: Path) -> Both:
    """Survey both, and plan what each can run of what was asked for.

    Where plugins are compared, only their backends run, unless others are asked for.

    Raises:
        UserError: neither has a backend that was asked for; `NotComparable` where the kernels of
            one do not work with this harness.
    """
    with _surveyed(spec, revisions, scratch) as (workers, surveys):
        spec = replace(spec, backends=spec.backends or _brought(revisions, surveys))
        _refuse_unknown(spec, surveys)
        # What a neighbour took of the memory meanwhile must not tell the two apart.
        free_bytes = min(survey.free_bytes for survey in surveys)
        base, new = (
            _contestant(spec, *each, free_bytes)
            for each in zip(NAMES, revisions, surveys, workers, strict=True)
        )
    return base, new


def measure(
    spec: Spec, sides: Both, out: Path, scratch: Path, watch: Watch, memory_blocks: int
) -> list[list[Record]]:
    """Measure both in turn, as `run` measures one; the records are kept as they come."""
    for side in sides:
        run_folder.create(out / side.name)
    manifests = manifests_of(spec, sides, out)
    parts = [
        RunSide(out / s.name, manifest, s.plan, s.survey, s.revision.root, s.name)
        for s, manifest in zip(sides, manifests, strict=True)
    ]
    return runs.measure(parts, spec, scratch, watch, memory_blocks)


def manifests_of(
    spec: Spec, sides: Both, out: Path, command: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The run.json of each side of a pair that begins now, in a folder of the side's name."""
    pair = uuid.uuid4().hex
    return [_manifest_of(spec, side, out, pair, command) for side in sides]


def measure_part(
    manifests: Sequence[Mapping[str, Any]],
    part: Part,
    roots: Sequence[Path],
    folders: Sequence[Path],
    scratch: Path,
    watch: Watch,
) -> None:
    """Measure a part of both sides' plans on this device, in turn, as runs of their own.

    Args:
        manifests: of both whole runs; their environment is that of a device of the same class.
        part: of one block.
        roots: the folders that hold each side's `lstm_kernels`.
        folders: of each side's run, named as the part is.
    Raises:
        UserError: the class of this device, the software or the kernels differ.
    """
    for name, manifest in zip(NAMES, manifests, strict=True):
        check(manifest, f"the manifest of {name}")
    spec = Spec.from_dict(manifests[0]["spec"])
    revisions = [
        Revision(**manifest["revision"], root=root)
        for manifest, root in zip(manifests, roots, strict=True)
    ]
    with _surveyed(spec, revisions, scratch) as (_, surveys):
        for name, manifest, survey in zip(NAMES, manifests, surveys, strict=True):
            runs.refuse_changed(f"the {name} side", manifest, survey, any_of_class=True)
    with device_lock(surveys[1].identity, watch.waiting):
        sides = [
            _side_of_part(*each, part)
            for each in zip(NAMES, manifests, roots, surveys, folders, strict=True)
        ]
        own = runs.spec_of(sides[0].manifest)
        # A second measurement goes on with the numbers of blocks.
        memory_blocks = part.blocks[0] // spec.blocks * spec.blocks + MEMORY_BLOCKS
        runs.measure(sides, own, scratch, watch, memory_blocks)


@contextmanager
def _surveyed(
    spec: Spec, revisions: Sequence[Revision], scratch: Path
) -> Iterator[tuple[list[SurveyWorker], list[Survey]]]:
    """A survey of each, and the workers that made them."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(_survey_worker(spec, revision, scratch / name))
            for name, revision in zip(NAMES, revisions, strict=True)
        ]
        yield (
            workers,
            [survey_of(worker, each) for worker, each in zip(workers, revisions, strict=True)],
        )


def _survey_worker(spec: Spec, revision: Revision, scratch: Path) -> SurveyWorker:
    scratch.mkdir()
    own = spec if revision.plugins is None else replace(spec, plugins=revision.plugins)
    return SurveyWorker(own, scratch, kernels=revision.root)


def survey_of(worker: SurveyWorker, revision: Revision) -> Survey:
    """What a worker says, if its kernels and plugins are those of the revision."""
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
    if revision.plugins is not None:
        refuse_elsewhere(survey, revision.name)
    for plugin in revision.plugins or ():
        if why := survey.unavailable.get(plugin):
            raise NotComparable(f"{Path(plugin).name} of {revision.name} cannot be imported: {why}")
    return survey


def _brought(revisions: Sequence[Revision], surveys: Sequence[Survey]) -> tuple[str, ...]:
    """The backends of the plugins that are compared; none where kernels are."""
    if all(revision.plugins is None for revision in revisions):
        return ()
    names = tuple(dict.fromkeys(name for survey in surveys for name in survey.plugin_of))
    if not names:
        raise UserError("the plugin brings no backend; name those to measure: --backend naive")
    return names


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


def _manifest_of(
    spec: Spec, side: Contestant, out: Path, pair: str, command: Sequence[str]
) -> dict[str, Any]:
    revision = side.revision
    named = replace(spec, label=f"{side.name}: {revision.title}")
    manifest = runs.manifest_of(out / side.name, named, side.plan, side.survey, command)
    told = {
        "pair": pair,
        "revision": {"name": revision.name, "commit": revision.commit},
        "environment": {**manifest["environment"], "git": revision.git},
    }
    return manifest | told


def _side_of_part(
    name: str, manifest: Mapping[str, Any], root: Path, survey: Survey, folder: Path, part: Part
) -> RunSide:
    run_folder.create(folder)
    plan = Plan.from_dict(manifest["plan"])
    own = runs.manifest_of_part(manifest, part, plan, folder, survey)
    # As in the whole run: of the revision, and not of the repository that this is run in.
    own["environment"] = {**own["environment"], "git": manifest["environment"]["git"]}
    return RunSide(folder, own, plan, survey, root, name)
