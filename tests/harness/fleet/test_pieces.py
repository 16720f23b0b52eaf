"""A plan in parts: every pair of a case and a block once, in pieces of a size."""

import itertools
from dataclasses import replace

import pytest
import synthetic_runs

from lstm_harness.fleet.pieces import affordable, cases_a_task, grown, in_parts, piece, whole
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan, Skip
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs


def plan(cases=5, blocks=3, estimated_s=0.0):
    made = tuple(synthetic_runs.case(seq_len=1 + number) for number in range(cases))
    return Plan(("naive", "aten"), made, blocks, "cpu", {}, {}, estimated_s)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_every_pair_is_in_one_part(size):
    parts = in_parts(whole(plan()), size)
    pairs = [pair for part in parts for pair in itertools.product(part.cases, part.blocks)]
    assert sorted(pairs) == list(itertools.product(range(5), range(3)))
    assert max(len(part.cases) for part in parts) <= size
    assert {len(part.blocks) for part in parts} == {1}


def test_blocks_have_their_parts_in_different_orders():
    """Devices in step would else measure the same cases in every block."""
    parts = in_parts(whole(plan(cases=8, blocks=6)), 1)
    orders = [[part.cases for part in parts if part.blocks == (block,)] for block in range(6)]
    assert len({tuple(order) for order in orders}) == 6
    assert [part.blocks[0] for part in parts] == sorted(part.blocks[0] for part in parts)


def test_blocks_that_were_added_make_the_plan_grow():
    first = plan(cases=3, blocks=2)
    assert grown(first, in_parts(whole(first), 2)) is first
    parts = [*in_parts(whole(first), 2), *in_parts([(1, 2), (2, 2), (1, 3)], 2)]
    assert parts[-2:] == [Part((1, 2), (2,)), Part((1,), (3,))]
    assert grown(first, parts).blocks_by_case == (2, 4, 3)
    assert set(whole(grown(first, parts))) == {
        pair for part in parts for pair in itertools.product(part.cases, part.blocks)
    }


def test_a_piece_is_the_part_with_its_own_cases_alone():
    first = plan()
    skips = {("naive", case): Skip("unsupported", case.label()) for case in first.cases[2:4]}
    own, part = piece(replace(first, skips=skips).with_blocks([(3, 3)]), Part((3, 1), (2, 3)))
    assert own.cases == (first.cases[3], first.cases[1])
    assert own.blocks_by_case == (4, 3)
    assert own.skips == {("naive", first.cases[3]): Skip("unsupported", first.cases[3].label())}
    assert part == Part((0, 1), (2, 3))
    assert Plan.from_dict(own.to_dict()) == own
    with pytest.raises(ValueError, match="whole_cases is 1; expected 2 or more"):
        Plan.from_dict(own.to_dict() | {"whole_cases": 1})


def test_a_block_of_a_case_has_as_much_time_in_a_piece_and_where_blocks_were_added():
    spec = Spec(({"seq-len": (1, 2)},), blocks=3, time_budget_s=150.0)

    def budget_s(plan, part):
        stored = {"spec": spec.to_dict(), "plan": plan.to_dict(), "part": part.to_dict()}
        return runs.spec_of(stored).time_budget_s

    added = plan().with_blocks([(1, 3), (1, 4)])
    for which, block in ((plan(), 2), (added, 2), (added, 4)):
        part = Part((1,), (block,))
        assert budget_s(which, part) == budget_s(*piece(which, part)) == pytest.approx(10.0)


def test_a_task_takes_about_a_minute_and_has_one_case_at_least():
    assert cases_a_task([plan(estimated_s=150.0)]) == 5
    assert cases_a_task([plan(estimated_s=450.0)]) == 2
    assert cases_a_task([plan(estimated_s=1e6)]) == 1
    assert cases_a_task([plan(estimated_s=0.0)]) == 5
    assert cases_a_task([plan(estimated_s=450.0)] * 2) == 1, "of two sides"


def test_a_budget_is_spent_at_the_rate_so_far():
    assert affordable(100.0, 60.0, 30) == 20
    assert affordable(60.0, 60.0, 30) == 0
    assert affordable(10.0, 60.0, 30) == 0
    assert affordable(None, 60.0, 30) > 1e6
