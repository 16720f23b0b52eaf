"""The main job: survey, plan, race, store. `run` starts one, `resume` continues one."""

import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lstm_harness import __version__
from lstm_harness.analysis.floors.floor import with_floor
from lstm_harness.model.ceilings import Ceilings, conditions_of
from lstm_harness.model.definitions import definitions_of, kept_with
from lstm_harness.model.errors import Exit, Interrupted, MeasuringFailed, UserError
from lstm_harness.model.lasting import changed, changed_class, tuned
from lstm_harness.model.manifest import check
from lstm_harness.model.part import Part, part_of
from lstm_harness.model.plan import Plan, PlannedCell
from lstm_harness.model.protocol import MakeProbes, ProbesMade, RoundTaken, TakeRound
from lstm_harness.model.record import FAILED_MEASURING, SCHEMA, Record
from lstm_harness.model.sources import plugin_digest, sources_digest
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import without_secrets
from lstm_harness.race import kept_compiled
from lstm_harness.race.lock import device_lock
from lstm_harness.race.oracle import Oracle
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.scheduler import Scheduler, Side
from lstm_harness.race.scratch import scratch_folder
from lstm_harness.race.strangers import no_strangers
from lstm_harness.race.survey import Survey, SurveyWorker, make_plan
from lstm_harness.race.visit import Outcome
from lstm_harness.store import kept_limits, run_folder

# As many rounds as keep a CPU's ceilings within half a minute; a longer round counts as a hang.
CEILING_ROUNDS = 8
CEILING_ROUND_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Watch:
    """Callbacks for progress: how many cells there are, then before and after each.

    `planned` gets how many there are in total and how many of them are done already. If there is
    `waiting`, this run waits for a run that holds the device, and `waiting` gets its owner.
    """

    planned: Callable[[int, int], None] = lambda total, done: None
    started: Callable[[PlannedCell], None] = lambda cell: None
    finished: Callable[[Outcome], None] = lambda outcome: None
    waiting: Callable[[str], None] | None = None


def make(spec: Spec, checking: bool = False) -> tuple[Survey, Plan]:
    """Survey this machine and plan on it; nothing is measured and nothing is kept.

    With `checking` the plan is only verified: nothing in it is timed.

    Raises:
        UserError: see `survey.make_plan`.
    """
    with scratch_folder() as scratch, SurveyWorker(spec, scratch, checking) as worker:
        survey = worker.survey()
        return survey, make_plan(spec, survey, worker)


def look_around(spec: Spec) -> Survey:
    """Only survey this machine."""
    with scratch_folder() as scratch, SurveyWorker(spec, scratch) as worker:
        return worker.survey()


def run(spec: Spec, out: Path | None, watch: Watch, command: Sequence[str] = ()) -> Path:
    """Measure everything a spec asks for and return the run's folder.

    Args:
        command: the command line for it, if it is not this process's own.
    Raises:
        UserError: before anything ran; `Interrupted` or `MeasuringFailed` with what to type after.
    """
    if out:
        run_folder.refuse_used(out)
    survey, plan = make(spec)
    with device_lock(survey.identity, watch.waiting):
        folder = out or default_folder(spec)
        run_folder.create(folder)
        manifest = manifest_of(folder, spec, plan, survey, command)
        _measure_alone(RunSide(folder, manifest, plan, survey), spec, watch)
    return folder


def run_part(manifest: Mapping[str, Any], part: Part, out: Path, watch: Watch) -> Path:
    """Measure a part of a run's plan on this device, as a run of its own, and return its folder.

    Args:
        manifest: the whole run's; its environment is that of a device of the same class.
    Raises:
        UserError: the class of this device or the software differs, or `out` is in use.
        ValueError: it is not a manifest, or the plan does not have the part.
    """
    check(manifest, "the run's manifest")
    plan = Plan.from_dict(manifest["plan"])
    plan.cells(part)
    survey = look_around(Spec.from_dict(manifest["spec"]))
    refuse_changed(f"run {manifest['id']}", manifest, survey, any_of_class=True)
    with device_lock(survey.identity, watch.waiting):
        run_folder.create(out)
        own = manifest_of_part(manifest, part, plan, out, survey)
        _measure_alone(RunSide(out, own, plan, survey), spec_of(own), watch)
    return out


