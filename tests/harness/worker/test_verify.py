import pytest
import torch

from lstm_harness.worker import oracle
from lstm_harness.worker.oracle import Answer
from lstm_harness.worker.verify import judge, tolerance
from lstm_kernels import Problem

PROBLEM = Problem("lstm", 3, 5, 4, 4)
NAMES = ("y", "h_n", "c_n", "d_x", "d_h0", "d_c0", "d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh")
BOUND = 1e-5


@pytest.fixture(scope="module")
def answer():
    return oracle.answer(PROBLEM, 0, "cpu")


@pytest.fixture
def found(answer):
    """What a perfect float32 backend would find."""
    return {name: [t.float() for t in group] for name, group in answer.sets[0].items()}


def spoil(found, name, change):
    return found | {name: [change(found[name][0].clone()), *found[name][1:]]}


def one_element(tensor, value):
    tensor.view(-1)[-1] = value
    return tensor


def test_the_right_answer_is_right_in_every_tensor(found, answer):
    verdict = judge(found, answer, 0, BOUND)
    assert verdict.failure == ""
    assert set(verdict.errors) == set(NAMES)
    assert 0 < max(verdict.errors.values()) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_wrong_alone_is_caught_and_named(found, answer, name):
    verdict = judge(spoil(found, name, lambda t: t * (1 + 1e-4)), answer, 0, BOUND)
    assert verdict.failure.startswith(f"{name} wrong: {name} is off by 0.0001")
    assert [n for n, error in verdict.errors.items() if error > BOUND] == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_element_that_is_not_finite_is_caught(found, answer, name, value):
    verdict = judge(spoil(found, name, lambda t: one_element(t, value)), answer, 0, BOUND)
    assert verdict.failure == f"{name} is not finite (NaN or infinity)"
    assert verdict.errors[name] is None


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_missing_is_caught(found, answer, name):
    without = found | {name: []}
    assert judge(without, answer, 0, BOUND).failure == f"no {name}: the backend gave none"
    del without[name]
    assert judge(without, answer, 0, BOUND).failure == f"no {name}: the backend gave none"


def test_gradients_are_asked_of_nobody_who_owes_none(found, answer):
    outputs = {name: found[name] for name in ("y", "h_n", "c_n")}
    assert set(judge(outputs, answer, 0, BOUND).errors) == set(outputs)


def test_gradients_owed_and_all_missing_are_caught(found, answer):
    owed = {name: group if name in ("y", "h_n", "c_n") else [] for name, group in found.items()}
    assert judge(owed, answer, 0, BOUND).failure.startswith("no d_")


def test_the_answer_of_another_set_is_wrong(found, answer):
    assert "wrong" in judge(found, answer, 1, BOUND).failure


def test_error_is_that_of_the_worst_layer():
    right = {"y": [torch.ones(1, 2, 2).double()], "d_w_hh": [torch.ones(2, 2).double()] * 3}
    made = {"y": right["y"], "d_w_hh": [torch.ones(2, 2), 1.5 * torch.ones(2, 2), torch.ones(2, 2)]}
    verdict = judge(made, Answer(None, {0: right}), 0, BOUND)
    assert verdict.errors["d_w_hh"] == pytest.approx(0.5)


def test_rows_compare_the_batch_where_it_has_one(found, answer):
    rows = (0, 2, 4)
    some = {
        name: [t[:, rows] if name in ("y", "h_n", "c_n", "d_x", "d_h0", "d_c0") else t for t in g]
        for name, g in answer.sets[0].items()
    }
    by_rows = Answer(rows, {0: some})
    assert judge(found, by_rows, 0, BOUND).failure == ""

    def wrong_in_row(row):
        return spoil(found, "y", lambda t: t.index_fill(1, torch.tensor([row]), 0.0))

    assert "y wrong" in judge(wrong_in_row(2), by_rows, 0, BOUND).failure
    assert judge(wrong_in_row(1), by_rows, 0, BOUND).failure == ""


def test_tolerance_grows_with_the_square_root_of_long_sequences():
    def bound(seq_len, dtype="float32", precision="ieee"):
        return tolerance(Problem("lstm", seq_len, 1, 1, 1, dtype=dtype, precision=precision))

    assert bound(1) == bound(256) == 1e-5
    assert bound(1024) == pytest.approx(2e-5)
    assert bound(1, "float64") < bound(1) < bound(1, precision="tf32") < bound(1, "bfloat16")
