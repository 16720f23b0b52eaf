"""Digests of a store's runs, in one file, so that thousands need not be read each time.

    <store>/.history-index.json

It is derived data: a run whose files changed in size or time is read again, a
file that is torn, foreign or of another version is ignored, and a store that cannot be
written is read whole each time. It may be deleted at any time.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lstm_harness.history import run_digest
from lstm_harness.model.definitions import learn
from lstm_harness.model.errors import UserError
from lstm_harness.store import run_folder
from lstm_harness.store.files import derived, keep_derived
from lstm_harness.store.parallel import each

INDEX = ".history-index.json"
VERSION = 7
# Runs that a process reads before it reports.
CHUNK = 25
# Below this much to read, starting further processes takes longer than they save.
WORTH_PROCESSES_BYTES = 50_000_000

Item = TypeVar("Item", str, int)
Stamp = list[int]
Tell = Callable[[int, int, str], None]


@dataclass
class Index:
    """Runs by their path in the store. What many runs share is kept once and named by its place.

    `cells` are [backend, case], `facts` [machine, environment], all as text; a roster is a list of
    places in `cells`. A run is an object of `stamp`, `id`, `start`, `commit`, `lacks` (planned
    records that are not there), `facts` (a place), `roster` (a place) and the `times` of its cells:
    a median in ns, or a status; and, if it has them, `definitions`, `sha256` and `parts`, as in
    `run_digest.Digest`. A run that cannot be read is `stamp` and `error`.
    """

    cells: list[list[str]] = field(default_factory=list)
    facts: list[list[str]] = field(default_factory=list)
    rosters: list[list[int]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cell_places = _places(self.cells)
        self._fact_places = _places(self.facts)
        self._roster_places = _places(self.rosters)

    def add(self, path: str, stamp: Stamp, digest: run_digest.Digest) -> None:
        """Add one run."""
        # Runs measure the same cells in orders of their own.
        times = sorted(digest.cells.items(), key=lambda pair: pair[0])
        roster = [_place([*cell], self.cells, self._cell_places) for cell, _ in times]
        self.runs[path] = {
            "stamp": stamp,
            "id": digest.id,
            "start": digest.start,
            "commit": digest.commit,
            "lacks": digest.lacks,
            "facts": _place([digest.machine, digest.environment], self.facts, self._fact_places),
            "roster": _place(roster, self.rosters, self._roster_places),
            "times": [time for _, time in times],
        }
        # As JSON has them, whether this index was read from there or made now.
        rare = {
            "definitions": list(digest.definitions),
            "sha256": digest.sha256,
            "parts": list(digest.parts),
        }
        self.runs[path] |= {name: value for name, value in rare.items() if value}

    def merge(self, other: "Index") -> None:
        """Add what another process read."""
        cells = [_place(cell, self.cells, self._cell_places) for cell in other.cells]
        facts = [_place(fact, self.facts, self._fact_places) for fact in other.facts]
        rosters = [
            _place([cells[place] for place in roster], self.rosters, self._roster_places)
            for roster in other.rosters
        ]
        for path, run in other.runs.items():
            if "error" not in run:
                run["facts"] = facts[run["facts"]]
                run["roster"] = rosters[run["roster"]]
            self.runs[path] = run


def _places(items: list[list[Item]]) -> dict[tuple[Item, ...], int]:
    return {tuple(item): place for place, item in enumerate(items)}


def _place(item: list[Item], items: list[list[Item]], places: dict[tuple[Item, ...], int]) -> int:
    key = tuple(item)
    if key not in places:
        places[key] = len(items)
        items.append(item)
    return places[key]


def refresh(
    folder: Path, tell: Tell = lambda done, total, label: None, file: Path | None = None
) -> Index:
    """The index of a store, updated, and stored if that is possible.

    Args:
        file: where it is kept; in the store, unless another place is given.
    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of runs, like results/runs")
    # In the folder of a single run no index is stored.
    is_run = (folder / run_folder.MANIFEST).exists()
    place = file or (None if is_run else folder / INDEX)
    kept = _load(place) if place and place.exists() else _load(folder / INDEX)
    stamps = {path: stamp(folder / path) for path in run_folder.RUN.below(folder)}
    gone = [path for path in kept.runs if path not in stamps]
    stale = [path for path, stamp in stamps.items() if _is_stale(kept.runs.get(path), stamp)]
    for path in (*gone, *stale):
        kept.runs.pop(path, None)
    total_bytes = sum(stamps[path][2] for path in stale)
    chunks = [stale[at : at + CHUNK] for at in range(0, len(stale), CHUNK)]
    jobs = [(str(folder), [(path, stamps[path]) for path in chunk]) for chunk in chunks]
    done = 0
    for part in each(_read_chunk, jobs, worth=total_bytes > WORTH_PROCESSES_BYTES):
        kept.merge(part)
        done += len(part.runs)
        tell(done, len(stale), "runs read")
    if place and (gone or stale):
        _keep(kept, place)
    return kept


def stamp(run: Path | str) -> Stamp:
    """What tells that a run's files are the ones that were read."""
    marks: Stamp = []
    for name in (run_folder.MANIFEST, run_folder.RECORDS):
        try:
            seen = os.lstat(os.path.join(run, name))  # noqa: PTH118 - twice as fast, of thousands
        except OSError:
            marks += [-1, -1]
            continue
        # Nothing is known about a link or a pipe, which is not read.
        marks += [seen.st_size, seen.st_mtime_ns] if stat.S_ISREG(seen.st_mode) else [-2, -2]
    return [marks[0], marks[1], marks[2], marks[3]]


def strange(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The runs that define a cell differently from an earlier run; the other cells become known.

    Args:
        runs: by path, with the `definitions` of their cells that are not built in, if there are.
    """
    refused = []
    for path, run in sorted(runs.items()):
        try:
            learn(run.get("definitions"), path)
        except UserError as error:
            refused.append((path, str(error)))
    return refused


def merged(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The runs whose records another run has, because they were merged into it.

    Args:
        runs: by path, with their `sha256` and their `parts`, if they have them.
    """
    wholes = {part: path for path, run in runs.items() for part in run.get("parts", ())}
    into = {path: wholes.get(run.get("sha256"), path) for path, run in sorted(runs.items())}
    return [(path, f"it was merged into {whole}") for path, whole in into.items() if whole != path]


def _is_stale(kept: dict[str, Any] | None, stamp: Stamp) -> bool:
    return kept is None or kept["stamp"] != stamp


def _read_chunk(job: tuple[str, Sequence[tuple[str, Stamp]]]) -> Index:
    """Read some runs of a store, in any process."""
    folder, runs = job
    part = Index()
    for path, stamp in runs:
        try:
            if -2 in stamp:
                raise UserError("run.json or records.jsonl is not a plain file; expected no link")
            part.add(path, stamp, run_digest.read(Path(folder, path)))
        except UserError as error:
            part.runs[path] = {"stamp": stamp, "error": " ".join(str(error).split())}
    return part


def _load(path: Path) -> Index:
    """The stored index; an empty one if there is none, or if it has another version."""
    kept = None if path.is_symlink() else derived(path)
    if kept is None or kept["version"] != VERSION:
        return Index()
    return Index(kept["cells"], kept["facts"], kept["rosters"], kept["runs"])


def _keep(index: Index, file: Path) -> None:
    """Write the index in one step; if that fails, reading takes as long the next time."""
    content = {
        "version": VERSION,
        "cells": index.cells,
        "facts": index.facts,
        "rosters": index.rosters,
        "runs": index.runs,
    }
    keep_derived(file, content)
