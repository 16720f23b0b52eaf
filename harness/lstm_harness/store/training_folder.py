"""A training on disk: a manifest, and curves that grow by a line a point.

<training>/training.json      the manifest
<training>/curves.jsonl       a point or an end a line, in the order made
<training>/checkpoints/       of the curve that is being trained, to continue from
<training>/report.html        made at the end, and by `lstm-bench report` at any time
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lstm_harness.model.errors import UserError
from lstm_harness.model.manifest import check_environment
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.training import SCHEMA, Curve, End, Learnt, Line, Point, TrainingManifest
from lstm_harness.model.typed import built
from lstm_harness.model.workloads import workload_named
from lstm_harness.store.run_folder import Kind, split_torn

TRAINING = Kind("training.json", "curves.jsonl", "train")
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Training:
    """A training as read from disk.

    `curves` has every curve that was asked for, also those that have no points yet. `edited`
    says that the curves of a training that ended were changed afterwards.
    """

    folder: Path
    manifest: TrainingManifest
    curves: tuple[Learnt, ...]
    edited: bool = False


def is_one(folder: Path) -> bool:
    """Whether a folder holds a training."""
    return (folder / TRAINING.manifest).is_file()


def load(folder: Path) -> Training:
    """Read a training.

    Raises:
        UserError: there is no training, its schema is newer, or a line does not belong to it.
    """
    manifest = _manifest(folder)
    path = folder / TRAINING.lines
    try:
        content = content_of(path) if path.exists() else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    whole, torn = split_torn(content)
    lines = [_line(line, path, number) for number, line in enumerate(whole.splitlines(), start=1)]
    written = manifest.curves_sha256
    edited = written is not None and written != hashlib.sha256(content).hexdigest()
    curves = _curves(manifest.spec.curves(), lines, path)
    return Training(folder, manifest, curves, edited and not torn)


def _manifest(folder: Path) -> TrainingManifest:
    path = folder / TRAINING.manifest
    try:
        stored = parsed(content_of(path))
    except OSError as error:
        raise UserError(
            f"{folder} is not a training: cannot read {TRAINING.manifest} ({error.strerror}); "
            "expected a folder that lstm-bench train made"
        ) from None
    except Broken as error:
        raise UserError(f"{path} {error}; expected the manifest of a training") from None
    _refuse_newer(stored, str(path))
    try:
        manifest: TrainingManifest = built(stored, TrainingManifest, "it")
        check_environment(manifest.environment)
    except ValueError as error:
        raise UserError(f"{path} is not the manifest of a training: {error}") from None
    workload_named(manifest.spec.workload)
    return manifest


def _line(content: bytes, path: Path, number: int) -> Line:
    where = f"{path} line {number}"
    try:
        stored = parsed(content)
    except Broken as error:
        raise UserError(f"{where} {error}; expected a point or an end a line") from None
    _refuse_newer(stored, where)
    try:
        return Line.from_dict(stored)
    except ValueError as error:
        raise UserError(f"{where} is not a line of a curve: {error}") from None


def _refuse_newer(stored: object, where: str) -> None:
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UserError(
            f"{where} has schema {schema!r}; this lstm-bench reads up to {SCHEMA}: upgrade it"
        )


def _curves(asked: Iterable[Curve], lines: Iterable[Line], path: Path) -> tuple[Learnt, ...]:
    points: dict[Curve, list[Point]] = {curve: [] for curve in asked}
    ends: dict[Curve, End] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path} line {number}: {line.curve.label()}"
        if line.curve not in points:
            raise UserError(f"{where} is not a curve of this training; remove the line")
        if line.curve in ends:
            raise UserError(f"{where} continues after its end; remove the line")
        if line.end is not None:
            ends[line.curve] = line.end
        elif line.point is not None:
            before = points[line.curve]
            if before and line.point.step <= before[-1].step:
                raise UserError(
                    f"{where} has step {line.point.step} after {before[-1].step}; "
                    "expected steps in ascending order"
                )
            before.append(line.point)
    return tuple(Learnt(curve, tuple(found), ends.get(curve)) for curve, found in points.items())
