import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_harness.model.case import Case
from lstm_harness.model.errors import UserError
from lstm_harness.model.plan import Plan, Skip, estimate_bytes, estimate_s, too_large
from lstm_harness.model.spec import build
from lstm_kernels import Problem

CASES = tuple(Case(Problem("lstm", steps, 1, 4, 4), "forward") for steps in (1, 2, 3, 4, 5))
BACKENDS = ("naive", "hoisted", "aten")


def plan(**changes):
    made = Plan(BACKENDS, CASES, blocks=3, device="cpu", skips={}, absent={})
    return dataclasses.replace(made, **changes)


def order(seed, block):
    return [(cell.case, cell.backend) for cell in plan().block_order(seed, block)]


@given(seed=st.integers(0, 2**63), block=st.integers(0, 2))
def test_block_holds_every_cell_once_and_numbers_them_in_turn(seed, block):
    cells = list(plan().block_order(seed, block))
    assert {(cell.backend, cell.case) for cell in cells} == {
        (b, c) for b in BACKENDS for c in CASES
    }
    assert [cell.order for cell in cells] == list(range(15 * block, 15 * (block + 1)))
    assert {cell.block for cell in cells} == {block}


@given(seed=st.integers(0, 2**63), block=st.integers(0, 2))
def test_backends_meet_case_by_case(seed, block):
    cases = [case for case, _ in order(seed, block)]
    assert all(len(set(cases[i : i + 3])) == 1 for i in range(0, 15, 3))


def test_the_same_seed_gives_the_same_order_and_another_another():
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1)


def test_backends_take_turns_at_being_first():
    first = {order(seed, 0)[0][1] for seed in range(30)}
    assert first == set(BACKENDS)


def test_a_skip_goes_with_its_cell_in_every_block():
    skip = Skip("unsupported", "no")
    skipping = plan(skips={("aten", CASES[2]): skip})
    for block in range(3):
        skipped = [cell for cell in skipping.block_order(0, block) if cell.skip]
        assert [(cell.backend, cell.case) for cell in skipped] == [("aten", CASES[2])]


def test_plan_survives_being_stored():
    whole = plan(
        skips={("aten", CASES[2]): Skip("unsupported", "no")},
        absent={"cudnn": "runs on cuda only"},
        estimated_s=3.5,
        estimated_bytes=7,
    )
    assert Plan.from_dict(whole.to_dict()) == whole
    assert whole.planned_records == 45


def test_estimate_is_the_budget_unless_the_fewest_samples_need_longer():
    few = build(None, {"hidden": "8"}, {"time_budget_s": 500.0, "blocks": 1})
    assert estimate_s(few, 1, few.cases("cpu")) == 500.0
    big = {"hidden": "1024", "seq-len": "1024", "batch": "64"}
    slow = build(None, big, {"time_budget_s": 1.0, "blocks": 1})
    assert estimate_s(slow, 1, slow.cases("cpu")) > 100.0


def test_estimate_grows_with_backends_and_blocks():
    spec = build(None, {"hidden": "8"}, {"blocks": 2})
    one = estimate_s(spec, 1, spec.cases("cpu"))
    assert estimate_s(spec, 3, spec.cases("cpu")) == pytest.approx(3 * one)


def test_estimate_of_a_large_grid_is_its_budget():
    axes = {"hidden": "1024", "seq-len": "1024", "batch": "1:64:+1"}
    many = build(None, axes, {"time_budget_s": 60.0, "blocks": 1})
    assert estimate_s(many, 8, many.cases("cpu")) == 60.0


def test_case_without_room_is_left_out_with_the_estimate():
    needed = [estimate_bytes(case.problem, "cpu") for case in CASES]
    assert needed == sorted(needed)
    assert too_large(CASES, "cpu", needed[-1]) == {}
    found = too_large(CASES, "cpu", needed[1])
    assert list(found) == [case.problem for case in CASES[2:]]
    skip = found[CASES[2].problem]
    assert skip.status == "out_of_memory"
    assert re.match(r"not tried: lstm T3 B1 H4 float32 needs about .* GiB; cpu has", skip.reason)


def test_room_for_no_case_is_refused():
    needed = estimate_bytes(CASES[0].problem, "cpu")
    with pytest.raises(UserError, match=r"^lstm T1 B1 H4 float32 needs about .* GiB; cpu has"):
        too_large(CASES, "cpu", needed - 1)


def test_absurd_batch_is_refused_without_listing_its_lengths():
    huge = Case(Problem("lstm", 4, 10**9, 1000, 1000, lengths="uniform:1:4"), "forward")
    with pytest.raises(UserError, match="GiB"):
        too_large((huge,), "cpu", 2**40)