def manifest_of_part(
    manifest: Mapping[str, Any], part: Part, plan: Plan, out: Path, survey: Survey
) -> dict[str, Any]:
    """The run.json of a part that begins now: the whole run's, with what is the part's own."""
    of_whole = ("parts", "limits", "no_limits")
    return {
        **{name: value for name, value in manifest.items() if name not in of_whole},
        "id": out.resolve().name,
        "lstm_bench": __version__,
        "start": now(),
        "end": None,
        "part": part.to_dict(),
        "plan": plan.to_dict() | {"planned_records": plan.records_of(part)},
        "environment": survey.environment,
        **_kept_limits(survey),
    }


def spec_of(manifest: Mapping[str, Any]) -> Spec:
    """The spec of a run; a part has its share of the time, which is the same for each block."""
    spec, part = Spec.from_dict(manifest["spec"]), part_of(manifest)
    if part is None or spec.time_budget_s is None:
        return spec
    plan = Plan.from_dict(manifest["plan"])
    whole = (plan.whole_cases or len(plan.cases)) * spec.blocks
    share = len(part.cases) * len(part.blocks) / whole
    return replace(spec, time_budget_s=share * spec.time_budget_s)


def resume(folder: Path, watch: Watch) -> Path:
    """Finish a run that was interrupted, with the plan it had.

    A run that was merged from parts goes on on any device of its class.

    Raises:
        UserError: no run there, or this machine or its software has changed since it began.
    """
    manifest = run_folder.read_manifest(folder)
    spec, plan = spec_of(manifest), Plan.from_dict(manifest["plan"])
    survey = look_around(spec)
    refuse_changed(str(folder), manifest, survey, any_of_class="parts" in manifest)
    with device_lock(survey.identity, watch.waiting):
        _measure_alone(RunSide(folder, manifest, plan, survey), spec, watch)
    return folder


def run_again(folder: Path, out: Path, part: Callable[[Plan], Plan], watch: Watch) -> None:
    """Measure a part of a run's plan again, with fresh processes, as a separate run.

    Its seed is the next one: inputs, order and the layout of memory are drawn again.

    Raises:
        UserError: no run there, this machine or its software has changed since, or `out` is in
            use.
    """
    manifest = run_folder.read_manifest(folder)
    spec, plan = Spec.from_dict(manifest["spec"]), part(Plan.from_dict(manifest["plan"]))
    spec = replace(spec, seed=spec.seed + 1)
    survey = look_around(spec)
    refuse_changed(str(folder), manifest, survey)
    with device_lock(survey.identity):
        run_folder.create(out)
        _measure_alone(
            RunSide(out, manifest_of(out, spec, plan, survey), plan, survey), spec, watch
        )


def verify(spec: Spec, watch: Watch) -> tuple[Plan, list[Outcome]]:
    """Check every cell against float64, once, and keep nothing."""
    survey, plan = make(spec, checking=True)
    outcomes = []
    with scratch_folder() as scratch, no_strangers(), ExitStack() as stack:
        cells = definitions_of(plan.cases)
        settings = WorkerSettings(survey.device, scratch, spec.threads, cells=cells)
        oracle = Oracle(settings, spec.seed)
        stack.callback(oracle.close)
        side = side_of(plan, settings, survey)
        scheduler = Scheduler([side], spec, oracle, watch.started, proof_only=True)
        stack.callback(scheduler.close)
        watch.planned(plan.planned_records, 0)
        for outcome in scheduler.outcomes():
            watch.finished(outcome)
            outcomes.append(outcome)
    return plan, outcomes


def limits(spec: Spec, tell: Callable[[int, int, str], None]) -> tuple[Ceilings, Path]:
    """Measure this device's ceilings, keep them, and return them and where they lie.

    Args:
        tell: called before each round with how many are done, how many there are, and a label.
    Raises:
        MeasuringFailed: the worker did not answer, or nothing could be measured.
    """
    from lstm_harness.analysis.floors.rounds import ceilings_of  # scipy, only for this command

    survey = look_around(spec)
    with device_lock(survey.identity), scratch_folder() as scratch:
        settings = WorkerSettings(survey.device, scratch, survey.environment["cpu"]["threads"])
        worker = WorkerProcess(settings, "limits")
        try:
            made, rounds = _ceiling_rounds(worker, tell)
        except Failed as failure:
            raise MeasuringFailed(f"cannot measure the ceilings: {failure.reason}") from None
        finally:
            worker.close()
    ceilings = ceilings_of(
        survey.device,
        survey.identity,
        survey.environment,
        made,
        [taken.samples for taken in rounds],
        now(),
    )
    if not ceilings.ceilings:
        reasons = "; ".join(dict.fromkeys(ceilings.failures.values()))
        raise MeasuringFailed(f"no ceiling could be measured: {reasons}")
    return ceilings, kept_limits.keep(ceilings)


