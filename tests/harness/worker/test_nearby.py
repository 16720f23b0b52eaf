"""Bounds where right results for nearly the same inputs are far apart."""

from dataclasses import replace

import pytest
import torch

from lstm_harness.worker import nearby
from lstm_harness.worker.handing import HandedOut
from lstm_harness.worker.inputs import cast
from lstm_harness.worker.nearby import wider_bounds
from lstm_harness.worker.oracle import Oracle, answer, checked_inputs
from lstm_harness.worker.passes import make_pass
from lstm_harness.worker.verify import judge, tolerance
from lstm_kernels import Problem, registry

ORDINARY = Problem("lstm", 16, 4, 12, 24)
# Of 16,384 units that a rounding of float16 may switch on or off, some are.
SWITCHED = Problem("rnn_relu", 32, 8, 64, 64, dtype="float16")
# Two units: now and then a sum of a few numbers is nearly 0.
CANCELS = Problem("lstm", 1, 1, 2, 2, dtype="bfloat16")


def made(problem, seed, name="naive"):
    """What a backend makes in a train pass over the checked inputs."""
    the_pass = make_pass(registry.load(name), problem, "train")
    state = the_pass.prepare(checked_inputs(problem, seed, "cpu"))
    the_pass.execute(state)
    return {name: [t.detach() for t in group] for name, group in state.tensors().items() if group}


def judged(problem, seed, results):
    out = HandedOut()
    told = out.hand([results])
    return Oracle("cpu").judge_proof(problem, seed, f"/proc/self/fd/{told.descriptor}", told)


def errors(problem, seed, results):
    return judge(results, answer(problem, seed, "cpu").tensors, tolerance(problem)).errors


def bounds(problem, draws=8):
    """The widest bounds of a problem, by tensor."""
    wide = replace(problem, dtype="float64")

    def execute(inputs):
        the_pass = make_pass(registry.load("naive"), wide, "train")
        state = the_pass.prepare(cast(inputs, torch.float64))
        the_pass.execute(state)
        return {n: [t.detach() for t in group] for n, group in state.tensors().items() if group}

    *_, last = wider_bounds(execute, checked_inputs(problem, 0, "cpu"), tolerance(problem))
    return last


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "ugrnn"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_an_ordinary_layer_is_held_to_its_bound(cell, dtype):
    problem = replace(ORDINARY, cell=cell, dtype=dtype)
    assert set(bounds(problem).values()) == {tolerance(problem)}


def test_a_layer_of_relus_is_held_to_less_in_its_gradients_alone():
    found, bound = bounds(SWITCHED), tolerance(SWITCHED)
    assert found["y"] == found["h_n"] == bound
    assert all(3 * bound < found[name] < 75 * bound for name in ("d_x", "d_w_ih", "d_w_hh"))


def test_where_a_draw_takes_long_one_is_enough(monkeypatch):
    monkeypatch.setattr(nearby, "MOST_S", 0.0)
    drawn = list(
        wider_bounds(lambda inputs: {"y": [inputs.x]}, checked_inputs(CANCELS, 0, "cpu"), 1.0)
    )
    assert drawn == [{"y": 1.0}]


def test_torchs_own_relus_are_right_in_float16():
    over = 0
    for seed in range(8):
        results = made(SWITCHED, seed)
        worst = max(errors(SWITCHED, seed, results).values())
        over += worst > tolerance(SWITCHED)
        found = judged(SWITCHED, seed, results)
        assert found.failure == ""
        assert max(found.errors.values()) == worst <= found.bound
    assert over, "no unit was switched by a rounding, so nothing was tested"


@pytest.mark.parametrize(("name", "part"), [("y", 0.02), ("h_n", 0.02), ("d_x", 0.5)])
def test_what_roundings_do_not_explain_is_wrong_still(name, part):
    right = made(SWITCHED, 0)
    found = judged(SWITCHED, 0, right | {name: [(1 + part) * right[name][0]]})
    assert found.failure.startswith(f"{name} wrong: {name} is off by {part:.1g}")


def test_a_sum_that_nearly_cancels_is_right():
    over = 0
    for seed in range(200):
        results = made(CANCELS, seed)
        over += max(errors(CANCELS, seed, results).values()) > tolerance(CANCELS)
        assert judged(CANCELS, seed, results).failure == ""
    assert over, "nothing cancelled, so nothing was tested"


def test_missing_gradients_are_wrong_however_far_results_move():
    results = {n: t for n, t in made(SWITCHED, 0).items() if n != "d_w_hh"}
    assert judged(SWITCHED, 0, results).failure == "no d_w_hh: the backend returned none"


def test_what_is_not_finite_is_wrong_however_far_results_move():
    results = made(SWITCHED, 0)
    results["d_x"][0][0, 0, 0] = float("nan")
    assert judged(SWITCHED, 0, results).failure == "d_x is not finite (NaN or infinity)"
