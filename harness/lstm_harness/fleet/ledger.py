"""What a coordinator keeps on disk, so that the next one goes on where it was killed.

<out>/fleet.json       what was asked for, and the parts of the plan
<out>/plan             the manifest that the plan came with
<out>/parts/<name>     the run of a part that was accepted: whole, checked, and once
<out>/tasks, jobs      what an engine needs; nothing in there counts
<out>/run.json         the whole run, when all parts are there and merged; the rest is removed

Where two revisions are compared, the first file is ab.json, which stays. Then a plan, a part and
the whole are two runs, in folders `base` and `new`, and <out>/sources has the kernels of each.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lstm_harness.fleet.pieces import grown
from lstm_harness.fleet.task import Task, manifests_in
from lstm_harness.judge.verdict import Rules
from lstm_harness.model.errors import UserError
from lstm_harness.model.part import Part, part_of
from lstm_harness.model.plan import Plan
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.typed import Stored, built
from lstm_harness.race import pairs
from lstm_harness.store import run_folder
from lstm_harness.store.files import is_unfinished, replace_whole, unfinished
from lstm_harness.store.merging import differences, merged
from lstm_harness.store.run_folder import Run

SCHEMA = 1
FLEET = run_folder.Kind("fleet.json", run_folder.RECORDS, "fleet")
AB = run_folder.Kind("ab.json", run_folder.RECORDS, "ab")
TASKS = "tasks"
JOBS = "jobs"
_PLAN = "plan"
_PARTS = "parts"
_MERGED = "merged"
_LOCK = "coordinator"
_SOURCES = "sources"
_FILES = (run_folder.MANIFEST, run_folder.RECORDS)
# What makes a folder of each kind, for a message.
_COMMANDS = {FLEET.command: "lstm-bench fleet", AB.command: "lstm-bench ab --engine"}
_ONLY_UNTIL_MERGED = {TASKS, JOBS, _PLAN, _PARTS, _MERGED, _LOCK, _SOURCES}


class Spoilt(Exception):  # noqa: N818 - a finding about a task's result
    """A result is not the whole run of its part; the text says why."""


class Foreign(Spoilt):
    """It was measured in another way than the plan says, so its place measures no part."""


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
class Pair(Stored):
    """Two revisions to compare, base first, and how they are judged.

    `revisions` have what `Revision` has, except the folder. `installed` is the digest of the
    kernels that are installed where the coordinator is, which make the right answers on each node.
    """

    revisions: tuple[Mapping[str, Any], ...]
    margin: float
    memory_margin: float
    fail_on: tuple[str, ...]
    installed: str

    @property
    def rules(self) -> Rules:
        """How their times and memory are judged."""
        return Rules(margin=self.margin, memory_margin=self.memory_margin, paired=True)


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
    pair: Pair | None = None
    schema: int = SCHEMA

    @property
    def kind(self) -> run_folder.Kind:
        """The file that it is kept in, and the command that made it."""
        return AB if self.pair else FLEET

    @property
    def sides(self) -> tuple[str, ...]:
        """The folder of each run in that of the whole."""
        return pairs.NAMES if self.pair else ("",)


class Ledger:
    """The folder of a fleet's run, which one coordinator at a time holds."""

    def __init__(self, folder: Path, kind: run_folder.Kind) -> None:
        self.folder = folder
        self.state = state_of(folder, kind)
        self._parts = folder / _PARTS

    @property
    def is_merged(self) -> bool:
        """Whether the whole run is there."""
        places = (self.folder / side / run_folder.MANIFEST for side in self.state.sides)
        return all(place.exists() for place in places)

    @property
    def roots(self) -> list[str]:
        """Where the kernels of each side are, if two are compared."""
        sides = self.state.sides if self.state.pair else ()
        return [str(self.folder.resolve() / _SOURCES / side) for side in sides]

    def manifests(self) -> list[dict[str, Any]]:
        """The manifest of each side that the plan came with; none while there is no plan."""
        folder = self.folder / _PLAN
        sides = self.state.sides if folder.exists() else ()
        return [run_folder.read_manifest(folder / side) for side in sides]

    def has(self, part: Part) -> bool:
        """Whether a part was accepted."""
        return (self._parts / name_of(part)).exists()

    def runs(self) -> list[list[Run]]:
        """The runs of all parts that were planned and accepted, of each side."""
        accepted = [self._parts / name_of(part) for part in self.state.parts if self.has(part)]
        return [[run_folder.load(place / side) for place in accepted] for side in self.state.sides]

    def keep(self, state: State) -> None:
        """Replace what was planned."""
        run_folder.write_manifest(self.folder, asdict(state), state.kind)
        self.state = state

    def accept_plan(self, files: Mapping[str, bytes]) -> None:
        """Keep the manifest of a plan.

        Raises:
            Spoilt: it is not one.
        """

        def check(place: Path) -> None:
            for side in self.state.sides:
                run_folder.read_manifest(place / side)

        self._accept(self.folder / _PLAN, files, check)

    def accept(self, task: Task, files: Mapping[str, bytes]) -> None:
        """Keep the run of a part, if it is whole.

        Raises:
            Spoilt: it is not the whole run of that part.
        """

        def check(place: Path) -> None:
            _check_part([place / side for side in self.state.sides], task)

        self._accept(self._parts / task.name, files, check)

    def _accept(
        self, place: Path, files: Mapping[str, bytes], check: Callable[[Path], object]
    ) -> None:
        """Write the files next to their place, check them there, and rename the folder."""
        with run_folder.writing(self.folder, self.state.kind):
            place.parent.mkdir(exist_ok=True)
            fresh = unfinished(place)
            fresh.mkdir()
            try:
                for name in (_filed(side, each) for side in self.state.sides for each in _FILES):
                    if name in files:
                        (fresh / name).parent.mkdir(exist_ok=True)
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
        with run_folder.writing(self.folder, self.state.kind):
            for side in self.state.sides:
                if not (self.folder / side / run_folder.MANIFEST).exists():
                    self._merge(side)
            self._tidy()
            if not self.state.pair:
                _remove(self.folder / FLEET.manifest)

    def _merge(self, side: str) -> None:
        place = self.folder / side
        if (self.folder / _MERGED).exists():
            shutil.rmtree(self.folder / _MERGED)
        parts = [self._parts / name_of(part) / side for part in self.state.parts]
        # The name of the folder is the run's id.
        planned = run_folder.read_manifest(self.folder / _PLAN / side)
        plan = grown(Plan.from_dict(planned["plan"]), self.state.parts)
        whole = merged(parts, self.folder / _MERGED / place.resolve().name, plan=plan)
        own = {"spec": planned["spec"], "command": list(self.state.command)}
        manifest = run_folder.read_manifest(whole) | own
        place.mkdir(exist_ok=True)
        (whole / run_folder.RECORDS).replace(place / run_folder.RECORDS)
        run_folder.write_manifest(place, manifest)

    def clear(self) -> None:
        """Remove everything: nothing was measured."""
        self._tidy()
        _remove(self.folder / self.state.kind.manifest)

    def _tidy(self) -> None:
        """Remove everything but the whole run, and what was asked for."""
        for entry in self.folder.iterdir():
            # What was not written whole has a longer name.
            if entry.name.split(".")[0] in _ONLY_UNTIL_MERGED:
                _remove(entry)
        for place in {self.folder, *(self.folder / side for side in self.state.sides)}:
            for entry in place.glob("*"):
                if any(is_unfinished(entry, name) for name in (*_FILES, self.state.kind.manifest)):
                    _remove(entry)


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


