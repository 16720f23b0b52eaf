"""A store's runs as Parquet files in the user's cache; of these only what changed is made again.

    <cache>/lstm-bench/stores/<store>.query/index.json      what each part holds, under a digest
    <cache>/lstm-bench/stores/<store>.query/<SHA-256>       files of the parts, under their own

A part is two files, of runs and of their records. What is read becomes a new part; where a run of a
part changed or went, the part is written again without it; and many small parts become one. No file
is ever changed, so that another process goes on reading what it found. Files that no index names
any more are removed by the first process that is here alone.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from lstm_harness.history.index import WORTH_PROCESSES_BYTES, Stamp, Tell, stamp, strange
from lstm_harness.history.run_digest import machine
from lstm_harness.interop.record_parquet import parquet_of, table_of
from lstm_harness.interop.store_columns import RECORDS, RUNS, clean, rows_of
from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.store import cache_folder, run_folder
from lstm_harness.store.files import derived, keep_derived, replace_whole
from lstm_harness.store.parallel import each

INDEX, LOCK = "index.json", "lock"
VERSION = 1
# Runs that a process reads before it reports.
CHUNK = 25
# What a part takes as a table in memory: less reads slowly, more takes long to write again.
PART_BYTES = 100_000_000
# More parts than this that are smaller become one.
MOST_SMALL = 16

Entry = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Some runs: the digests that name their files, what they take, and an entry for each by path.

    An entry is the `stamp` of a run's files, what identifies the run (`id`, `start`, `machine`),
    the number of its `records`, and the `definitions` of its cells that are not built in.
    """

    runs: str
    records: str
    bytes: int
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Tables:
    """The files that hold a store's runs and records, and what does not count.

    Attributes:
        hidden: runs in the files that are not of the tables.
        left_out: every run that is not of the tables, with the reason.
    """

    runs: tuple[Path, ...]
    records: tuple[Path, ...]
    hidden: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass
class _Piece:
    """Some runs as tables in memory, with their entries, and the runs that cannot be read."""

    runs: Any
    records: Any
    entries: dict[str, Entry]
    errors: dict[str, Entry] = field(default_factory=dict)


@contextmanager
def tables(store: Path, tell: Tell = lambda done, total, label: None) -> Iterator[Tables]:
    """The tables of a store, up to date; their files stay for as long as the context lasts.

    Raises:
        UserError: no such folder, no run that can be read, or pyarrow is not installed.
        MeasuringFailed: the cache cannot be written.
    """
    if not store.is_dir():
        raise UserError(f"{store} is not a folder; give a folder of runs, like results/runs")
    place = cache_folder.of_store(store, "query")
    with _using(place):
        parts, errors = _refreshed(store, place, tell)
        if not parts:
            raise UserError(f"{store} holds no run that can be read; give a folder of runs")
        yield _tables(place, parts, errors)


@contextmanager
def _using(place: Path) -> Iterator[None]:
    """Keep other processes from removing files here, for as long as this one needs them."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / LOCK).open("a")
    except OSError as error:
        raise _cannot_keep(place, error) from None
    with lock:
        _tidy(place, lock)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _tidy(place: Path, lock: IO[str]) -> None:
    """Remove the files that no index names, if nobody else is here."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    parts, _ = _load(place)
    named = {INDEX, LOCK, *(name for part in parts for name in (part.runs, part.records))}
    for path in place.iterdir():
        if path.name not in named:
            with suppress(OSError):
                path.unlink()


