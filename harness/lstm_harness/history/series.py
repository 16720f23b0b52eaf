"""A store of runs as series: one for each (backend, case) and machine, with its changes marked.

A series' points are the medians of runs, in order of start. It is cut where the environment
changed, so that no level is compared across torch versions, drivers, threads or settings, and
searched for steps within each part (`change_points`). A baseline is never read or moved.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from lstm_harness.history.change_points import change_points
from lstm_harness.history.index import Index, strange
from lstm_harness.model.case import Case

STEP, ENVIRONMENT = "step", "environment"


@dataclass(frozen=True)
class RunInfo:
    """What a reader needs to find a run: its place in the store, its id, start and commit.

    `lacks` is how many of its planned records are missing.
    """

    path: str
    id: str
    start: str
    commit: str
    lacks: int = 0


@dataclass(frozen=True)
class Change:
    """A new level that begins at point `at` of a series.

    `kind` is `step`, or `environment` with what changed in `what`. `before_ns` and `after_ns` are
    the medians of the level before and of this one.
    """

    kind: str
    at: int
    before_ns: float
    after_ns: float
    what: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The new level over the old one."""
        return self.after_ns / self.before_ns


@dataclass(frozen=True)
class Series:
    """The medians of one (backend, case) on one machine; `runs` are places in `History.runs`.

    `failed` are runs in which the cell has no time, and `last_status` is that of its newest run.
    """

    backend: str
    case: Case
    machine: Mapping[str, Any]
    runs: tuple[int, ...]
    times_ns: tuple[float, ...]
    changes: tuple[Change, ...]
    failed: tuple[int, ...]
    last_status: str

    @property
    def level_ns(self) -> float:
        """The median of the runs since the last change."""
        return median(self.times_ns[self.changes[-1].at if self.changes else 0 :])

    @property
    def since(self) -> float:
        """The last run over the level since the last change."""
        return self.times_ns[-1] / self.level_ns

    @property
    def last_step(self) -> Change | None:
        """The newest step, environment changes left aside."""
        return next((c for c in reversed(self.changes) if c.kind == STEP), None)


@dataclass(frozen=True)
class History:
    """A store's history: runs in order of start, series worst first, and what was left out."""

    runs: tuple[RunInfo, ...]
    series: tuple[Series, ...]
    left_out: tuple[tuple[str, str], ...]
    cases: tuple[str, ...]


@dataclass
class _Points:
    """One series while it is gathered: runs, times, the environment of each, failures."""

    runs: list[int]
    times: list[float]
    environments: list[int]
    failed: list[int]
    last_status: str = "ok"


Wanted = Callable[[str, Case], bool]


def gather(index: Index, chosen: Wanted = lambda backend, case: True) -> History:
    """The history of the chosen cells of a store."""
    paths, left_out = _in_order(index)
    cells = [(backend, Case.from_dict(json.loads(text))) for backend, text in index.cells]
    wanted = [chosen(backend, case) for backend, case in cells]
    picked = [
        [(at, cell) for at, cell in enumerate(roster) if wanted[cell]] for roster in index.rosters
    ]
    machines, environments = _facts(index)
    gathered: dict[tuple[int, str], _Points] = {}
    for place, path in enumerate(paths):
        run = index.runs[path]
        machine = machines[run["facts"]]
        for at, cell in picked[run["roster"]]:
            key = cell, machine
            if key not in gathered:
                gathered[key] = _Points([], [], [], [])
            _take(gathered[key], place, run["times"][at], run["facts"])
    timed = {key: points for key, points in gathered.items() if points.times}
    series = [
        Series(
            *cells[cell],
            machine=json.loads(machine),
            runs=tuple(points.runs),
            times_ns=tuple(points.times),
            changes=_changes(points, environments),
            failed=tuple(points.failed),
            last_status=points.last_status,
        )
        for (cell, machine), points in timed.items()
    ]
    infos = [
        RunInfo(path, *(index.runs[path][n] for n in ("id", "start", "commit", "lacks")))
        for path in paths
    ]
    labels = dict.fromkeys(case.label() for _, case in cells)
    return History(tuple(infos), tuple(sorted(series, key=_badness)), left_out, tuple(labels))