def begin(folder: Path, state: State, roots: Sequence[Path] = ()) -> None:
    """Make the folder of a new fleet's run.

    Args:
        roots: the kernels of both sides, if two are compared.
    Raises:
        UserError: the path is in use, or cannot be written.
    """
    run_folder.create(folder, state.kind)
    if roots:
        with run_folder.writing(folder, state.kind):
            for left in _unnamed_sources(folder):
                shutil.rmtree(left)
            fresh = unfinished(folder / state.kind.manifest)
            for side, root in zip(state.sides, roots, strict=True):
                left_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(root, fresh / side, ignore=left_out)
    run_folder.write_manifest(folder, asdict(state), state.kind)
    with run_folder.writing(folder, state.kind):
        _name_sources(folder)


def _unnamed_sources(folder: Path) -> list[Path]:
    """The kernels that were copied before what was asked for was kept."""
    return [each for each in folder.iterdir() if each.is_dir() and is_unfinished(each, AB.manifest)]


def _name_sources(folder: Path) -> None:
    """Give the kernels of both sides their name.

    They get it last, because a folder that holds anything with a name of its own is in use.
    """
    for fresh in _unnamed_sources(folder):
        fresh.rename(folder / _SOURCES)


def name_of(part: Part) -> str:
    """The name of a part of one block: parts of a block have no case in common."""
    return f"block-{part.blocks[0]}-case-{part.cases[0]}"


