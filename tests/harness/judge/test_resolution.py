"""What a gate says it can see, held against blocks that are simulated with that spread."""

import math
import random
from dataclasses import replace

import pytest
from synthetic_runs import blocks

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.resolution import MOST_BLOCKS, blocks_to_see, resolution, slowdown_seen
from lstm_harness.judge.verdict import Kind, Rules, judge, key_of

NS = 1e6
TRIALS = 200


def simulated(count, spread, seed, factor=1.0, rules=None):
    """The verdict on two sides whose blocks spread so, the new one slower by a factor."""
    rng = random.Random(seed)
    sides = (
        summarise(
            blocks("naive", [int(NS * f * rng.lognormvariate(0, spread)) for _ in range(count)])
        )
        for f in (1.0, factor)
    )
    (verdict,) = judge(*sides, rules or Rules())
    return verdict


def undecided(count, spread, rules=None):
    seeds = (simulated(count, spread, seed, rules=rules) for seed in range(1000))
    return next(v for v in seeds if v.kind == Kind.INCONCLUSIVE and math.isfinite(v.q))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("count", [5, 8])
def test_what_is_called_seen_is_found_that_often(paired, count):
    """By the true spread, which a single comparison does not know."""
    rules, spread = Rules(paired=paired), 0.03
    known = replace(simulated(count, spread, 0, rules=rules), df=2.0 * count - 2)
    known = replace(known, df=count - 1.0) if paired else known
    least = slowdown_seen(known, rules, 1, spread * math.sqrt(2 / count))
    found = [simulated(count, spread, seed, 1 + least, rules).kind for seed in range(TRIALS)]
    assert found.count(Kind.REGRESSION) >= 0.9 * TRIALS


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("spread", [0.02, 0.06])
def test_with_as_many_blocks_the_margin_is_seen(paired, spread):
    rules = Rules(paired=paired)
    needed = blocks_to_see(0.05, spread * math.sqrt(2), paired)
    same = [simulated(needed, spread, seed, rules=rules).kind for seed in range(TRIALS)]
    assert same.count(Kind.SAME) >= 0.9 * TRIALS
    fewer = [simulated(needed // 2, spread, seed, rules=rules).kind for seed in range(TRIALS)]
    assert fewer.count(Kind.SAME) < same.count(Kind.SAME)


def test_more_noise_sees_less_and_takes_more_blocks_until_none_are_enough():
    needed = [blocks_to_see(0.05, spread, True) for spread in (0.01, 0.05, 0.1, 1.0)]
    assert needed[:3] == sorted(needed[:3])
    assert needed[0] >= 3
    assert needed[3] is None
    assert blocks_to_see(0.05, 0.0, True) == 3


def test_the_middle_one_of_the_cases_is_told():
    rules = Rules()
    calm, middle, wild = (undecided(5, spread) for spread in (0.04, 0.05, 0.6))
    told = resolution([wild, calm, middle], rules, 3, {})
    assert told.slowdown == slowdown_seen(middle, rules, 3)
    assert told.have == 5
    assert told.wants == told.blocks > 5
    alone = resolution([wild], rules, 3, {})
    assert alone.slowdown > told.slowdown
    assert alone.blocks is None or alone.blocks <= MOST_BLOCKS
    assert resolution([], rules, 3, {}) is None


def test_selftest_tells_of_more_noise_than_a_lucky_run_shows():
    rules = Rules()
    lucky = undecided(5, 0.05)
    own = resolution([lucky], rules, 1, {})
    assert resolution([lucky], rules, 1, {key_of(lucky): 0.001}) == own
    known = resolution([lucky], rules, 1, {key_of(lucky): 0.5})
    assert known.slowdown > own.slowdown
    # What it kept is of blocks that are not paired.
    paired = undecided(5, 0.05, Rules(paired=True))
    of_pairs = [
        resolution([paired], Rules(paired=True), 1, kept) for kept in ({}, {key_of(paired): 9})
    ]
    assert of_pairs[0] == of_pairs[1]


def test_with_too_few_blocks_selftest_alone_can_tell_how_many_it_takes():
    few = simulated(2, 0.02, 0)
    assert few.lacks_blocks
    assert resolution([few], Rules(), 1, {}) is None
    known = resolution([few], Rules(), 1, {key_of(few): 0.02})
    assert known.slowdown == math.inf
    assert known.wants == blocks_to_see(0.05, 0.02 * math.sqrt(2), False)


def test_doubt_is_not_mended_by_blocks():
    wild = [summarise(blocks("naive", [int(NS)] * 5, marked=marked)) for marked in ((), (0, 1))]
    (disturbed,) = judge(*wild, Rules())
    assert disturbed.kind == Kind.INCONCLUSIVE
    assert resolution([disturbed], Rules(), 1, {key_of(disturbed): 0.1}) is None
