"""What a coordinator keeps on disk, so that the next one goes on where it was killed.

<out>/fleet.json       what was asked for, and the parts of the plan
<out>/plan             the manifest that the plan came with
<out>/parts/<name>     the run of a part that was accepted: whole, checked, and once
<out>/tasks, jobs      what an engine needs; nothing in there counts
<out>/run.json         the whole run, when all parts are there and merged; the rest is removed
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lstm_harness.fleet.task import Task
from lstm_harness.model.errors import UserError
from lstm_harness.model.part import Part, part_of
from lstm_harness.model.plan import Plan
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.typed import Stored, built
from lstm_harness.store import run_folder
from lstm_harness.store.files import is_unfinished, replace_whole, unfinished
from lstm_harness.store.merging import differences, merged
from lstm_harness.store.run_folder import Run

SCHEMA = 1
FLEET = run_folder.Kind("fleet.json", run_folder.RECORDS, "fleet")
TASKS = "tasks"
JOBS = "jobs"
_PLAN = "plan"
_PARTS = "parts"
_MERGED = "merged"
_LOCK = "coordinator"
_ONLY_UNTIL_MERGED = {TASKS, JOBS, _PLAN, _PARTS, _MERGED, _LOCK, "fleet"}


class Spoilt(Exception):  # noqa: N818 - a finding about a task's result
    """A result is not the whole run of its part; the text says why."""


class Foreign(Spoilt):
    """It was measured in another way, or it is of another run: its place measures no part."""


@dataclass(frozen=True)
class Settings(Stored):
    """How the tasks of a fleet are carried out. Each engine reads its own.

    `gpus` are for local, `address` and `accelerator_type` for ray, `sbatch` for slurm.
    """

    engine: str
    gpus: tuple[str, ...] = ()
    address: str | None = None
    accelerator_type: str | None = None
    sbatch: tuple[str, ...] = ()


@dataclass(frozen=True)
class State(Stored):
    """What was asked for, and the parts that were planned of it so far.

    Until every case's half-width is as small as `until`, a share, blocks are added, for at most
    `budget_s` of device time in all; None for none, and for any.
    """

    spec: Mapping[str, Any]
    command: tuple[str, ...]
    settings: Settings
    cases_per_task: int | None = None
    until: float | None = None
    budget_s: float | None = None
    parts: tuple[Part, ...] = ()
    schema: int = SCHEMA


class Ledger:
    """The folder of a fleet's run, which one coordinator at a time holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = _read(folder)
        self._parts = folder / _PARTS

    @property
    def is_merged(self) -> bool:
        """Whether the whole run is there."""
        return (self.folder / run_folder.MANIFEST).exists()

    def manifest(self) -> dict[str, Any] | None:
        """The manifest that the plan came with; None while there is no plan."""
        folder = self.folder / _PLAN
        return run_folder.read_manifest(folder) if folder.exists() else None

    def has(self, part: Part) -> bool:
        """Whether a part was accepted."""
        return (self._parts / name_of(part)).exists()

    def runs(self) -> list[Run]:
        """The runs of all parts that were planned and accepted."""
        accepted = [part for part in self.state.parts if self.has(part)]
        return [run_folder.load(self._parts / name_of(part)) for part in accepted]

    def keep(self, state: State) -> None:
        """Replace what was planned."""
        run_folder.write_manifest(self.folder, asdict(state), FLEET)
        self.state = state

    def accept_plan(self, files: Mapping[str, bytes]) -> None:
        """Keep the manifest of a plan.

        Raises:
            Spoilt: it is not one.
        """
        self._accept(self.folder / _PLAN, files, run_folder.read_manifest)

    def accept(self, task: Task, files: Mapping[str, bytes]) -> None:
        """Keep the run of a part, if it is whole.

        Raises:
            Spoilt: it is not the whole run of that part.
        """
        self._accept(self._parts / task.name, files, lambda run: _check_part(run, task))

    def _accept(
        self, place: Path, files: Mapping[str, bytes], check: Callable[[Path], object]
    ) -> None:
        """Write the files next to their place, check them there, and rename the folder."""
        with run_folder.writing(self.folder, FLEET):
            place.parent.mkdir(exist_ok=True)
            fresh = unfinished(place)
            fresh.mkdir()
            try:
                for name in (run_folder.MANIFEST, run_folder.RECORDS):
                    if name in files:
                        replace_whole(fresh / name, files[name])
                try:
                    check(fresh)
                except UserError as error:
                    raise Spoilt(str(error)) from None
                fresh.rename(place)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)

    def merge(self) -> None:
        """Make the whole run of the parts, then remove everything else."""
        with run_folder.writing(self.folder, FLEET):
            if not self.is_merged:
                if (self.folder / _MERGED).exists():
                    shutil.rmtree(self.folder / _MERGED)
                parts = [self._parts / name_of(part) for part in self.state.parts]
                # The name of the folder is the run's id.
                whole = merged(parts, self.folder / _MERGED / self.folder.resolve().name)
                manifest = run_folder.read_manifest(whole) | {"command": list(self.state.command)}
                (whole / run_folder.RECORDS).replace(self.folder / run_folder.RECORDS)
                run_folder.write_manifest(self.folder, manifest)
            self.clear()

    def clear(self) -> None:
        """Remove everything but the whole run."""
        state = self.folder / FLEET.manifest
        for entry in self.folder.iterdir():
            # What was not written whole has a longer name.
            is_ours = entry.name.split(".")[0] in _ONLY_UNTIL_MERGED
            if (is_ours and entry != state) or is_unfinished(entry, run_folder.MANIFEST):
                _remove(entry)
        _remove(state)