@contextmanager
def held(folder: Path, kind: run_folder.Kind = FLEET) -> Iterator[Ledger]:
    """Hold a fleet's run for this coordinator.

    Raises:
        UserError: it is not one, or another coordinator has it.
    """
    state_of(folder, kind)
    with run_folder.writing(folder, kind):
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
        with run_folder.writing(folder, kind):
            _name_sources(folder)
        # Read again: the other one may have ended in between.
        yield Ledger(folder, kind)


def state_of(folder: Path, kind: run_folder.Kind) -> State:
    """What was asked for, as a folder has it.

    Raises:
        UserError: it is not the run of a fleet of that kind, or of a newer one.
    """
    path = folder / kind.manifest
    try:
        state: State = built(parsed(content_of(path)), State, "it")
    except OSError as error:
        raise UserError(
            f"{folder} is not the run of a fleet: cannot read {path.name} ({error.strerror}); "
            f"expected a folder that {_COMMANDS[kind.command]} made"
        ) from None
    except (Broken, ValueError) as error:
        raise UserError(f"{path}: {error}; expected what {_COMMANDS[kind.command]} wrote") from None
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


def _filed(side: str, name: str) -> str:
    """The name of a side's file among those that a task hands over."""
    return (PurePosixPath(side) / name).as_posix()


def _check_part(folders: Sequence[Path], task: Task) -> None:
    """Refuse anything but the whole run of a task's part, or both of a pair.

    Raises:
        UserError: it cannot be read; `Spoilt` where it is another one, or not whole.
    """
    planned = manifests_in({**task.shared, **task.order})
    found = [
        _checked(folder, manifest, task.order["part"])
        for folder, manifest in zip(folders, planned, strict=True)
    ]
    if len({record.machine for run in found for record in run.records}) != 1:
        raise Spoilt("several devices measured it; expected one for all backends of a case")


def _checked(folder: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Any]) -> Run:
    """The run of a part, if it is whole."""
    run = run_folder.load(folder)
    part = part_of(run.manifest)
    if part is None or part.to_dict() != wanted:
        raise Spoilt(f"it is the run of {part}; expected {wanted}")
    if other := differences(manifest, run.manifest):
        raise Foreign(f"its {', '.join(other)} differs from the plan's")
    if run.torn or run.edited or run.manifest.get("records_sha256") is None:
        raise Spoilt("it did not end, or its records are not as they were written")
    plan = Plan.from_dict(manifest["plan"])
    planned = {
        (block, backend, plan.cases[place])
        for block in part.blocks
        for place in part.cases
        for backend in plan.backends
    }
    if {record.identity for record in run.records} != planned:
        raise Spoilt(f"it has {len(run.records)} records; expected {len(planned)}")
    return run
