"""Curves trained one after the other, each in a worker of its own, and kept point by point."""

import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lstm_harness import __version__
from lstm_harness.model.definitions import definitions_named
from lstm_harness.model.errors import Interrupted, UserError
from lstm_harness.model.lasting import changed
from lstm_harness.model.protocol import AddPlugin, CloseTraining, OpenTraining, TrainOn
from lstm_harness.model.spec import Spec
from lstm_harness.model.text import without_secrets
from lstm_harness.model.training import (
    SCHEMA,
    Curve,
    End,
    Learnt,
    Line,
    Point,
    TrainingManifest,
    TrainingSpec,
)
from lstm_harness.model.workloads import WORKLOADS, Workload
from lstm_harness.race.lock import device_lock
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.runs import look_around, now
from lstm_harness.race.survey import Survey, refuse_unknown, refuse_unknown_cells
from lstm_harness.store import run_folder, training_folder
from lstm_harness.store.training_folder import TRAINING

# The default backends: ours, PyTorch's own, and the loop that anyone can read.
DEFAULT_BACKENDS = {"cpu": ("numba_cpu", "aten", "naive"), "cuda": ("triton", "cudnn", "naive")}
# Steps between two points may take this long on a slow backend; longer counts as a hang.
POINT_TIMEOUT_S = 1800.0

# Called with a curve's number, how many there are, the curve, its newest point or None, and
# the most seconds that it trains from there.
Tell = Callable[[int, int, Curve, Point | None, float], None]


def train(spec: TrainingSpec, out: Path | None, tell: Tell) -> Path:
    """Train every curve of a spec and return the folder that holds them.

    Raises:
        UserError: before anything is trained; `Interrupted` with what to type after.
    """
    if out:
        run_folder.refuse_used(out, TRAINING)
    survey = look_around(_survey_spec(spec))
    spec = replace(spec, backends=spec.backends or _who_is_here(survey), device=survey.device)
    for name in spec.backends:
        refuse_unknown(name, survey)
    refuse_unknown_cells(spec.cells, survey)
    with device_lock(survey.identity):
        folder = out or _default_folder(spec.workload)
        run_folder.create(folder, TRAINING)
        manifest = TrainingManifest(
            schema=SCHEMA,
            id=folder.resolve().name,
            lstm_bench=__version__,
            command=("lstm-bench", *map(without_secrets, sys.argv[1:])),
            spec=spec,
            device=survey.device,
            environment=survey.environment,
            kernels_digest=survey.kernels_digest,
            start=now(),
        )
        _train_all(folder, manifest, survey, tell)
    return folder


def resume(folder: Path, tell: Tell) -> Path:
    """Continue a training that was interrupted.

    Raises:
        UserError: there is none, or this machine or its software has changed since it began.
    """
    manifest = training_folder.load(folder).manifest
    survey = look_around(_survey_spec(manifest.spec))
    differ = changed(manifest.environment, survey.environment)
    if manifest.kernels_digest != survey.kernels_digest:
        differ.append("the kernels' sources")
    if differ:
        raise UserError(
            f"{folder} was started with another {', '.join(differ)}; its curves would not be "
            "comparable: restore what changed, or start a new training"
        )
    with device_lock(survey.identity):
        _train_all(folder, manifest, survey, tell)
    return folder


def _train_all(folder: Path, manifest: TrainingManifest, survey: Survey, tell: Tell) -> None:
    _write(folder, replace(manifest, curves_sha256=None))
    scratch = folder / run_folder.SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with run_folder.writing(folder, TRAINING):
            scratch.mkdir()
        known = training_folder.load(folder).curves
        with run_folder.appender(folder, TRAINING) as file:
            for number, learnt in enumerate(known):
                if learnt.end is None:
                    one = _One(folder, manifest.spec, survey, scratch, learnt, file.append)
                    one.train(partial(tell, number, len(known)))
            digest = file.close()
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with: {TRAINING.go_on(folder)}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _write(folder, replace(manifest, curves_sha256=digest, end=now()))