def _ceiling_rounds(
    worker: WorkerProcess, tell: Callable[[int, int, str], None]
) -> tuple[ProbesMade, list[RoundTaken]]:
    """The probes of a worker's device, and its samples by round."""
    made = worker.ask(MakeProbes())
    rounds = []
    for number in range(CEILING_ROUNDS):
        tell(number, CEILING_ROUNDS, f"{len(made.probes)} ceilings")
        rounds.append(worker.ask(TakeRound(), CEILING_ROUND_TIMEOUT_S))
    return made, rounds


def exit_code(statuses: list[str], broken: Sequence[str] = ()) -> Exit:
    """The exit code for these statuses: a wrong answer outranks a failed measurement.

    Args:
        broken: the plugins that were asked for and cannot be imported.
    """
    if "incorrect" in statuses:
        return Exit.INCORRECT
    has_failed = broken or set(statuses) & set(FAILED_MEASURING)
    return Exit.MEASURING_FAILED if has_failed else Exit.DONE


def default_folder(spec: Spec) -> Path:
    """The folder of a run without --out; git ignores it."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{socket.gethostname()}-{spec.suite or 'custom'}"
    return Path("results") / "runs" / name


@dataclass(frozen=True)
class RunSide:
    """A run that is measured, alone or in turn with another: its folder and its kernels.

    `kernels` is the folder that holds the `lstm_kernels` to measure, if it is not our own;
    `name` distinguishes its compiler caches from the other side's.
    """

    folder: Path
    manifest: dict[str, Any]
    plan: Plan
    survey: Survey
    kernels: Path | None = None
    name: str = ""

    @property
    def part(self) -> Part | None:
        """What it measures of its plan; None for all."""
        return part_of(self.manifest)


def side_of(
    plan: Plan,
    settings: WorkerSettings,
    survey: Survey,
    finished: tuple[Record, ...] = (),
    part: Part | None = None,
) -> Side:
    """The kernels and the plan of one side, from its survey."""
    backward = {name for name, each in survey.backends.items() if "backward" in each.passes}
    threads = survey.environment["cpu"]["threads"]
    return Side(plan, settings, survey.plugin_of, frozenset(backward), threads, finished, part)


def measure(
    sides: Sequence[RunSide], spec: Spec, scratch: Path, watch: Watch, memory_blocks: int = 1
) -> list[list[Record]]:
    """Append a record for every cell without one, then close the manifests.

    Returns:
        all records of each side, including earlier ones.
    """
    parts, records = [], []
    kept = _kept_compiled(sides)
    if kept is not None:
        earlier = {"compiled_earlier": any(kept.iterdir())}
        sides = [replace(side, manifest=earlier | side.manifest) for side in sides]
    for side in sides:
        run_folder.write_manifest(side.folder, side.manifest | {"records_sha256": None})
        finished = run_folder.load(side.folder).records
        own = scratch / side.name
        own.mkdir(exist_ok=True)
        cells = definitions_of(side.plan.cases)
        settings = WorkerSettings(
            side.survey.device, own, spec.threads, side.kernels, cells=cells, kept=kept
        )
        parts.append(side_of(side.plan, settings, side.survey, finished, side.part))
        records.append(list(finished))
    planned = sum(side.plan.records_of(side.part) for side in sides)
    watch.planned(planned, sum(map(len, records)))
    survey = sides[-1].survey
    with no_strangers(), ExitStack() as stack:
        cells = definitions_of(case for side in sides for case in side.plan.cases)
        settings = WorkerSettings(survey.device, scratch, spec.threads, cells=cells)
        oracle = Oracle(settings, spec.seed)
        stack.callback(oracle.close)
        scheduler = Scheduler(
            parts,
            spec,
            oracle,
            watch.started,
            lambda: _refuse_changed_sources(sides),
            memory_blocks=memory_blocks,
            cores=survey.environment["cpu"]["threads"] if survey.device == "cpu" else None,
        )
        stack.callback(scheduler.close)
        files = [stack.enter_context(run_folder.appender(side.folder)) for side in sides]
        ceilings = [kept_limits.of_manifest(side.manifest) for side in sides]
        for outcome in scheduler.outcomes():
            # Nothing else ran meanwhile: the last cell did that.
            changed = [name for file in files for name in file.restored()]
            if changed:
                reason = f"it changed {', '.join(changed)} of the run, which was restored"
                outcome = Outcome(outcome.cell, "incorrect", reason, side=outcome.side)
            machine = sides[outcome.side].survey.identity
            record = with_floor(replace(outcome.record(), machine=machine), ceilings[outcome.side])
            files[outcome.side].append(record)
            records[outcome.side].append(record)
            watch.finished(outcome)
        state = oracle.state()
        _refuse_changed_sources(sides)
        digests = [file.close() for file in files]
    for side, digest in zip(sides, digests, strict=True):
        environment = {**side.manifest["environment"], "end": state}
        closed = {"environment": environment, "end": now(), "records_sha256": digest}
        run_folder.write_manifest(side.folder, side.manifest | closed)
    return records


def _kept_compiled(sides: Sequence[RunSide]) -> Path | None:
    """Where what is compiled outlives the run; None for two sides, each of which compiles apart."""
    if len(sides) > 1 or sides[0].kernels is not None:
        return None
    return kept_compiled.folder_for(sides[0].plan.backends, sides[0].survey)


def _refuse_changed_sources(sides: Sequence[RunSide]) -> None:
    """Refuse to continue with other kernels than those in the survey."""
    for side in sides:
        survey = side.survey
        found = sources_digest(survey.kernels, survey.plugins)
        if found != survey.kernels_digest:
            go_on = shlex.join(["lstm-bench", "run", "--resume", str(side.folder)])
            raise MeasuringFailed(
                f"the kernels' sources changed while they were measured: restore them, then {go_on}"
            )


def _measure_alone(side: RunSide, spec: Spec, watch: Watch) -> None:
    """Measure a run, with scratch space in its own folder."""
    with (
        resumable(side.folder),
        _run_scratch(side.folder) as scratch,
        run_folder.writing(side.folder),
    ):
        measure([side], spec, scratch, watch)


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """On an interrupt of a run, or of its report, say how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        go_on = shlex.join(["lstm-bench", "run", "--resume", str(folder)])
        raise Interrupted(f"interrupted; go on with: {go_on}") from None


