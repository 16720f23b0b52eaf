import pytest
import torch

from lstm_harness.worker import oracle
from lstm_harness.worker.verify import judge, tolerance
from lstm_kernels import Problem

PROBLEM = Problem("lstm", 3, 5, 4, 4)
NAMES = ("y", "h_n", "c_n", "d_x", "d_h0", "d_c0", "d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh")
BOUND = 1e-5


@pytest.fixture(scope="module")
def right():
    """The answer, float64."""
    return oracle.answer(PROBLEM, 0, "cpu").tensors


@pytest.fixture
def found(right):
    """What a perfect float32 backend would find."""
    return {name: [t.float() for t in group] for name, group in right.items()}


def spoil(found, name, change):
    return found | {name: [change(found[name][0].clone()), *found[name][1:]]}


def one_element(tensor, value):
    tensor.view(-1)[-1] = value
    return tensor


def test_the_right_answer_is_right_in_every_tensor(found, right):
    verdict = judge(found, right, BOUND)
    assert verdict.failure == ""
    assert set(verdict.errors) == set(NAMES)
    assert 0 < max(verdict.errors.values()) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_wrong_alone_is_caught_and_named(found, right, name):
    verdict = judge(spoil(found, name, lambda t: t * (1 + 1e-4)), right, BOUND)
    assert verdict.failure.startswith(f"{name} wrong: {name} is off by 0.0001")
    assert [n for n, error in verdict.errors.items() if error > BOUND] == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_element_that_is_not_finite_is_caught(found, right, name, value):
    verdict = judge(spoil(found, name, lambda t: one_element(t, value)), right, BOUND)
    assert verdict.failure == f"{name} is not finite (NaN or infinity)"
    assert verdict.errors[name] is None


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_missing_is_caught(found, right, name):
    without = found | {name: []}
    assert judge(without, right, BOUND).failure == f"no {name}: the backend returned none"
    del without[name]
    assert judge(without, right, BOUND).failure == f"no {name}: the backend returned none"


def test_gradients_are_asked_of_nobody_who_owes_none(found, right):
    outputs = {name: found[name] for name in ("y", "h_n", "c_n")}
    assert set(judge(outputs, right, BOUND).errors) == set(outputs)


def test_gradients_owed_and_all_missing_are_caught(found, right):
    owed = {name: group if name in ("y", "h_n", "c_n") else [] for name, group in found.items()}
    assert judge(owed, right, BOUND).failure.startswith("no d_")


def test_the_answer_of_another_seed_is_wrong(found):
    other = oracle.answer(PROBLEM, 1, "cpu").tensors
    assert "wrong" in judge(found, other, BOUND).failure


def test_error_is_that_of_the_worst_layer():
    right = {"y": [torch.ones(1, 2, 2).double()], "d_w_hh": [torch.ones(2, 2).double()] * 3}
    made = {"y": right["y"], "d_w_hh": [torch.ones(2, 2), 1.5 * torch.ones(2, 2), torch.ones(2, 2)]}
    verdict = judge(made, right, BOUND)
    assert verdict.errors["d_w_hh"] == pytest.approx(0.5)


def test_rows_compare_the_batch_where_it_has_one(found, right):
    rows = (0, 2, 4)
    some = {
        name: [t[:, rows] if name in ("y", "h_n", "c_n", "d_x", "d_h0", "d_c0") else t for t in g]
        for name, g in right.items()
    }
    assert judge(found, some, BOUND, rows).failure == ""

    def wrong_in_row(row):
        return spoil(found, "y", lambda t: t.index_fill(1, torch.tensor([row]), 0.0))

    assert "y wrong" in judge(wrong_in_row(2), some, BOUND, rows).failure
    assert judge(wrong_in_row(1), some, BOUND, rows).failure == ""


def test_tolerance_grows_with_the_square_root_of_long_sequences():
    def bound(seq_len, dtype="float32", precision="ieee"):
        return tolerance(Problem("lstm", seq_len, 1, 1, 1, dtype=dtype, precision=precision))

    assert bound(1) == bound(256) == 1e-5
    assert bound(1024) == pytest.approx(2e-5)
    assert bound(1, "bfloat16") < bound(1, precision="w8")
    assert bound(1, "float64") < bound(1) < bound(1, precision="tf32") < bound(1, "bfloat16")
