import math
from statistics import mean

import pytest
from simulated_fleet import Fleet, reached
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.precision import MOST_GROWTH, blocks_to_add, precisions
from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import MOST_BLOCKS

CASES = tuple(case(seq_len=steps) for steps in (8, 16, 32))
QUIET, NOISY, WILD = (
    [10_000_000 + factor * step for step in (-3, 1, 2, 0)] for factor in (1_000, 100_000, 400_000)
)


def plan(counts=(4, 4, 4), backends=("naive",)):
    made = Plan(backends, CASES, max(counts), "cpu", {}, {})
    return (
        made
        if len(set(counts)) == 1
        else made.with_blocks([(c, n - 1) for c, n in enumerate(counts)])
    )


def records(*times, backend="naive"):
    return [
        each
        for one, medians in zip(CASES, times, strict=False)
        for each in blocks(backend, medians, of=one)
    ]


def test_a_case_is_as_precise_as_its_widest_backend():
    both = [*records(QUIET), *records(NOISY, backend="aten")]
    (row,) = [r for r in plain_rows(summarise(both)) if r["backend"] == "aten"]
    (found,) = precisions(both).values()
    assert found.blocks == 4
    assert (1 + found.half_width) ** 2 == pytest.approx(row["high_ns"] / row["low_ns"])


def test_what_is_not_known_is_infinitely_wide_and_what_failed_is_left_out():
    few = records(QUIET[:2])
    assert precisions(few)[CASES[0].label()].half_width == math.inf
    failed = [record(status="crashed", of=CASES[0])]
    assert precisions(failed) == {}
    assert blocks_to_add(plan(), failed, 0.01, 100) == ()


def test_blocks_go_where_the_interval_is_widest():
    added = blocks_to_add(plan(), records(QUIET, NOISY, WILD), 0.001, 100)
    assert added[0] == (2, 4)
    assert set(added) == {(2, 4), (2, 5), (1, 4), (1, 5)}
    assert blocks_to_add(plan(), records(QUIET, NOISY, WILD), 0.001, 1) == ((2, 4),)
    assert blocks_to_add(plan(), records(QUIET, NOISY, WILD), 0.9, 100) == ()
    assert blocks_to_add(plan(), records(QUIET, NOISY, WILD), 0.001, 0) == ()


def test_no_more_than_it_takes_are_added():
    """Twenty blocks that need about two more get them, not half as many again."""
    times = NOISY * 5
    (now,) = precisions(records(times)).values()
    added = blocks_to_add(plan((20, 20, 20)), records(times), now.after(2), 100)
    assert added == ((0, 20), (0, 21))
    assert now.after(0) == now.half_width > now.after(1) > now.after(2)


def test_a_case_gets_at_most_half_as_many_more_at_a_time():
    added = blocks_to_add(plan((20, 20, 20)), records(WILD * 5), 0.0001, 100)
    assert len(added) == 20 * MOST_GROWTH


def test_a_case_with_too_few_blocks_gets_three():
    added = blocks_to_add(plan((1, 1, 1)), records(QUIET[:1]), 0.01, 100)
    assert added == ((0, 1), (0, 2))


def test_blocks_are_numbered_from_those_of_the_plan():
    """Also where some of its own were lost."""
    grown = plan((4, 7, 4))
    added = blocks_to_add(grown, records(QUIET, NOISY), 0.001, 100)
    assert added == ((1, 7), (1, 8))
    most = plan((MOST_BLOCKS,) * 3)
    assert blocks_to_add(most, records(NOISY), 0.001, 100) == ()


def test_what_machines_differ_by_needs_no_blocks():
    """Blocks that agree on each machine, a fifth apart from machine to machine."""
    level = {"a": 1.0, "b": 1.03, "c": 1.2}
    made = [
        record(
            "naive",
            (int(10_000_000 * level[machine] * (1 + 1e-4 * block)),),
            block=block,
            of=one,
            machine=machine,
        )
        for one in CASES
        for block, machine in enumerate("abcabc")
    ]
    assert blocks_to_add(plan((6, 6, 6)), made, 0.01, 100) == ()
    alone = [each for each in made if each.case == CASES[0]][:3]
    assert blocks_to_add(plan((3, 3, 3)), alone, 0.01, 100) == ((0, 3),)


@pytest.mark.parametrize(
    ("grids", "cases"), [(6, 30), pytest.param(100, 40, marks=pytest.mark.slow)]
)
def test_a_fleet_reaches_what_is_asked_in_few_more_blocks_than_it_takes(grids, cases):
    """Eight devices, 3% apart, one slower by a fifth: within 1.2 times the fewest blocks."""
    found = [reached(Fleet(cases=cases), seed) for seed in range(grids)]
    assert max(each.widest for each in found) <= 0.01
    assert sum(e.blocks for e in found) <= 1.2 * sum(e.fewest for e in found)
    assert mean(each.covered for each in found) >= 0.85


def test_a_budget_ends_it_and_is_kept():
    found = reached(Fleet(cases=10, budget=20), 1)
    assert found.spent
    assert found.blocks == 10 * 3 + 20
    assert found.widest > 0.01
