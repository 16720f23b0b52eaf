"""Where workers' memory lies: another place in each block, the same one for the same seed."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import PATIENCE_S

from lstm_harness.model.case import Case
from lstm_harness.model.plan import Plan, PlannedCell
from lstm_harness.model.spec import Spec
from lstm_harness.race import crew
from lstm_harness.race.layout import LEAST_BYTES, STEP_BYTES, STEPS, VARIABLE, drawn, padding
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.process import WorkerSettings, _environment
from lstm_harness.race.scheduler import Scheduler, Side
from lstm_kernels import Problem

BLOCKS = 6
CASE = Case(Problem("lstm", 1, 1, 4, 4), "forward")
# Where in a page tensors of some sizes lie.
TELLS = """
import json, torch
tensors = [torch.empty(kib * 256) for kib in (32, 64, 100)]
print(json.dumps([each.data_ptr() % 4096 for each in tensors]))
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
    oracle = SimpleNamespace(start=lambda: None)
    race = Scheduler(sides, Spec(grids=(), seed=seed), oracle)
    for block in range(BLOCKS):
        names = [(side, name) for side in range(2) for name in plan.backends]
        race.begin([(side, PlannedCell(0, block, name, CASE, None)) for side, name in names])
        race.close()
    return layouts


def test_each_block_and_side_has_a_layout_of_its_own_and_a_seed_has_the_same_again(monkeypatch):
    layouts = started(monkeypatch, seed=7)
    for base, base_too, new, new_too in layouts.values():
        assert base == base_too != new == new_too
    assert len({tuple(of) for of in layouts.values()}) == BLOCKS
    assert started(monkeypatch, seed=7) == layouts
    assert started(monkeypatch, seed=8) != layouts


def test_it_moves_by_cache_lines_over_some_pages():
    sizes = {drawn(0, block, side) for block in range(500) for side in range(2)}
    assert all(size % STEP_BYTES == 0 for size in sizes)
    assert LEAST_BYTES <= min(sizes) < max(sizes) < LEAST_BYTES + STEP_BYTES * STEPS
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
        assert program.wait(PATIENCE_S) == 0, (folder / "log").read_text()
        program.stdin.close()
        program.stdout.close()
        return json.loads(out)

    yield go
    forking.close()


def test_it_moves_every_large_tensor_of_a_forked_worker_and_keeps_it_aligned(told):
    sizes = [LEAST_BYTES + STEP_BYTES * steps for steps in (0, 1, 20, 50)]
    places = [told(size) for size in sizes]
    for tensor in zip(*places, strict=True):
        assert len(set(tensor)) == len(sizes)
        assert all(place % 64 == 0 for place in tensor)
    assert told(sizes[0]) == places[0]
