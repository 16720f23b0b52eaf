"""What verdicts promise, on simulated grids with known truth; docs/verdicts.md has the tables."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from simulated_grids import FLAGS, Grid, race, sides, template

from lstm_harness.judge.verdict import Kind, Rules, judge


def sizes(few, many):
    """How many grids: few in every run of the tests, many among the slow proofs."""
    return pytest.mark.parametrize("grids", [few, pytest.param(many, marks=pytest.mark.slow)])


@sizes(40, 400)
@pytest.mark.parametrize(("paired", "blocks"), [(True, 8), (False, 5)])
def test_grids_of_a_against_a_raise_almost_no_alarm(paired, blocks, grids):
    """At most 1% of grids and 0.1% of cases."""
    found = race(Grid(paired=paired, blocks=blocks), grids, 1)
    assert found.others.total() == 100 * grids
    assert found.together == ({Kind.SAME: grids} if paired else {})
    assert found.flagged_grids <= grids / 100
    assert found.flagged <= grids / 10


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("blocks", [3, 8])
@sizes(20, 100)
def test_noisy_spells_raise_no_alarm(paired, blocks, grids):
    """Every fifth block is ten times as noisy."""
    found = race(Grid(paired=paired, blocks=blocks, spells=True), grids, 2)
    assert found.flagged_grids <= 1
    assert found.flagged <= grids / 10


@sizes(20, 100)
@pytest.mark.parametrize("paired", [True, False])
def test_a_tenth_slower_in_one_case_of_100_is_found(paired, grids):
    """At least 95 times in 100, with 8 blocks, and nobody else is accused."""
    found = race(Grid(paired=paired, slow=1, factor=1.1), grids, 3)
    assert found.slow[Kind.REGRESSION] >= 0.95 * grids
    assert found.slow[Kind.SAME] == found.slow[Kind.IMPROVEMENT] == 0
    assert found.flagged_grids <= 1


@sizes(10, 40)
def test_looking_twice_finds_it_with_5_blocks_and_accuses_nobody_else(grids):
    """As `ab` does, whose second look doubles the blocks of what the first did not settle."""
    found = race(Grid(blocks=5, slow=1, factor=1.1, twice=True), grids, 7)
    assert found.slow[Kind.REGRESSION] >= 0.95 * grids
    assert found.slow[Kind.SAME] == 0
    assert found.flagged_grids == 0


@sizes(10, 40)
def test_a_slower_backend_is_found_in_noise_that_hides_most_of_its_cases(grids):
    """20 cases, blocks that spread by 15%, as on a machine that others use."""
    noisy = Grid(cases=20, blocks=6, between=0.15, within=0.075, slow=20, twice=True)
    slower = race(replace(noisy, factor=1.15), grids, 8)
    assert slower.together[Kind.REGRESSION] >= 0.9 * grids
    assert slower.slow[Kind.REGRESSION] < slower.slow.total() / 4
    still = race(noisy, 2 * grids, 9)
    assert sum(still.together[kind] for kind in FLAGS) == 0


@pytest.mark.parametrize("blocks", [3, 5, 8])
@pytest.mark.parametrize("paired", [True, False])
def test_five_percent_beyond_the_margin_is_never_the_same(paired, blocks):
    grid = Grid(paired=paired, blocks=blocks, slow=50, factor=1.05 * 1.05)
    slow = race(grid, 10, 4).slow
    assert slow.total() == 500
    assert slow[Kind.SAME] == slow[Kind.IMPROVEMENT] == 0


@pytest.mark.parametrize("between", [0.01, 0.05])
@pytest.mark.parametrize("paired", [True, False])
def test_what_got_faster_is_never_called_slower(paired, between):
    grid = Grid(paired=paired, between=between, within=between / 2, slow=50, factor=0.9)
    faster = race(grid, 10, 5).slow
    assert faster[Kind.REGRESSION] == 0
    assert faster[Kind.IMPROVEMENT] > (450 if between == 0.01 else 0)


def test_pooling_samples_as_if_they_were_blocks_would_accuse_noise():
    """The simulation has the trap in it: medians of too few processes, taken for many."""
    rng = np.random.default_rng(6)
    base, new = sides(Grid(blocks=2, paired=False), rng, template(100))
    repeated = [
        side.assign(
            block_ids=[tuple(range(40))] * 100,
            block_medians_ns=[times * 20 for times in side["block_medians_ns"]],
            block_efforts=[(float("nan"),) * 40] * 100,
        )
        for side in (base, new)
    ]
    strict = Rules(margin=0.001, floor_ns=0.0)
    kinds = Counter(verdict.kind for verdict in judge(*repeated, strict))
    assert sum(kinds[kind] for kind in FLAGS) > 50


# Eight devices whose levels spread by 3%, one of them slower by a fifth; two blocks on each.
FLEET = Grid(cases=20, blocks=16, margin=0.02, machines=8, machine_spread=0.03, slow_machine=1.2)


@sizes(40, 400)
@pytest.mark.parametrize("paired", [True, False])
def test_a_fleet_with_a_slow_device_is_silent_on_a_against_a(paired, grids):
    found = race(replace(FLEET, paired=paired), grids, 11)
    assert found.others.total() == 20 * grids
    assert found.flagged_grids <= grids / 100
    assert sum(found.together[kind] for kind in FLAGS) == 0


@sizes(20, 100)
@pytest.mark.parametrize("paired", [True, False])
def test_a_fleet_with_a_slow_device_finds_five_percent(paired, grids):
    """In one case of 20, with a margin of 2%: at the margin itself nothing can be proven."""
    found = race(replace(FLEET, paired=paired, slow=1, factor=1.05), grids, 12)
    assert found.slow[Kind.REGRESSION] >= 0.95 * grids
    assert found.slow[Kind.SAME] == found.slow[Kind.IMPROVEMENT] == 0
    assert found.flagged_grids <= max(1, grids / 100)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("machines", [3, 8])
def test_one_odd_device_accuses_nobody(machines, paired):
    """It alone is slower by a fifth on the new side, in every case."""
    odd = replace(
        FLEET, blocks=8 * machines, machines=machines, paired=paired, odd_machine=1.2, margin=0.01
    )
    found = race(odd, 20, 13)
    assert sum(found.together[kind] for kind in FLAGS) == 0
    assert found.flagged_grids <= 1
    assert found.others[Kind.SAME] == 0


def test_blocks_as_if_they_were_devices_would_accuse_for_an_odd_one():
    """The trap is in the simulation: the same grids, judged as if one machine had measured all."""
    odd = replace(FLEET, blocks=24, machines=3, odd_machine=1.2, margin=0.01, between=0.002)
    rng, empty = np.random.default_rng(14), template(odd.cases)
    both = [side.assign(block_machines=[()] * odd.cases) for side in sides(odd, rng, empty)]
    kinds = Counter(verdict.kind for verdict in judge(*both, Rules(margin=0.01, paired=True)))
    assert sum(kinds[kind] for kind in FLAGS) > 10
