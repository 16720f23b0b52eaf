"""Tensors handed from one process to another: what comes out is what went in, or Malformed."""

import gc

import pytest
import torch
from open_files import held

from lstm_harness.worker.handing import HandedOut, taken
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.passes import Malformed, make_pass
from lstm_kernels import Problem, registry

PROBLEM = Problem("lstm", 3, 2, 4, 5)


def executed(problem, pass_name="train", index=0):
    """What an execution makes, and inputs of its problem."""
    inputs = make_inputs(problem, 0, index, "cpu")
    the_pass = make_pass(registry.load("naive"), problem, pass_name)
    state = the_pass.prepare(inputs)
    the_pass.execute(state)
    return state.tensors(), inputs


def place_of(handed):
    return f"/proc/self/fd/{handed.descriptor}"


@pytest.fixture
def refused():
    """Take the first execution under counts that may be a lie; returns what is said."""
    made, like = executed(PROBLEM, "inference")
    out = HandedOut()

    def words(*counts, executions=1):
        handed = out.hand([made] * executions)
        lie = type(handed)(handed.descriptor, counts or handed.counts)
        with pytest.raises(Malformed) as found:
            taken(place_of(handed), lie, like, 0)
        return str(found.value)

    return words


@pytest.mark.parametrize("pass_name", ["inference", "train"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"cell": "gru"},
        {"bias": False, "num_layers": 2},
        {"num_layers": 2, "bidirectional": True, "proj_size": 3},
        {"lengths": "uniform:0:3"},
    ],
)
def test_what_executions_made_comes_out_bit_by_bit(pass_name, dtype, more):
    sizes = {"cell": "lstm", "seq_len": 3, "batch": 2, "input_size": 4, "hidden_size": 5}
    problem = Problem(**(sizes | {"dtype": dtype} | more))
    executions = [executed(problem, pass_name, index)[0] for index in range(3)]
    like = make_inputs(problem, 0, 9, "cpu")
    handed = HandedOut().hand(executions)
    for number, made in enumerate(executions):
        found = taken(place_of(handed), handed, like, number)
        assert list(found) == list(made)
        for name, group in made.items():
            assert len(found[name]) == len(group)
            for out, right in zip(found[name], group, strict=True):
                assert (out.shape, out.dtype) == (right.shape, right.dtype)
                assert torch.equal(out, right)


def test_executions_may_have_made_different_things():
    forward, like = executed(PROBLEM, "forward")
    train, _ = executed(PROBLEM, "train", 1)
    handed = HandedOut().hand([forward, train, {}])
    assert set(taken(place_of(handed), handed, like, 0)) == {"y", "h_n", "c_n"}
    found = taken(place_of(handed), handed, like, 1)
    assert torch.equal(found["d_b_hh"][0], train["d_b_hh"][0])
    assert taken(place_of(handed), handed, like, 2) == {}


def test_a_tensor_that_is_a_view_is_handed_over_as_it_reads():
    made, like = executed(PROBLEM, "inference")
    y = made["y"][0]
    strange = made | {"y": [y.permute(1, 0, 2).contiguous().permute(1, 0, 2)]}
    assert not strange["y"][0].is_contiguous()
    handed = HandedOut().hand([strange])
    assert torch.equal(taken(place_of(handed), handed, like, 0)["y"][0], y)


def test_a_gradient_that_is_missing_is_none_and_no_error():
    made, like = executed(PROBLEM)
    handed = HandedOut().hand([made | {"d_w_hh": []}])
    found = taken(place_of(handed), handed, like, 0)
    assert found["d_w_hh"] == []
    assert torch.equal(found["d_b_ih"][0], made["d_b_ih"][0])


def test_nothing_at_all_is_nothing_of_each():
    handed = HandedOut().hand([{"y": [], "h_n": []}])
    like = make_inputs(PROBLEM, 0, 0, "cpu")
    assert taken(place_of(handed), handed, like, 0) == {"y": [], "h_n": []}


def test_what_was_handed_before_is_let_go_of():
    made, like = executed(PROBLEM)
    gc.collect()  # what earlier tests left
    before, out = held("memfd:handed"), HandedOut()
    for _ in range(3):
        handed = out.hand([made])
        assert held("memfd:handed") == before + 1
    assert torch.equal(taken(place_of(handed), handed, like, 0)["y"][0], made["y"][0])


ONE = {"y": 1, "h_n": 1, "c_n": 1}


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({**ONE, "y": 2}, "2 tensors of y; expected 1"),
        ({**ONE, "y": -1}, "-1 tensors of y; expected 1"),
        ({**ONE, "d_w_ih": 2}, "2 tensors of d_w_ih; expected 1"),
        ({**ONE, "d_w_hr": 1}, "1 tensors of d_w_hr; expected 0"),
        ({**ONE, "weights": 1}, "there is no tensor 'weights'"),
        ({**ONE, "d_lengths": 1}, "there is no tensor 'd_lengths'"),
        ({"y": 1}, "200 bytes were handed over; expected 120"),
        ({**ONE, "d_x": 1}, "200 bytes were handed over; expected 296"),
    ],
)
def test_counts_that_are_not_true_are_refused(refused, counts, says):
    assert refused(counts) == says


def test_more_or_fewer_executions_than_told_are_refused(refused):
    assert refused(ONE, executions=2) == "400 bytes were handed over; expected 200"
    assert refused(ONE, ONE) == "200 bytes were handed over; expected 400"


def test_tensors_of_another_size_are_refused():
    made, like = executed(PROBLEM, "inference")
    handed = HandedOut().hand([made | {"y": [made["y"][0].double()]}])
    with pytest.raises(Malformed, match="320 bytes were handed over; expected 200"):
        taken(place_of(handed), handed, like, 0)
    gru = make_inputs(Problem("gru", 3, 2, 4, 5), 0, 0, "cpu")
    with pytest.raises(Malformed, match="1 tensors of c_n; expected 0"):
        taken(place_of(handed), handed, gru, 0)
