"""A copy on this machine of the runs and trainings at a URL, brought up to date.

    <cache>/stores/<digest of the URL>/state.json    what was copied: its etag, size or time
    <cache>/stores/<digest of the URL>/<name>/...    the runs, as they lie below the URL

Only what changed is downloaded. A run without a manifest is not there: a manifest is written last.
"""

import fcntl
import hashlib
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.reading import MOST_BYTES, MOST_RECORDS_BYTES
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.store import cache_folder
from lstm_harness.store.files import derived, keep_derived, replace_whole, unfinished
from lstm_harness.store.run_folder import RUN, Kind
from lstm_harness.store.training_folder import TRAINING
from lstm_harness.store.url_folder import AT_ONCE, File, UrlFolder

# In which manifest the digest of its lines has which name.
DIGEST_OF = {RUN: "records_sha256", TRAINING: "curves_sha256"}
KINDS = tuple(DIGEST_OF)
NAMES = frozenset(name for kind in KINDS for name in (kind.manifest, kind.lines))
_MOST_BYTES = dict.fromkeys(NAMES, MOST_BYTES) | {RUN.lines: MOST_RECORDS_BYTES}
# A download that is not what was listed is made again.
TRIES = 3

Marks = dict[str, str]
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Found:
    """A run or training below a URL: its folder there, and its files by name."""

    folder: str
    kind: Kind
    files: Mapping[str, File]

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}".lstrip("/")

    def marks(self) -> Marks:
        return {file.path: file.mark for file in self.files.values()}


def brought_up_to_date(source: UrlFolder, tell: Tell) -> Path:
    """The folder on this machine that has every run and training below a URL.

    Raises:
        UserError: no run is there, or a path there is not safe.
        MeasuringFailed: it cannot be read, or not be kept here.
    """
    home = cache_folder.folder("stores") / hashlib.sha256(source.shown.encode()).hexdigest()[:16]
    place = home / _name_of(source.shown)
    try:
        with _alone(home):
            found = _gathered(source.files(NAMES))
            if not found:
                raise UserError(
                    f"{source.shown} holds no run; expected {RUN.manifest} there, or in a folder "
                    "below it"
                )
            place.mkdir(exist_ok=True)
            _update(source, found, home, place, tell)
    except OSError as error:
        raise MeasuringFailed(
            f"cannot keep {source.shown} in {home}: {error.strerror}; set XDG_CACHE_HOME to a "
            "folder that can be written"
        ) from None
    return place


def _update(
    source: UrlFolder, found: Mapping[str, _Found], home: Path, place: Path, tell: Tell
) -> None:
    state = home / "state.json"
    kept: dict[str, Marks] = (derived(state) or {}).get("runs", {})
    for folder in [folder for folder in kept if folder not in found]:
        _forget(place, folder, kept.pop(folder))
    stale = [one for one in found.values() if not _is_here(one, kept.get(one.folder), place)]
    for one in stale:
        _forget(place, one.folder, kept.pop(one.folder, one.marks()))
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                taken = pool.map(partial(_take, source, place=place), stale)
                for number, (one, _) in enumerate(zip(stale, taken, strict=True), start=1):
                    kept[one.folder] = one.marks()
                    tell(number, len(stale), "runs downloaded")
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        # What was downloaded before a failure is not downloaded again.
        keep_derived(state, {"runs": kept})


def _gathered(files: list[File]) -> dict[str, _Found]:
    """Runs and trainings by folder; what lies below one is a part of it."""
    folders: dict[str, dict[str, File]] = defaultdict(dict)
    for file in files:
        folder, _, name = file.path.rpartition("/")
        folders[folder][name] = file
    found: dict[str, _Found] = {}
    for folder, named in sorted(folders.items(), key=lambda item: item[0].split("/")):
        kind = next((kind for kind in KINDS if kind.manifest in named), None)
        above = ["", *_above(folder)] if folder else []
        if kind and not any(each in found for each in above):
            own = {
                name: file for name, file in named.items() if name in (kind.manifest, kind.lines)
            }
            found[folder] = _Found(folder, kind, own)
    return found


def _above(folder: str) -> list[str]:
    parts = folder.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _is_here(one: _Found, kept: Marks | None, place: Path) -> bool:
    if kept != one.marks():
        return False
    return all((place / file.path).is_file() for file in one.files.values())


def _forget(place: Path, folder: str, marks: Marks) -> None:
    """Remove what was copied of a run, its manifest first: without one, it is not a run."""
    for path in sorted(marks, key=lambda path: path.endswith(RUN.lines)):
        (place / path).unlink(missing_ok=True)
    if folder:
        shutil.rmtree(place / folder, ignore_errors=True)


def _take(source: UrlFolder, one: _Found, place: Path) -> None:
    """Download a run; what a server cut off is noticed by its size, or by the manifest's digest."""
    manifest, lines = one.files[one.kind.manifest], one.files.get(one.kind.lines)
    # Listed just before it was created, perhaps.
    lines = lines or source.file(one.path(one.kind.lines))
    into = place / one.folder
    into.mkdir(parents=True, exist_ok=True)
    fresh = unfinished(into / one.kind.lines)
    seen = set()
    try:
        for _ in range(TRIES):
            content = b"".join(_chunks(source, manifest))
            digest = _copied(source, lines, fresh)
            whole = _is_whole(manifest, len(content)) and _is_whole(lines, fresh.stat().st_size)
            # The server holds other lines than the manifest names if two downloads agree on them.
            if whole and (digest in seen or digest == _promised(content, one.kind, digest)):
                break
            if whole:
                seen.add(digest)
        else:
            raise MeasuringFailed(
                f"{source.shown}: {one.path(one.kind.lines)} or its manifest is cut off or changes "
                f"while it is read, in {TRIES} tries; try again"
            )
        if lines:
            fresh.replace(into / one.kind.lines)
        replace_whole(into / one.kind.manifest, content)
    finally:
        fresh.unlink(missing_ok=True)


def _chunks(source: UrlFolder, file: File) -> Iterator[bytes]:
    """The content of a file, of which no more is read than is bearable."""
    most, taken = _MOST_BYTES[file.path.rpartition("/")[2]], file.size or 0
    if taken <= most:
        taken = 0
        for chunk in source.chunks(file):
            taken += len(chunk)
            if taken > most:
                break
            yield chunk
        else:
            return
    raise UserError(
        f"{source.shown}: {file.path} has {taken:,} bytes or more; at most {most:,} are read"
    )


def _copied(source: UrlFolder, lines: File | None, to: Path) -> str:
    """Write a file's content to a path, and return its SHA-256."""
    digest = hashlib.sha256()
    with to.open("wb") as copy:
        for chunk in _chunks(source, lines) if lines else ():
            copy.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


def _is_whole(file: File | None, size: int) -> bool:
    return file is None or file.size is None or file.size == size


def _promised(manifest: bytes, kind: Kind, otherwise: str) -> str:
    """The digest of the lines that a manifest names.

    A manifest that cannot be read, or has none, promises nothing; `load` says what is wrong.
    """
    try:
        stored = parsed(manifest)
    except Broken:
        return otherwise
    named = stored.get(DIGEST_OF[kind]) if isinstance(stored, dict) else None
    return named if isinstance(named, str) else otherwise


def _name_of(shown: str) -> str:
    """The last part of a URL as a folder's name."""
    last = shown.partition("://")[2].rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last)[:80].lstrip(".") or "store"


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Let no other program of this user bring the same copy up to date meanwhile."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
