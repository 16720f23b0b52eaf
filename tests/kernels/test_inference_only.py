"""Backends without gradients: right in inference, with weights as they are, refusing the rest."""

from dataclasses import replace

import pytest
import torch
from inferred import outputs, right

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.registry import TORCH_CELLS

SHAPES = {
    "plain": {},
    "deep, two ways": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False, "batch": 1, "seq_len": 1},
    "ragged": {"lengths": "uniform:0:6", "bidirectional": True, "batch": 5},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_of_its_is_the_oracles(inference_backend, shape, make_layer, assert_same):
    for cell in (*TORCH_CELLS, *registry.get(inference_backend).cells):
        problem, given = make_layer(cell, **SHAPES[shape] | {"dtype": "float32"})
        assert registry.unsupported(inference_backend, problem, "cpu") is None
        expected = right(problem, given)
        if problem.lengths != "full":
            # What lies past a sequence's end may be anything.
            for row, steps in enumerate(problem.sequence_lengths()):
                given["x"].data[steps:, row] = float("nan")
        found = outputs(inference_backend, problem, given)
        assert_same(found, expected, case=cell)


@pytest.mark.parametrize("shape", ["plain", "deep, two ways"])
def test_a_change_in_place_is_seen(inference_backend, shape, make_layer, assert_same):
    problem, given = make_layer("lstm", **SHAPES[shape] | {"dtype": "float32"})
    before = outputs(inference_backend, problem, given)
    weights = [tensor for one in given["weights"] for tensor in one if tensor is not None]
    for tensor in weights:
        with torch.no_grad():
            tensor.mul_(1.25)
        after = outputs(inference_backend, problem, given)
        assert_same(after, right(problem, given))
        assert not torch.equal(after["y"], before["y"])
        before = after


def test_a_change_that_nobody_counted_is_seen_by_whoever_looks(
    inference_backend, make_layer, assert_same
):
    problem, given = make_layer("gru", dtype="float32")
    outputs(inference_backend, problem, given)
    given["weights"][0].w_hh.data.neg_()
    found = outputs(inference_backend, problem, given, look=True)
    assert_same(found, right(problem, given))


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_a_module_is_torch_nns(inference_backend, name, assert_same):
    theirs = getattr(torch.nn, name)(3, 4, num_layers=2, bidirectional=True)
    ours = getattr(lk, name)(3, 4, num_layers=2, bidirectional=True, backend=inference_backend)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 2, 3)
    for _ in range(2):
        with torch.inference_mode():
            assert_same({"y": ours(x)[0]}, {"y": theirs(x)[0]})
        for module in (ours, theirs):
            module.weight_hh_l1_reverse.data[1, 1] += 0.5  # uncounted
    assert ours.chosen_backend == inference_backend


def test_functions_look_at_weights_too(inference_backend, assert_same):
    x, h, w_ih, w_hh = (torch.randn(s) for s in ((4, 2, 3), (2, 5), (5, 3), (5, 5)))
    for _ in range(2):
        found, expected = (
            lk.rnn_tanh(x, h, w_ih, w_hh, backend=on)[0] for on in (inference_backend, "naive")
        )
        assert_same({"y": found}, {"y": expected})
        w_hh.numpy()[2] *= -1


def test_a_gradient_is_refused_before_anything_runs(inference_backend):
    module = lk.LSTM(3, 4, backend=inference_backend)
    with pytest.raises(lk.Unsupported, match=r"has no gradients, .* torch.no_grad\(\)"):
        module(torch.randn(2, 1, 3))
    module.requires_grad_(False)
    y, _ = module(torch.randn(2, 1, 3))
    assert not y.requires_grad


def test_inputs_are_left_alone_and_outputs_are_its_own(inference_backend, make_layer):
    problem, given = make_layer("lstm", dtype="float32")
    before = {name: given[name].detach().clone() for name in ("x", "h0", "c0")}
    first = outputs(inference_backend, problem, given)
    kept = {name: out.clone() for name, out in first.items()}
    with torch.no_grad():
        given["x"].add_(1)
    second = outputs(inference_backend, problem, given)
    assert all(torch.equal(first[name], kept[name]) for name in first)
    assert not torch.equal(second["y"], first["y"])
    assert all(torch.equal(given[name], before[name]) for name in ("h0", "c0"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"dtype": "float64"}, "float64"), ({"proj_size": 2}, "proj_size 2"), ({"heads": 5}, "heads")],
)
def test_what_it_has_not_is_refused_with_a_reason(inference_backend, fields, why):
    problem = replace(lk.Problem("lstm", 2, 1, 3, 5), **fields)
    assert why in registry.unsupported(inference_backend, problem, "cpu")


def test_it_computes_on_a_cpu_alone(inference_backend, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    problem = lk.Problem("lstm", 2, 1, 3, 5)
    reason = registry.load(inference_backend).unsupported(problem, "cuda")
    assert reason.endswith("needs a CPU, and this is 'cuda'")
