"""Where workers' memory lies: another place in each block, the same one for the same seed."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lstm_harness.model.case import Case
from lstm_harness.model.plan import Plan, PlannedCell
from lstm_harness.model.spec import Spec
from lstm_harness.race import crew
from lstm_harness.race.layout import MOST_STEPS, STEP_BYTES, VARIABLE, drawn, padding
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.process import WorkerSettings, _environment
from lstm_harness.race.scheduler import Scheduler, Side
from lstm_kernels import Problem

BLOCKS = 6
CASE = Case(Problem("lstm", 1, 1, 4, 4), "forward")
# Where C's malloc and PyTorch put small things, in what was just forked.
TELLS = """
import ctypes, json, os, torch
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
sizes = (100, 600, 5_000, 20_000, 100_000)
places = [libc.malloc(size) % 4096 for size in sizes]
tensors = [torch.empty(size // 4) for size in sizes]
print(json.dumps([places, [each.data_ptr() % 4096 for each in tensors]]))
"""


def started(monkeypatch, seed):
    """The layout of every worker of a race of two sides, by block and side."""
    layouts = {}
    block = None

    def launch(self, backend):
        layouts.setdefault(block, []).append(self.settings.layout)
        return SimpleNamespace(name=backend, close=lambda: None, receive=lambda *asked: None)

    monkeypatch.setattr(crew.Crew, "_launch", launch)
    monkeypatch.setattr(Nursery, "possible", lambda: False)
    plan = Plan(("naive", "aten"), (CASE,), BLOCKS, "cpu", skips={}, absent={})
    sides = [Side(plan, WorkerSettings("cpu", Path()), {}) for _ in range(2)]
    race = Scheduler(sides, Spec(grids=(), seed=seed), oracle=None)
    for block in range(BLOCKS):
        names = [(side, name) for side in range(2) for name in plan.backends]
        race.begin([(side, PlannedCell(0, block, name, CASE, None)) for side, name in names])
        race.close()
    return layouts


def test_each_block_and_side_has_a_layout_of_its_own_and_a_seed_has_the_same_again(monkeypatch):
    layouts = started(monkeypatch, seed=7)
    # Workers of one side of a block: one layout.
    assert all(len(of) == 4 and len(set(of)) == 2 for of in layouts.values())
    assert len({size for of in layouts.values() for size in of}) == 2 * BLOCKS
    assert started(monkeypatch, seed=7) == layouts
    assert started(monkeypatch, seed=8) != layouts


def test_it_moves_by_cache_lines_over_some_pages():
    sizes = {drawn(0, block, side) for block in range(500) for side in range(2)}
    assert all(size % STEP_BYTES == 0 for size in sizes)
    assert STEP_BYTES <= min(sizes) < max(sizes) <= STEP_BYTES * MOST_STEPS
    assert len({size % 4096 for size in sizes}) == 4096 // STEP_BYTES


def test_a_worker_has_as_long_a_variable(tmp_path):
    assert len(_environment(WorkerSettings("cpu", tmp_path, layout=640))[VARIABLE]) == 640
    assert VARIABLE not in _environment(WorkerSettings("cpu", tmp_path))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Where a program that is forked with so much padding has its memory."""
    folder = tmp_path_factory.mktemp("layout")
    (folder / "tells.py").write_text(TELLS)
    forking = Nursery(threads=1)

    def go(size):
        variables = os.environ | {"PYTHONPATH": str(folder)} | padding(size)
        with (folder / "log").open("wb") as log:
            program = forking.start(["tells"], variables, log, folder)
        out = program.stdout.read().decode()
        assert program.wait(60) == 0, (folder / "log").read_text()
        program.stdin.close()
        program.stdout.close()
        return json.loads(out)

    yield go
    forking.close()


def test_it_moves_what_a_forked_worker_allocates_and_keeps_tensors_aligned(told):
    sizes = [drawn(0, block, 0) for block in range(4)]
    places = [told(size) for size in sizes]
    assert len({json.dumps(each) for each in places}) > 1
    assert told(sizes[0]) == places[0]
    assert all(address % 64 == 0 for _, tensors in places for address in tensors)