def is_finished(folder: Path) -> bool:
    """Whether it holds nothing but the whole run of a fleet.

    Raises:
        UserError: it is a run, but not that of a fleet.
    """
    if (folder / FLEET.manifest).exists() or not (folder / run_folder.MANIFEST).exists():
        return False
    if not run_folder.read_manifest(folder).get("parts"):
        raise UserError(f"{folder} is not the run of a fleet; type {run_folder.RUN.go_on(folder)}")
    return True


def begin(folder: Path, state: State) -> None:
    """Make the folder of a new fleet's run.

    Raises:
        UserError: the path is in use, or cannot be written.
    """
    run_folder.create(folder, FLEET)
    run_folder.write_manifest(folder, asdict(state), FLEET)


def name_of(part: Part) -> str:
    """The name of a part of one block: parts of a block have no case in common."""
    return f"block-{part.blocks[0]}-case-{part.cases[0]}"


@contextmanager
def held(folder: Path) -> Iterator[Ledger]:
    """Hold a fleet's run for this coordinator.

    Raises:
        UserError: it is not one, or another coordinator has it.
    """
    _read(folder)
    with run_folder.writing(folder, FLEET):
        file = (folder / _LOCK).open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(20).strip()
            raise UserError(
                f"another coordinator (process {holder}) works on {folder}; wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        # Read again: the other one may have ended in between.
        yield Ledger(folder)


def _read(folder: Path) -> State:
    path = folder / FLEET.manifest
    try:
        state: State = built(parsed(content_of(path)), State, "it")
    except OSError as error:
        raise UserError(
            f"{folder} is not the run of a fleet: cannot read {path.name} ({error.strerror}); "
            "expected a folder that lstm-bench fleet made"
        ) from None
    except (Broken, ValueError) as error:
        raise UserError(f"{path}: {error}; expected what lstm-bench fleet wrote") from None
    if state.schema > SCHEMA:
        raise UserError(
            f"{path} has schema {state.schema}; this lstm-bench reads up to {SCHEMA}: upgrade it"
        )
    return state


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_part(folder: Path, task: Task) -> None:
    """Refuse anything but the whole run of a task's part.

    Raises:
        UserError: it cannot be read; `Spoilt` where it is another one, or not whole.
    """
    run = run_folder.load(folder)
    plan, part = Plan.from_dict(task.order["manifest"]["plan"]), part_of(run.manifest)
    if part is None or part.to_dict() != task.order["part"]:
        raise Spoilt(f"it is the run of {part}; expected {task.order['part']}")
    if other := differences(task.order["manifest"], run.manifest):
        raise Foreign(f"its {', '.join(other)} differs from the plan's")
    if run.torn or run.edited or run.manifest.get("records_sha256") is None:
        raise Spoilt("it did not end, or its records are not as they were written")
    planned = {
        (block, backend, case) for block, case in plan.cells(part) for backend in plan.backends
    }
    if {record.identity for record in run.records} != planned:
        raise Spoilt(f"it has {len(run.records)} records; expected {len(planned)}")
    if len({record.machine for record in run.records}) != 1:
        raise Spoilt("several devices measured it; expected one for all backends of a case")