def _refreshed(store: Path, place: Path, tell: Tell) -> tuple[list[Part], dict[str, Entry]]:
    """Every part of a store, and the runs that cannot be read; both are kept."""
    kept, kept_errors = _load(place)
    stamps = {path: stamp(f"{store}/{path}") for path in run_folder.RUN.below(store)}
    whole = [part for part in kept if _is_whole(part, place)]
    entries = {path: entry for part in whole for path, entry in part.entries.items()}
    known = {path for path in stamps if _is_known(path, stamps, entries, kept_errors)}
    errors = {path: entry for path, entry in kept_errors.items() if path in known}
    stale = [path for path in stamps if path not in known]
    parts = [found for part in whole for found in _of(part, known, place)]
    for part in _written(place, _read(store, stale, stamps, errors, tell)):
        parts.append(part)
        # After an interruption only the rest is read again.
        _keep_index(place, parts, errors)
    parts = _packed(parts, place)
    if parts != kept or errors != kept_errors:
        _keep_index(place, parts, errors)
    return parts, errors


def _keep_index(place: Path, parts: Sequence[Part], errors: Mapping[str, Entry]) -> None:
    content = {"parts": [asdict(part) for part in parts], "errors": dict(errors)}
    keep_derived(place / INDEX, {"made_by": _made_by()} | content)


def _is_known(path: str, stamps: Mapping[str, Stamp], *found: Mapping[str, Entry]) -> bool:
    return any(path in entries and entries[path]["stamp"] == stamps[path] for entries in found)


def _made_by() -> list[Any]:
    """What the files depend on in addition to the runs: tables of other columns are made again."""
    return [VERSION, RUNS, RECORDS]


def _load(place: Path) -> tuple[list[Part], dict[str, Entry]]:
    """What the index holds; nothing if there is none, or if other columns were kept."""
    kept = derived(place / INDEX)
    if kept is None or kept.get("made_by") != _made_by():
        return [], {}
    return [Part(**part) for part in kept["parts"]], kept["errors"]


def _is_whole(part: Part, place: Path) -> bool:
    """Whether a part's files are there and are what was written."""
    try:
        return all(
            hashlib.sha256(content_of(place / name, MOST_RECORDS_BYTES)).hexdigest() == name
            for name in (part.runs, part.records)
        )
    except OSError:
        return False


def _of(part: Part, known: set[str], place: Path) -> Iterator[Part]:
    """The part without the runs that changed or went; none where nothing is left of it."""
    left = {path: entry for path, entry in part.entries.items() if path in known}
    if len(left) == len(part.entries):
        yield part
    elif left:
        piece = _loaded(part, place)
        names = [clean(path) for path in left]
        yield from _written(place, [_Piece(*_only(piece, names), left)])


