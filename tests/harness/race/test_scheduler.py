"""A race whose workers and time are pretended: what is measured when the time does not suffice."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lstm_harness.model.case import Case
from lstm_harness.model.part import Part
from lstm_harness.model.plan import ONE_WAVE, Plan
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec, build, named_suite
from lstm_harness.race import scheduler
from lstm_harness.race.process import WorkerSettings
from lstm_harness.race.scheduler import Scheduler, Side
from lstm_harness.race.visit import Outcome
from lstm_harness.race.waves import FIRST_WAVE, Budget
from lstm_kernels import Problem

BACKENDS = ("cudnn", "triton", "aten")
BLOCKS = 3
CELL_S = 0.5
START_S = 4.0
SAMPLES_NS = (1000,)


class PretendedRace(Scheduler):
    """Every cell takes its share of the time, half a second at least; starting a block, four."""

    now_s = 0.0

    def begin(self, turns):
        PretendedRace.now_s += START_S

    def _group(self, group, shares_s, trial=None):
        PretendedRace.now_s += sum(max(CELL_S, share_s) for share_s in shares_s)
        return [self._measured(side, cell) for side, cell in group]

    def _measured(self, side, cell):
        place = (cell.block, cell.order, cell.backend, cell.case)
        return Outcome(cell, "ok", measured=Record(*place, "ok", samples_ns=SAMPLES_NS), side=side)


@pytest.fixture
def race(monkeypatch):
    """Race `sweep` within a budget, going on from records; returns its records and the time."""
    monkeypatch.setattr(scheduler, "Budget", partial(Budget, now=lambda: PretendedRace.now_s))

    def go(budget_s, finished=(), seed=0, axes=None, suite="sweep"):
        PretendedRace.now_s = 0.0
        settings = {"time_budget_s": budget_s, "seed": seed, "blocks": BLOCKS}
        spec = build(named_suite(suite), axes or {}, settings)
        spec = replace(spec, time_budget_s=budget_s)
        plan = Plan(BACKENDS, spec.cases("cuda"), BLOCKS, "cuda", skips={}, absent={})
        side = Side(plan, WorkerSettings("cuda", Path()), {}, finished=finished)
        made = PretendedRace([side], spec, oracle=None)
        records = [outcome.record() for outcome in made.outcomes()]
        return records, PretendedRace.now_s, plan

    return go


def measured(records):
    """The cases that have all their records."""
    identities = {record.identity for record in records}
    assert len(identities) == len(records)
    cases = dict.fromkeys(record.case for record in records)
    wanted = [(block, name) for block in range(BLOCKS) for name in BACKENDS]
    return [case for case in cases if all((*pair, case) in identities for pair in wanted)]


@pytest.mark.parametrize("budget_s", [200, 600, 1800])
def test_run_cut_by_its_budget_ends_near_it_with_whole_cases_only(race, budget_s):
    records, took_s, plan = race(budget_s)
    cases = measured(records)
    assert FIRST_WAVE <= len(cases) < len(plan.cases)
    assert len(records) == len(cases) * BLOCKS * len(BACKENDS)
    assert 0.5 * budget_s < took_s < 1.15 * budget_s


def test_more_time_measures_more_and_less_still_the_first_wave(race):
    counts = [len(measured(race(budget_s)[0])) for budget_s in (1, 200, 600, 1800)]
    assert counts[0] == FIRST_WAVE
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("seed", range(5))
def test_what_was_measured_reaches_over_the_grid(race, seed):
    problems = [case.problem for case in measured(race(300, seed=seed)[0])]
    assert {128, 2048} <= {p.hidden_size for p in problems}
    assert {32, 1024} <= {p.seq_len for p in problems}
    assert {1, 128} <= {p.batch for p in problems}
    assert {"float16", "float32"} <= {p.dtype for p in problems}


def test_resumed_again_and_again_it_measures_every_cell_once(race):
    axes = {"hidden": "128,512", "dtype": "float16"}
    finished, rounds = (), 0
    while True:
        records, _, plan = race(150, finished=finished, axes=axes)
        if not records:
            break
        finished, rounds = (*finished, *records), rounds + 1
    assert rounds > 2
    assert set(measured(finished)) == set(plan.cases)
    assert [record.order for record in finished] == list(range(plan.planned_records))


def test_killed_in_a_wave_the_next_run_fills_what_is_missing_first(race):
    records, _, _ = race(600)
    kept = tuple(records[:100])
    torn = set(dict.fromkeys(r.case for r in kept)) - set(measured(kept))
    assert torn
    more, _, _ = race(600, finished=kept)
    assert torn <= set(measured((*kept, *more)))
    assert more[0].order == 100


def test_small_grid_is_one_wave_whatever_it_takes(race):
    records, _, plan = race(1, suite="quick")
    assert len(plan.cases) <= ONE_WAVE
    assert set(measured(records)) == set(plan.cases)
    assert [record.block for record in records] == sorted(record.block for record in records)


def test_time_that_suffices_is_shared_by_every_cell(race):
    records, took_s, plan = race(20_000, axes={"dtype": "float16", "pass": "backward"})
    assert set(measured(records)) == set(plan.cases)
    assert 0.7 * 20_000 < took_s <= 20_000


def test_without_a_budget_every_cell_is_measured_in_one_wave(race):
    records, _, plan = race(None, axes={"dtype": "float16", "pass": "backward"})
    assert len(records) == plan.planned_records
    assert [record.block for record in records] == sorted(record.block for record in records)


def test_two_sides_measure_a_cell_in_turn_and_take_turns_at_being_first():
    cases = tuple(Case(Problem("lstm", steps, 1, 4, 4), "forward") for steps in (1, 2))
    plan = Plan(("naive", "aten"), cases, 4, "cpu", skips={}, absent={})
    less = replace(plan, backends=("naive",))
    settings = WorkerSettings("cpu", Path())
    sides = [Side(less, settings, {}), Side(plan, settings, {})]
    race = Scheduler(sides, Spec(grids=()), oracle=None)
    for block in range(4):
        groups = race.block_groups(block, cases)
        both = [group for group in groups if len(group) == 2]
        first = 0 if block % 2 == 0 else 1
        assert [[side for side, _ in group] for group in both] == [[first, 1 - first]] * 2
        assert all(one.case == other.case for (_, one), (_, other) in both)
        alone = [group for group in groups if len(group) == 1]
        assert [(side, cell.backend) for ((side, cell),) in alone] == [(1, "aten")] * 2


def test_two_sides_number_their_records_each_for_itself():
    cases = tuple(Case(Problem("lstm", steps, 1, 4, 4), "forward") for steps in (1, 2))
    plan = Plan(("naive", "aten"), cases, 2, "cpu", skips={}, absent={})
    settings = WorkerSettings("cpu", Path())
    sides = [Side(plan, settings, {}), Side(plan, settings, {})]
    outcomes = list(PretendedRace(sides, Spec(grids=()), oracle=None).outcomes())
    for number in (0, 1):
        orders = [one.record().order for one in outcomes if one.side == number]
        assert sorted(orders) == list(range(plan.planned_records))


def test_of_a_part_only_its_cells_are_measured():
    cases = tuple(Case(Problem("lstm", steps, 1, 4, 4), "forward") for steps in (1, 2, 3))
    plan = Plan(("naive", "aten"), cases, 4, "cpu", skips={}, absent={})
    side = Side(plan, WorkerSettings("cpu", Path()), {}, part=Part((2, 0), (1, 3)))
    records = [o.record() for o in PretendedRace([side], Spec(grids=()), oracle=None).outcomes()]
    wanted = {(b, name, cases[c]) for b in (1, 3) for name in plan.backends for c in (0, 2)}
    assert {record.identity for record in records} == wanted
    assert [record.order for record in records] == list(range(len(wanted)))
    assert side.cells_to_measure() == len(wanted)
    gone_on = replace(side, finished=tuple(records[:5]))
    race = PretendedRace([gone_on], Spec(grids=()), oracle=None)
    assert [outcome.record().identity for outcome in race.outcomes()] == [
        record.identity for record in records[5:]
    ]


def test_cases_with_more_blocks_than_others_get_them():
    cases = tuple(Case(Problem("lstm", steps, 1, 4, 4), "forward") for steps in (1, 2))
    plan = Plan(("naive", "aten"), cases, 2, "cpu", skips={}, absent={}).with_blocks([(1, 4)])
    side = Side(plan, WorkerSettings("cpu", Path()), {})
    race = PretendedRace([side], Spec(grids=()), oracle=None)
    found = [outcome.cell for outcome in race.outcomes()]
    assert len(found) == plan.planned_records == 14
    assert {cell.block for cell in found if cell.case == cases[0]} == {0, 1}
    assert {cell.block for cell in found if cell.case == cases[1]} == {0, 1, 2, 3, 4}
