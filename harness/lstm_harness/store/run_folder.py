"""A run on disk: a manifest and its records, appended and flushed one by one.

    <run>/run.json         the manifest
    <run>/records.jsonl    one record a line, in the order measured
    <run>/report.html      made at the end, and by `lstm-bench report` at any time

Only this module writes results. A killed run loses at most the record in flight: a torn last line
is dropped when the run is read, and cut off when it is resumed.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lstm_harness.model.case import Case
from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.manifest import check
from lstm_harness.model.part import Part, part_of
from lstm_harness.model.plan import Plan
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.model.record import SCHEMA, Record
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.training import Line
from lstm_harness.store.files import is_unfinished, refuse_url, replace_whole

MANIFEST = "run.json"
RECORDS = "records.jsonl"
REPORT = "report.html"
COMPARISON = "comparison.html"
SCRATCH = ".scratch"
# In it the URL at which the run is published once it has ended.
DESTINATION = ".publish-to"


@dataclass(frozen=True)
class Kind:
    """The files of a folder by name, and the command that makes it."""

    manifest: str
    lines: str
    command: str

    def go_on(self, folder: Path) -> str:
        """The command that continues it."""
        return shlex.join(["lstm-bench", self.command, "--resume", str(folder)])

    def below(self, store: Path) -> Iterator[str]:
        """Every folder of this kind in a store, as a path in the store; no link is followed."""
        above = len(os.fspath(store))
        for place, folders, files in os.walk(store):
            folders.sort()
            if self.manifest in files:
                folders.clear()
                yield place[above:].lstrip(os.sep) or os.curdir


RUN = Kind(MANIFEST, RECORDS, "run")


@dataclass(frozen=True)
class Run:
    """A run as read from disk.

    `torn` says that a half-written last line was dropped, `edited` that the records of a run that
    ended were changed afterwards.
    """

    folder: Path
    manifest: dict[str, Any]
    records: tuple[Record, ...]
    torn: bool = False
    edited: bool = False

    @property
    def machines(self) -> tuple[str, ...]:
        """The devices that measured it, in order; none where it is from before they were kept."""
        return tuple(dict.fromkeys(record.machine for record in self.records if record.machine))


def refuse_used(folder: Path, kind: Kind = RUN) -> None:
    """Refuse a path that a new run must not take.

    Raises:
        UserError: it holds something already, cannot be read, or is a URL.
    """
    refuse_url(folder)
    try:
        if folder.exists() and (not folder.is_dir() or _holds_something(folder, kind)):
            begun = (folder / kind.manifest).exists()
            more = f"; to go on with that {kind.command}: {kind.go_on(folder)}" if begun else ""
            raise UserError(f"{folder} is already used; give another --out{more}")
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}; give another --out") from None


def create(folder: Path, kind: Kind = RUN) -> None:
    """Make the folder of a new run.

    Raises:
        UserError: the path is in use, or cannot be written.
    """
    refuse_used(folder, kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; give another --out") from None


def _holds_something(folder: Path, kind: Kind) -> bool:
    """Whether it holds more than a run that was killed before it wrote its manifest."""
    others = [entry for entry in folder.iterdir() if entry.name != DESTINATION]
    return any(not is_unfinished(entry, kind.manifest) for entry in others)


def write_manifest(folder: Path, manifest: dict[str, Any], kind: Kind = RUN) -> None:
    """Replace the manifest in one step, so that a kill leaves the old one or the new one."""
    content = json.dumps(manifest, indent=1, allow_nan=False).encode() + b"\n"
    with writing(folder, kind):
        replace_whole(folder / kind.manifest, content)


@contextmanager
def appender(folder: Path, kind: Kind = RUN) -> Iterator["Appender"]:
    """Open a run's records for appending, a torn last line cut off first."""
    path = folder / kind.lines
    with writing(folder, kind):
        whole, torn = split_torn(content_of(path, MOST_RECORDS_BYTES) if path.exists() else b"")
        if torn:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        opened = Appender(folder, path.open("ab", buffering=0), whole, kind)
    try:
        yield opened
    finally:
        opened.close()