def _only(piece: _Piece, names: Sequence[str]) -> tuple[Any, Any]:
    """The runs of these names, and their records."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(names, pa.string())
    kept = [each.filter(pc.is_in(each["run"], wanted)) for each in (piece.runs, piece.records)]
    return kept[0], kept[1]


def _loaded(part: Part, place: Path) -> _Piece:
    import pyarrow.parquet as pq

    runs, records = (pq.read_table(place / name) for name in (part.runs, part.records))
    return _Piece(runs, records, dict(part.entries))


def _read(
    store: Path,
    stale: Sequence[str],
    stamps: Mapping[str, Stamp],
    errors: dict[str, Entry],
    tell: Tell,
) -> Iterator[_Piece]:
    """The runs that are to be read, some at a time; those that cannot be read go to `errors`."""
    chunks = [stale[at : at + CHUNK] for at in range(0, len(stale), CHUNK)]
    jobs = [(str(store), [(path, stamps[path]) for path in chunk]) for chunk in chunks]
    worth = sum(stamps[path][2] for path in stale) > WORTH_PROCESSES_BYTES
    done = 0
    for chunk, piece in zip(chunks, each(_read_chunk, jobs, worth), strict=True):
        errors.update(piece.errors)
        done += len(chunk)
        tell(done, len(stale), "runs read")
        yield piece


def _read_chunk(job: tuple[str, Sequence[tuple[str, Stamp]]]) -> _Piece:
    """Read some runs of a store, in any process."""
    store, runs = job
    own: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    piece = _Piece(None, None, {})
    for path, seen in runs:
        try:
            run = _run(Path(store, path), seen)
            row, rows = rows_of(clean(path), run)
        except (UserError, ValueError) as error:
            reason = " ".join(str(error).split())
            piece.errors[path] = {"stamp": seen, "error": reason}
            continue
        own.append(row)
        records += rows
        piece.entries[path] = _entry(run, seen)
    piece.runs, piece.records = table_of(own, RUNS), table_of(records, RECORDS)
    return piece


def _run(folder: Path, seen: Stamp) -> run_folder.Run:
    if -2 in seen:
        raise UserError("run.json or records.jsonl is not a plain file; expected no link")
    return run_folder.load(folder)


def _entry(run: run_folder.Run, seen: Stamp) -> Entry:
    manifest = run.manifest
    entry: Entry = {
        "stamp": seen,
        "id": manifest["id"],
        "start": manifest["start"],
        "machine": json.dumps(machine(manifest["environment"], manifest["plan"]["device"])),
        "records": len(run.records),
    }
    definitions = manifest.get("definitions")
    return entry | ({"definitions": definitions} if definitions else {})


def _packed(parts: Sequence[Part], place: Path) -> list[Part]:
    """The same parts, the small ones together where there are many."""
    small = [part for part in parts if part.bytes < PART_BYTES]
    if len(small) <= MOST_SMALL:
        return list(parts)
    together = _written(place, (_loaded(part, place) for part in small))
    return [part for part in parts if part.bytes >= PART_BYTES] + list(together)


def _written(place: Path, pieces: Iterable[_Piece]) -> Iterator[Part]:
    """Parts of pieces, each as large as a part is to be except the last."""
    waiting: list[_Piece] = []
    for piece in pieces:
        if piece.entries:
            waiting.append(piece)
        if sum(each.records.nbytes for each in waiting) >= PART_BYTES:
            yield _write(place, waiting)
            waiting = []
    if waiting:
        yield _write(place, waiting)


def _write(place: Path, pieces: Sequence[_Piece]) -> Part:
    import pyarrow as pa

    runs = pa.concat_tables(piece.runs for piece in pieces)
    records = pa.concat_tables(piece.records for piece in pieces)
    entries = {path: entry for piece in pieces for path, entry in piece.entries.items()}
    return Part(_keep(place, runs), _keep(place, records), records.nbytes, entries)


def _keep(place: Path, table: Any) -> str:
    """Write a table as a file that its digest names; the digest."""
    content = parquet_of(table)
    digest = hashlib.sha256(content).hexdigest()
    try:
        replace_whole(place / digest, content)
    except OSError as error:
        raise _cannot_keep(place, error) from None
    return digest


def _cannot_keep(place: Path, error: OSError) -> MeasuringFailed:
    return MeasuringFailed(
        f"cannot keep the tables of a store in {place}: {error.strerror}; set XDG_CACHE_HOME to a "
        "folder that can be written"
    )


def _tables(place: Path, parts: Sequence[Part], errors: Mapping[str, Entry]) -> Tables:
    entries = {path: entry for part in parts for path, entry in part.entries.items()}
    refused = [*strange(entries)]
    refused += _copies({path: entries[path] for path in entries.keys() - dict(refused).keys()})
    unread = [(path, entry["error"]) for path, entry in errors.items()]
    return Tables(
        tuple(place / part.runs for part in parts),
        tuple(place / part.records for part in parts),
        tuple(clean(path) for path, _ in refused),
        tuple(sorted([*refused, *unread])),
    )


def _copies(entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
    """The runs that are copies of others; of a run and its copies the most complete one counts."""
    kept: dict[tuple[str, ...], str] = {}
    for path in sorted(entries, key=lambda p: (-entries[p]["records"], p)):
        entry = entries[path]
        identity = entry["start"], entry["id"], entry["machine"]
        if identity in kept:
            yield path, f"it is a copy of {kept[identity]}"
        else:
            kept[identity] = path
