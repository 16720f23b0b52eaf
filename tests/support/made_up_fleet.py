"""A fleet that measures nothing: what its tasks hand over is made up, and they end at random.

Tasks are lost, end twice or late, hand over spoilt files, or are refused by a place. A coordinator
is killed before or after any of its writes. The fleet of a pair measures two sides in each task.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import synthetic_runs

from lstm_harness.fleet import coordinator
from lstm_harness.fleet.coordinator import PLANNING, FleetWatch
from lstm_harness.fleet.ledger import State
from lstm_harness.fleet.task import Ended, Task, manifests_in
from lstm_harness.model.case import Case
from lstm_harness.model.errors import Exit
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import Spec
from lstm_harness.race.pairs import NAMES
from lstm_harness.store import run_folder

BACKENDS = ("naive", "aten")
CASES = tuple(synthetic_runs.case(seq_len=steps) for steps in (2, 3, 4))
BLOCKS = 2
SPEC = Spec(grids=({"seq-len": (2, 3, 4)},), suite="made-up", blocks=BLOCKS)
PLACES = ("host-a", "host-b", "host-c")
ODD = "odd-host"
# More than a coordinator changes the disk if nothing goes wrong.
MOST_STEPS = 150


class Killed(BaseException):
    """The coordinator is gone: it does nothing more."""


def manifest(run_id: str, blocks: int = BLOCKS, cases: Sequence[Case] = CASES) -> dict[str, Any]:
    """The run.json that a plan comes with."""
    records = [
        synthetic_runs.record(backend, block=block, of=case)
        for block in range(blocks)
        for case in cases
        for backend in BACKENDS
    ]
    own = {"id": run_id, "spec": replace(SPEC, blocks=blocks).to_dict(), "end": None}
    return json.loads(json.dumps(synthetic_runs.manifest(records, **own)))


def measured(
    task: Task,
    machine: str,
    attempt: int,
    time_ns: Callable[[int, Case], int] | None = None,
) -> dict[str, bytes]:
    """What the task of a part hands over.

    Args:
        time_ns: of a case in a block; the samples name the attempt where it is not given.
    """
    time_ns = time_ns or (lambda block, case: attempt + 1)
    (planned,) = manifests_in({**task.shared, **task.order})
    return _measured(task, planned, machine, time_ns)


def both_measured(
    task: Task, machine: str, time_ns: Callable[[str, int, Case], int]
) -> dict[str, bytes]:
    """What the task of a part of two sides hands over.

    Args:
        time_ns: of a case in a block of a side.
    """
    return {
        f"{side}/{name}": content
        for side, planned in zip(NAMES, manifests_in({**task.shared, **task.order}), strict=True)
        for name, content in _measured(task, planned, machine, partial(time_ns, side)).items()
    }


def _measured(
    task: Task, planned: Mapping[str, Any], machine: str, time_ns: Callable[[int, Case], int]
) -> dict[str, bytes]:
    """The run of a task's part."""
    part = Part(**_tuples(task.order["part"]))
    plan = Plan.from_dict(planned["plan"])
    cells = sorted(plan.cells(part), key=lambda cell: (cell[0], plan.cases.index(cell[1])))
    records = [
        synthetic_runs.record(
            backend, (time_ns(block, case),) * 3, block=block, of=case, machine=machine
        )
        for block, case in cells
        for backend in plan.backends
    ]
    lines = [
        json.dumps(replace(record, order=order).to_dict()) for order, record in enumerate(records)
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    own = {
        "id": task.name,
        "part": task.order["part"],
        "environment": planned["environment"] | {"host": machine},
        "end": "2026-01-01T12:02:30+00:00",
        "records_sha256": sha256(content).hexdigest(),
    }
    return {"run.json": json.dumps(planned | own).encode(), "records.jsonl": content}


def spoilt(rng: random.Random, handed: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same files, damaged in one of the ways that must be found."""
    run, lines = json.loads(handed["run.json"]), handed["records.jsonl"].splitlines(keepends=True)
    ways = {
        "torn": {"records.jsonl": b"".join(lines)[:-5]},
        "partial": _closed(run, lines[:-1]),
        "open": {"run.json": json.dumps(run | {"records_sha256": None}).encode()},
        "edited": {"records.jsonl": b"".join([*lines[:-1], lines[-1].replace(b"e-05", b"e-04")])},
        "two machines": _closed(run, [*lines[:-1], _elsewhere(lines[-1])]),
        "another run": {"run.json": json.dumps(run | {"kernels_digest": "ffff"}).encode()},
        "no manifest": {"run.json": b""},
        "another part": {"run.json": _moved(run)},
    }
    return {**handed, **ways[rng.choice(list(ways))]}


def _closed(run: dict[str, Any], lines: Sequence[bytes]) -> dict[str, bytes]:
    content = b"".join(lines)
    digest = sha256(content).hexdigest()
    closed = json.dumps(run | {"records_sha256": digest}).encode()
    return {"run.json": closed, "records.jsonl": content}


def _elsewhere(line: bytes) -> bytes:
    return json.dumps(json.loads(line) | {"machine": "elsewhere"}).encode() + b"\n"


def _moved(run: dict[str, Any]) -> bytes:
    part = run["part"] | {"blocks": [(run["part"]["blocks"][0] + 1) % BLOCKS]}
    return json.dumps(run | {"part": part}).encode()


def _tuples(stored: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(numbers) for name, numbers in stored.items()}


class MadeUpFleet:
    """An engine without devices. Its tasks may outlive a coordinator, as jobs in a queue do.

    It loses a task at most three times, which a coordinator tolerates.
    """

    def __init__(self, rng: random.Random, most_losses: int = 3) -> None:
        self.rng = rng
        self.flying: list[Ended] = []
        self.attempts = 0
        self.avoided: set[str] = set()
        self._losses: dict[str, int] = {}
        self._most_losses = most_losses

    def submit(self, tasks: Sequence[Task], avoiding: Collection[str] = ()) -> None:
        self.avoided |= set(avoiding)
        for task in tasks:
            self.flying += self._endings(task)

    def poll(self) -> list[Ended]:
        self.rng.shuffle(self.flying)
        some = self.rng.randint(0, min(3, len(self.flying)))
        over, self.flying = self.flying[:some], self.flying[some:]
        return over

    def cancel(self) -> None:
        if self.rng.random() < 0.5:
            self.flying.clear()

    def _endings(self, task: Task) -> Iterator[Ended]:
        """How a task ends, once or more often; a result comes only if the last one is one."""
        place = self.rng.choice(PLACES)
        if task.name == PLANNING:
            yield from self._or_lost(task, Ended(task.name, self._plan(task), place=place))
            return
        if ODD not in self.avoided and self.rng.random() < 0.2:
            yield Ended(task.name, code=Exit.USAGE, said="another gpu", place=ODD)
            return
        whole = Ended(task.name, self._files(task, place), place=place)
        if self.rng.random() < 0.2:
            yield Ended(task.name, self._files(task, place), place=place)
        yield from self._or_lost(task, whole)

    def _or_lost(self, task: Task, whole: Ended) -> Iterator[Ended]:
        lost = self._losses.get(task.name, 0)
        if lost == self._most_losses or self.rng.random() < 0.6:
            yield whole
            return
        self._losses[task.name] = lost + 1
        if self.rng.random() < 0.5:
            yield Ended(task.name, code=Exit.MEASURING_FAILED, said="its node is gone")
            if self.rng.random() < 0.5:
                yield whole  # late: it was not lost after all
        elif task.name != PLANNING:
            yield replace(whole, files=self._spoilt(whole.files))
        else:
            yield replace(whole, files={"run.json": b"{"})

    def _plan(self, task: Task) -> dict[str, bytes]:
        return {"run.json": json.dumps(manifest(task.order["id"])).encode()}

    def _files(self, task: Task, place: str) -> dict[str, bytes]:
        self.attempts += 1
        return measured(task, place, self.attempts)

    def _spoilt(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        return spoilt(self.rng, files)


class MadeUpPair(MadeUpFleet):
    """The same for a task of two sides, whose times are those of the attempt."""

    def __init__(self, rng: random.Random, blocks: int, most_losses: int = 3) -> None:
        super().__init__(rng, most_losses)
        self._blocks = blocks

    def _plan(self, task: Task) -> dict[str, bytes]:
        assert [each["name"] for each in task.order["pair"]["revisions"]] == [
            "main",
            "working tree",
        ]
        return {
            f"{side}/run.json": json.dumps(
                manifest(side, self._blocks) | {"pair": "a pair", "label": f"{side}: {side}"}
            ).encode()
            for side in NAMES
        }

    def _files(self, task: Task, place: str) -> dict[str, bytes]:
        self.attempts += 1
        return both_measured(task, place, lambda side, block, case: 1000 + self.attempts)

    def _spoilt(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        side = self.rng.choice(NAMES)
        own = {name: files[f"{side}/{name}"] for name in ("run.json", "records.jsonl")}
        made = spoilt(self.rng, own)
        if self.rng.random() < 0.2:  # both are whole, and of two devices
            made = moved(own)
        return {**files, **{f"{side}/{name}": content for name, content in made.items()}}


def moved(handed: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same run, as if another machine had measured it."""
    lines = map(_elsewhere, handed["records.jsonl"].splitlines(keepends=True))
    return _closed(json.loads(handed["run.json"]), list(lines))


def carried_out(
    folder: Path,
    fleet: MadeUpFleet,
    rng: random.Random,
    kills: int,
    state: State,
    roots: Sequence[Path] = (),
) -> int:
    """Have a plan measured by coordinators that are killed; returns how many there were."""
    quiet = FleetWatch()
    for coordinators in range(1, 100):
        steps = rng.randrange(MOST_STEPS) if coordinators <= kills else None
        begun = (folder / state.kind.manifest).exists() or (folder / run_folder.MANIFEST).exists()
        try:
            with killed_after(steps):
                if begun:
                    coordinator.resume(folder, None, lambda *_: fleet, quiet, state.kind)
                else:
                    coordinator.run(state, folder, lambda *_: fleet, quiet, roots)
        except Killed:
            continue
        return coordinators
    raise AssertionError("no coordinator ended")


@contextmanager
def killed_after(steps: int | None) -> Iterator[None]:
    """Kill the coordinator, before or after one of its changes to the disk; None for never.

    What a dead program's `finally` would do is not done.
    """
    left = [steps]

    def mortal(change: Any) -> Any:
        def changed(*given: Any, **named: Any) -> Any:
            _step(left)
            done = change(*given, **named)
            _step(left)
            return done

        return changed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", mortal(shutil.rmtree))
        for name in ("rename", "replace", "unlink", "mkdir"):
            patch.setattr(Path, name, mortal(getattr(Path, name)))
        patch.setattr(os, "fsync", lambda file: None)
        yield


def _step(left: list[int | None]) -> None:
    if left[0] is None:
        return
    if left[0] <= 0:
        raise Killed
    left[0] -= 1
