import pytest
from synthetic_runs import manifest, record

from lstm_harness.model.case import Case
from lstm_harness.model.manifest import check
from lstm_harness.model.part import Part, part_of
from lstm_harness.model.plan import Plan
from lstm_kernels import Problem

CASES = tuple(Case(Problem("lstm", steps, 1, 4, 4), "forward") for steps in (1, 2, 3))
PLAN = Plan(("naive", "aten"), CASES, blocks=4, device="cpu", skips={}, absent={})


def test_a_part_is_its_cases_in_its_blocks():
    part = Part(cases=(0, 2), blocks=(1, 3))
    assert PLAN.cells(part) == {(1, CASES[0]), (3, CASES[0]), (1, CASES[2]), (3, CASES[2])}
    assert PLAN.records_of(part) == 8
    assert PLAN.cells() == {(block, case) for block in range(4) for case in CASES}
    assert PLAN.records_of(None) == PLAN.planned_records == 24


def test_a_part_survives_being_stored():
    part = Part((2, 0), (1,))
    assert part_of({"part": part.to_dict()}) == part
    assert part_of({}) is None


@pytest.mark.parametrize(
    ("cases", "blocks"), [((), (0,)), ((0,), ()), ((-1,), (0,)), ((0, 0), (0,)), ((0,), (1, 1))]
)
def test_what_is_not_a_part_is_refused(cases, blocks):
    with pytest.raises(ValueError, match="of a part are"):
        Part(cases, blocks)


@pytest.mark.parametrize("part", [Part((3,), (0,)), Part((0,), (4,))])
def test_a_part_beyond_the_plan_is_refused(part):
    with pytest.raises(ValueError, match="the plan has 3 cases in up to 4 blocks"):
        PLAN.cells(part)
    stored = manifest([record(of=CASES[0])], plan=PLAN.to_dict(), part=part.to_dict())
    with pytest.raises(ValueError, match="the plan has 3 cases"):
        check(stored, "a test")


def test_cases_may_differ_in_their_number_of_blocks():
    grown = PLAN.with_blocks([(1, 4), (1, 5)])
    assert (grown.blocks, grown.blocks_by_case) == (6, (4, 6, 4))
    assert grown.planned_records == 2 * 14
    assert [grown.blocks_of(place) for place in range(3)] == [4, 6, 4]
    last = grown.block_order(0, 5)
    assert {(cell.backend, cell.case) for cell in last} == {(b, CASES[1]) for b in PLAN.backends}
    assert Plan.from_dict(grown.to_dict()) == grown
    assert "blocks_by_case" not in PLAN.to_dict()
    with pytest.raises(ValueError, match="the part has case 0 in block 5"):
        grown.cells(Part((0, 1), (5,)))


def test_a_plan_of_some_cases_keeps_their_number_of_blocks():
    some = PLAN.with_blocks([(1, 4)]).only(PLAN.backends, {case.label() for case in CASES[1:]})
    assert some.blocks_by_case == (5, 4)
    assert Plan.from_dict(some.to_dict()) == some


def test_a_plan_without_the_case_that_has_most_blocks_has_fewer():
    some = PLAN.with_blocks([(0, 5)]).only(PLAN.backends, {case.label() for case in CASES[1:]})
    assert some.blocks == 4
    assert Plan.from_dict(some.to_dict()) == some


@pytest.mark.parametrize("by_case", [(4, 4), (4, 4, 0), (1, 2, 3), (4, 5, 4)])
def test_a_plan_whose_blocks_contradict_each_other_is_refused(by_case):
    stored = PLAN.to_dict() | {"blocks_by_case": list(by_case)}
    with pytest.raises(ValueError, match="blocks_by_case"):
        Plan.from_dict(stored)