class Appender:
    """Appends records to one run; each is on its way to the disk before `append` returns.

    Nobody else may write there: the files are compared with what was written.
    """

    def __init__(self, folder: Path, file: IO[bytes], before: bytes, kind: Kind) -> None:
        self._folder = folder
        self._kind = kind
        self._file = file
        self._written = [before]
        self._manifest = (folder / kind.manifest).read_bytes()
        self._left = self._facts()

    def append(self, record: Record | Line) -> None:
        """Write one record as one line."""
        line = json.dumps(record.to_dict(), allow_nan=False).encode() + b"\n"
        self._written.append(line)
        with writing(self._folder, self._kind):
            while line:
                line = line[self._file.write(line) :]
        self._left = self._facts()

    def restored(self) -> list[str]:
        """Restore the run's files that somebody else changed; return their names."""
        if self._facts() == self._left:
            return []
        changed = []
        with writing(self._folder, self._kind):
            for name, content in self._contents().items():
                path = self._folder / name
                if not path.is_file() or path.is_symlink() or path.read_bytes() != content:
                    replace_whole(path, content)
                    changed.append(name)
            self._file.close()
            self._file = (self._folder / self._kind.lines).open("ab", buffering=0)
        self._left = self._facts()
        return changed

    def close(self) -> str:
        """The SHA-256 of all records, once nothing more is written."""
        self.restored()
        self._file.close()
        return hashlib.sha256(b"".join(self._written)).hexdigest()

    def _contents(self) -> dict[str, bytes]:
        written = b"".join(self._written)
        return {self._kind.manifest: self._manifest, self._kind.lines: written}

    def _facts(self) -> list[tuple[int, ...] | None]:
        """The facts about a file that change with its content and cannot be set by hand."""
        return [_facts(self._folder / name) for name in (self._kind.manifest, self._kind.lines)]


def _facts(path: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        facts = path.lstat()
        return facts.st_ino, facts.st_size, facts.st_ctime_ns
    return None


@contextmanager
def writing(folder: Path, kind: Kind = RUN) -> Iterator[None]:
    """Turn a failed write, such as on a full disk, into one line; what was written is safe."""
    try:
        yield
    except OSError as error:
        raise MeasuringFailed(
            f"cannot write to {folder}: {error.strerror}; records written so far are safe: "
            f"make room, then {kind.go_on(folder)}"
        ) from None


def load(folder: Path) -> Run:
    """Read a run; a run that was killed before its first record has no records.

    Raises:
        UserError: no run there, records of a newer schema, or a line that is not one of its
            records.
    """
    manifest = read_manifest(folder)
    try:
        content = content_of(folder / RECORDS, MOST_RECORDS_BYTES)
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UserError(f"cannot read {folder / RECORDS}: {error.strerror}") from None
    whole, torn = split_torn(content)
    lines = whole.splitlines()
    records = tuple(_parse(line, folder, number) for number, line in enumerate(lines, start=1))
    _refuse_foreign(records, Plan.from_dict(manifest["plan"]), part_of(manifest), folder)
    _refuse_twice(records, folder)
    written = manifest.get("records_sha256")
    edited = written is not None and not torn and written != hashlib.sha256(content).hexdigest()
    return Run(folder, manifest, records, torn=bool(torn), edited=edited)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a run's run.json.

    Raises:
        UserError: it is missing, unreadable, foreign, or of a newer schema.
    """
    path = folder / MANIFEST
    try:
        manifest = parsed(content_of(path))
    except OSError as error:
        raise UserError(
            f"{folder} is not a run: cannot read {MANIFEST} ({error.strerror}); "
            "expected a folder that lstm-bench run made"
        ) from None
    except Broken as error:
        raise UserError(f"{path} {error}; expected the manifest of a run") from None
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise UserError(f"{path} is not the manifest of a run: it has no schema")
    _refuse_newer(manifest["schema"], str(path))
    try:
        check(manifest, str(path))
    except ValueError as error:
        raise UserError(f"{path} is not the manifest of a run: {error}") from None
    return manifest


def split_torn(content: bytes) -> tuple[bytes, bytes]:
    """Separate complete lines from a torn last line."""
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def _parse(line: bytes, folder: Path, number: int) -> Record:
    where = f"{folder / RECORDS} line {number}"
    try:
        stored = parsed(line)
    except Broken as error:
        raise UserError(f"{where} {error}; expected one record on each line") from None
    if not isinstance(stored, dict) or "schema" not in stored:
        raise UserError(f"{where} is not a record of lstm-bench: it has no schema")
    _refuse_newer(stored["schema"], where)
    try:
        return Record.from_dict(stored)
    except KeyError as error:
        raise UserError(f"{where} is not a whole record: {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} is not a record: {error}") from None


def _refuse_newer(schema: object, where: str) -> None:
    if not isinstance(schema, int) or schema > SCHEMA:
        raise UserError(
            f"{where} has schema {schema!r}; this lstm-bench reads up to {SCHEMA}: upgrade it"
        )


def _refuse_foreign(
    records: tuple[Record, ...], plan: Plan, part: Part | None, folder: Path
) -> None:
    planned = plan.cells(part)
    for number, record in enumerate(records, start=1):
        if record.backend not in plan.backends or (record.block, record.case) not in planned:
            raise UserError(
                f"{folder / RECORDS} line {number}: {record.backend} on {record.case.label()}, "
                f"block {record.block}, is not in the run's plan; it is another run's record"
            )


def _refuse_twice(records: tuple[Record, ...], folder: Path) -> None:
    seen: set[tuple[int, str, Case]] = set()
    for number, record in enumerate(records, start=1):
        if record.identity in seen:
            raise UserError(
                f"{folder / RECORDS} line {number}: {record.backend} on {record.case.label()}, "
                f"block {record.block}, appears twice; expected one record of each"
            )
        seen.add(record.identity)