def matcher(text: str | None, backends: Sequence[str]) -> Wanted:
    """Which cells `--case` and `--backend` choose: every word of the text must be in the label.

    The words of a label are its sizes and names, as in `lstm T32 B1 H128 float32 forward`; `cpu`
    and `cuda` are words too.
    """
    words = set((text or "").split())
    return lambda backend, case: (
        (not backends or backend in backends) and words <= {*case.label().split(), case.device}
    )


def _in_order(index: Index) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """The paths of readable runs by start, and every other path with why it is left out."""
    left_out = [(path, run["error"]) for path, run in index.runs.items() if "error" in run]
    left_out += strange(index.runs)
    refused = {path for path, _ in left_out}
    kept: dict[tuple[Any, ...], str] = {}
    readable = [path for path in index.runs if path not in refused]
    # If there is a run and a copy made before it ended, the complete one comes first.
    for path in sorted(readable, key=lambda p: (-len(index.runs[p]["times"]), p)):
        run = index.runs[path]
        identity = run["start"], run["id"], run["facts"]
        if identity in kept:
            left_out.append((path, f"it is a copy of {kept[identity]}"))
        else:
            kept[identity] = path
    return [kept[identity] for identity in sorted(kept)], tuple(sorted(left_out))


def _facts(index: Index) -> tuple[list[str], list[dict[str, Any]]]:
    """The machine and the environment of every kind of run."""
    return [fact[0] for fact in index.facts], [json.loads(fact[1]) for fact in index.facts]


def _take(points: _Points, run: int, time: float | str, environment: int) -> None:
    if isinstance(time, str):
        points.failed.append(run)
        points.last_status = time
        return
    points.runs.append(run)
    points.times.append(time)
    points.environments.append(environment)
    points.last_status = "ok"


def _environment_cuts(
    points: _Points, environments: Sequence[Mapping[str, Any]]
) -> dict[int, tuple[str, ...]]:
    """Where a series' environment changed, and what changed."""
    cuts = {}
    for at, (old, new) in enumerate(itertools.pairwise(points.environments), start=1):
        what = differences(environments[old], environments[new]) if old != new else ()
        if what:
            cuts[at] = what
    return cuts


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two environments: `torch 2.12.0 -> 2.13.0`."""
    names = dict.fromkeys((*old, *new))
    return tuple(
        f"{name} {_shown(old.get(name))} -> {_shown(new.get(name))}"
        for name in names
        if old.get(name) != new.get(name)
    )


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _between(cuts: Iterable[int], count: int) -> list[tuple[int, int]]:
    edges = [0, *cuts, count]
    return list(itertools.pairwise(edges))


def _changes(points: _Points, environments: Sequence[Mapping[str, Any]]) -> tuple[Change, ...]:
    """The changes of one series: its environment's, and between them the steps."""
    cuts = _environment_cuts(points, environments)
    places: dict[int, tuple[str, ...] | None] = {}
    for low, high in _between(cuts, len(points.times)):
        if low:
            places[low] = cuts[low]
        steps = change_points(np.array(points.times[low:high]))
        places |= {low + step: None for step in steps}
    edges = _between(places, len(points.times))
    levels = [median(points.times[low:high]) for low, high in edges]
    return tuple(
        Change(STEP if what is None else ENVIRONMENT, at, before, after, what or ())
        for (at, what), (before, after) in zip(
            places.items(), itertools.pairwise(levels), strict=True
        )
    )


def _badness(series: Series) -> tuple[Any, ...]:
    """Order: no time in its newest run, then the largest step to slower, then later drift."""
    step = series.last_step
    return (
        series.last_status == "ok",
        -(step.ratio if step else 1.0),
        -series.since,
        series.backend,
        series.case.label(),
        json.dumps(series.machine),
    )