class _One:
    """A curve that is trained, in a worker that trains nothing else."""

    def __init__(
        self,
        folder: Path,
        spec: TrainingSpec,
        survey: Survey,
        scratch: Path,
        learnt: Learnt,
        append: Callable[[Line], None],
    ) -> None:
        self._spec, self._survey, self._scratch = spec, survey, scratch
        self._curve, self._append = learnt.curve, append
        # The last stored point, and where the worker is, which may have started again.
        self._kept = learnt.points[-1] if learnt.points else None
        self._now: Point | None = None
        self._checkpoint = folder / training_folder.CHECKPOINT

    def train(self, tell: Callable[[Curve, Point | None, float], None]) -> None:
        """Train it to its goal, its last step or the end of its time; store its points and end."""
        tell(self._curve, self._kept, self._left_s())
        reason = self._survey.missing.get(self._curve.backend)
        try:
            end = End("unsupported", reason) if reason else self._trained(tell)
        except Failed as failed:
            end = End(failed.status, failed.reason)
        self._append(Line(self._curve, end=end))
        self._checkpoint.unlink(missing_ok=True)

    def _trained(self, tell: Callable[[Curve, Point | None, float], None]) -> End:
        cells = definitions_named(self._spec.cells)
        settings = WorkerSettings(
            self._survey.device, self._scratch, self._spec.threads, cells=cells
        )
        worker = WorkerProcess(settings, self._curve.label())
        try:
            for request in settings.first:
                worker.ask(request)
            plugin = self._survey.plugin_of.get(self._curve.backend)
            if plugin:
                worker.ask(AddPlugin(plugin))
            opening = OpenTraining(self._spec, self._curve, str(self._checkpoint.resolve()))
            self._reached(worker.ask(opening, POINT_TIMEOUT_S).last)
            while not (status := self._over()):
                self._reached(worker.ask(TrainOn(self._steps()), POINT_TIMEOUT_S).point)
                tell(self._curve, self._now, self._left_s())
            closed = worker.ask(CloseTraining(), POINT_TIMEOUT_S)
        finally:
            worker.close()
        return replace(closed.end, status=status, held_out=closed.held_out)

    def _reached(self, point: Point | None) -> None:
        """Keep a point that is new."""
        self._now = point
        if point and (self._kept is None or point.step > self._kept.step):
            self._kept = point
            self._append(Line(self._curve, point))

    def _steps(self) -> int:
        """How many steps until the next point."""
        done = self._now.step if self._now else 0
        return min(self._workload.interval, self._most_steps - done)

    def _over(self) -> str:
        """How the curve ended; empty while it continues."""
        if self._now is None:
            return ""
        reached = self._now.held_out.get(self._workload.goal.metric)
        at_goal = reached is not None and self._workload.goal.is_reached(reached)
        if self._now.step >= self._most_steps or (self._spec.to_goal and at_goal):
            return "ok"
        return "out_of_time" if self._now.seconds >= self._spec.seconds else ""

    def _left_s(self) -> float:
        """The longest it trains, by its budget and by its steps."""
        if self._now is None:
            return self._spec.seconds
        of_steps = self._now.seconds * (self._most_steps / self._now.step - 1)
        return max(0.0, min(self._spec.seconds - self._now.seconds, of_steps))

    @property
    def _workload(self) -> Workload:
        return WORKLOADS[self._spec.workload]

    @property
    def _most_steps(self) -> int:
        return self._spec.steps or self._workload.most_steps


def _who_is_here(survey: Survey) -> tuple[str, ...]:
    """The default backends that can run here."""
    return tuple(name for name in DEFAULT_BACKENDS[survey.device] if name not in survey.missing)


def _survey_spec(spec: TrainingSpec) -> Spec:
    """What a survey needs to know."""
    grid: Mapping[str, tuple[str, ...]] = {"cell": spec.cells}
    return Spec((grid,), plugins=spec.plugins, device=spec.device, threads=spec.threads)


def _default_folder(workload: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("results") / "runs" / f"{stamp}-{socket.gethostname()}-{workload}"


def _write(folder: Path, manifest: TrainingManifest) -> None:
    run_folder.write_manifest(folder, asdict(manifest), TRAINING)
