"""The trainings of a store: the index entry of each, and the page of one."""

import stat
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from lstm_harness.console import training as told
from lstm_harness.model.errors import UserError
from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.report import assets
from lstm_harness.report import training as page
from lstm_harness.store import training_folder
from lstm_harness.store.training_folder import TRAINING

Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Trained:
    """A training in a few words: `answer` is the first sentence of its page."""

    workload: str
    start: str
    machine: str
    answer: str


def stamp(folder: Path) -> Stamp:
    """What tells that a training's files are those that were read.

    Raises:
        UserError: one of them is not a plain file.
    """
    marks: list[int] = []
    for name in (TRAINING.manifest, TRAINING.lines):
        try:
            seen = (folder / name).lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"cannot read {name}: {error.strerror}") from None
        if not stat.S_ISREG(seen.st_mode):
            raise UserError(f"{name} is not a plain file; expected no link")
        marks += [seen.st_size, seen.st_mtime_ns]
    return tuple(marks)


def read(folder: Path) -> Trained:
    """A training in a few words; read again only where its files changed.

    Raises:
        UserError: it cannot be read.
    """
    return _read(folder, stamp(folder))


@lru_cache(maxsize=1024)
def _read(folder: Path, _: Stamp) -> Trained:
    training = training_folder.load(folder)
    manifest = training.manifest
    found = manifest.environment.get("gpu") or manifest.environment.get("cpu") or {}
    return Trained(
        workload=manifest.spec.workload,
        start=manifest.start,
        machine=str(found.get("name") or found.get("model") or manifest.device),
        answer=told.sentences(WORKLOADS[manifest.spec.workload], training.curves)[0],
    )


def render(folder: Path) -> str:
    """The page of a training.

    Raises:
        UserError: it cannot be read.
    """
    stamp(folder)
    training = training_folder.load(folder)
    manifest = training.manifest
    workload, shared = WORKLOADS[manifest.spec.workload], f"../../{assets.FOLDER}"
    return page.render(workload, training.curves, asdict(manifest), shared)