def manifest_of(
    folder: Path, spec: Spec, plan: Plan, survey: Survey, command: Sequence[str] = ()
) -> dict[str, Any]:
    """The run.json of a run that begins now; its command is this process's if none is given."""
    return {
        "schema": SCHEMA,
        "id": folder.resolve().name,
        "label": spec.label,
        "suite": spec.suite,
        "command": [*map(without_secrets, command or ["lstm-bench", *sys.argv[1:]])],
        "lstm_bench": __version__,
        "seed": spec.seed,
        "start": now(),
        "end": None,
        "spec": spec.to_dict(),
        "plan": plan.to_dict(),
        "environment": survey.environment,
        "kernels_digest": survey.kernels_digest,
        **_plugins(survey),
        **kept_with(plan.cases),
        **_kept_limits(survey),
    }


def _plugins(survey: Survey) -> dict[str, Any]:
    """Each plugin's file name, the digest of its sources and its backends; none without plugins."""
    told = [
        {
            "file": Path(path).name,
            "sha256": plugin_digest(Path(path)),
            "backends": [name for name, file in survey.plugin_of.items() if file == path],
        }
        for path in survey.plugins
    ]
    return {"plugins": told} if told else {}


def _kept_limits(survey: Survey) -> dict[str, Any]:
    """The stored ceilings of this device, for run.json, or why there are none."""
    conditions = conditions_of(survey.device, survey.environment)
    ceilings, reason = kept_limits.kept(survey.device, survey.identity, conditions)
    return {"limits": ceilings.to_dict()} if ceilings else {"limits": None, "no_limits": reason}


def refuse_changed(
    run: str, manifest: Mapping[str, Any], survey: Survey, any_of_class: bool = False
) -> None:
    """Refuse to measure more of a run on a device, or with software, that differs.

    Args:
        run: its name, for a message.
        any_of_class: another device of the same class does not differ.
    """
    began, here = manifest["environment"], survey.environment
    differ = (changed_class if any_of_class else changed)(began, here)
    backends = manifest["plan"]["backends"]
    if tuned(began, backends) != tuned(here, backends):
        differ.append("tuned parameters")
    if manifest["plan"]["device"] != survey.device:
        differ.append("device")
    if manifest["kernels_digest"] != survey.kernels_digest:
        differ.append("the kernels' sources")
    if differ:
        raise UserError(
            f"{run} was started with another {', '.join(differ)}; its records would not be "
            "comparable: restore what changed, or start a new run"
        )


def now() -> str:
    """The time in UTC, as in a manifest."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _run_scratch(folder: Path) -> Iterator[Path]:
    """A run's own scratch space; a killed run may have left files in it."""
    scratch = folder / run_folder.SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    with run_folder.writing(folder):
        scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
