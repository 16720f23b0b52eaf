"""What surrounds a CUDA graph: copies in and out, staleness, keys. The graph itself needs a GPU.

Here a replay runs the same work again into the same static tensors, as a graph would.
"""

from typing import Any

import closeness
import pytest
import torch
from torch import Tensor

from lstm_kernels import registry
from lstm_kernels.backends import graphed
from lstm_kernels.registry import TORCH_CELLS
from lstm_kernels.stack import run


class Replay:
    def __init__(self, work: Any) -> None:
        self.replay = work


class RunAgain(graphed.Graph):
    def capture(self) -> None:
        self.live = self.run()
        self.outputs = tuple(torch.full_like(y, torch.nan) for y in self.live)
        self.d_outputs = [torch.zeros_like(y) for y in self.live]
        self.forward_graph = Replay(self.again)
        if self.wanted:
            gradients = self.gradients(self.live, self.d_outputs)
            self.d_inputs = tuple(
                None if d is None else torch.full_like(d, torch.nan) for d in gradients
            )
            self.backward_graph = Replay(self.backward_again)

    def again(self) -> None:
        with torch.set_grad_enabled(bool(self.wanted)):
            self.live = self.run()
        with torch.no_grad():
            for static, y in zip(self.outputs, self.live, strict=True):
                static.copy_(y)

    def backward_again(self) -> None:
        gradients = self.gradients(self.live, self.d_outputs)
        for static, gradient in zip(self.d_inputs, gradients, strict=True):
            if static is not None:
                static.copy_(gradient)


@pytest.fixture(autouse=True)
def _no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed, "Graph", RunAgain)
    monkeypatch.setattr(graphed, "_graphs", type(graphed._graphs)())


def leaves_of(arguments: Any) -> list[Tensor]:
    leaves = [arguments["x"], arguments["h0"], arguments["c0"]]
    leaves += [w for ws in arguments["weights"] for w in ws]
    return [leaf for leaf in leaves if leaf is not None]


def results(name: str, problem: Any, arguments: Any, lengths: Any = None) -> dict[str, Tensor]:
    leaves = leaves_of(arguments)
    returned = run(registry.load(name), **arguments, problem=problem, lengths=lengths)
    outputs = [output for output in returned if output is not None]
    loss = sum((y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum() for y in outputs)
    return dict(enumerate([*outputs, *torch.autograd.grad(loss, leaves, allow_unused=True)]))


@pytest.mark.parametrize("cell", [*TORCH_CELLS, "lstm_layernorm", "lstm_batchnorm"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 2, 0, 3])], ids=["full", "ragged"])
def test_equals_hoisted_call_after_call(
    cell: str, lengths: Any, make_layer: Any, assert_same: Any
) -> None:
    heads = {"hidden_size": 6, "heads": 1 if lengths is None else 3}
    problem, arguments = make_layer(cell, num_layers=2, bidirectional=True, **heads)
    for _ in range(3):
        expected = results("hoisted", problem, arguments, lengths)
        assert_same(
            results("graphed", problem, arguments, lengths), expected, closeness.SAME["float64"]
        )
        with torch.no_grad():
            arguments["x"].add_(0.1)
            for w in arguments["weights"]:
                w.w_hh.mul_(0.9)
    assert len(graphed._graphs) == problem.num_layers


def test_of_one_projected_step_c_does_not_depend_on_w_hr(make_layer: Any, assert_same: Any) -> None:
    problem, arguments = make_layer("lstm", seq_len=1, proj_size=2)
    for name in ("x", "h0", "c0"):
        arguments[name].requires_grad_(False)
    for w in arguments["weights"][0][:4]:
        w.requires_grad_(False)
    w_hr = arguments["weights"][0].w_hr
    for name in ("hoisted", "graphed"):
        y, _, _ = run(registry.load(name), **arguments, problem=problem)
        y.sum().backward()
    # Once from either backend, and the same.
    halved = w_hr.grad / 2
    w_hr.grad = None
    y, _, _ = run(registry.load("hoisted"), **arguments, problem=problem)
    y.sum().backward()
    assert_same({"d_w_hr": halved}, {"d_w_hr": w_hr.grad}, closeness.SAME["float64"])


def test_results_outlive_the_next_call(cell: str, make_layer: Any) -> None:
    problem, arguments = make_layer(cell)
    with torch.no_grad():
        first = run(registry.load("graphed"), **arguments, problem=problem)
        kept = first[0].clone()
        run(registry.load("graphed"), **arguments | {"x": arguments["x"] + 1}, problem=problem)
    assert torch.equal(first[0], kept)
    assert not first[0].requires_grad


def test_gradients_outlive_the_next_backward(make_layer: Any) -> None:
    problem, arguments = make_layer("gru")
    first = results("graphed", problem, arguments)
    kept = {name: tensor.clone() for name, tensor in first.items()}
    moved = (arguments["x"].detach() + 1).requires_grad_()
    results("graphed", problem, arguments | {"x": moved})
    assert all(torch.equal(first[name], kept[name]) for name in first)


def test_a_second_forward_makes_the_first_stale(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm")
    first, _, _ = run(registry.load("graphed"), **arguments, problem=problem)
    run(registry.load("graphed"), **arguments, problem=problem)
    with pytest.raises(RuntimeError, match="same layer ran forward again"):
        first.sum().backward()


def test_a_second_backward_of_one_forward_is_refused(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm")
    y, _, _ = run(registry.load("graphed"), **arguments, problem=problem)
    y.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="its backward ran before"):
        y.sum().backward()


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 2, 0, 3])], ids=["full", "ragged"])
def test_second_derivatives_equal_hoisteds(
    cell: str, lengths: Any, make_layer: Any, assert_same: Any
) -> None:
    problem, arguments = make_layer(cell, num_layers=2, bidirectional=True)
    leaves = leaves_of(arguments)
    twice = {}
    for name in ("hoisted", "graphed"):
        y, _, _ = run(registry.load(name), **arguments, problem=problem, lengths=lengths)
        first = torch.autograd.grad(y.pow(3).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(d.pow(3).sum() for d in first), leaves)
        twice[name] = dict(enumerate([*first, *second]))
    assert_same(twice["graphed"], twice["hoisted"], closeness.SAME["float64"])


def test_inference_in_between_makes_nothing_stale(make_layer: Any) -> None:
    problem, arguments = make_layer("lstm")
    y, _, _ = run(registry.load("graphed"), **arguments, problem=problem)
    with torch.no_grad():
        run(registry.load("graphed"), **arguments, problem=problem)
    y.sum().backward()
    assert arguments["x"].grad is not None


def test_old_graphs_are_let_go(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed, "MAX_GRAPHS", 2)
    for steps in (1, 2, 3):
        problem, arguments = make_layer("gru", seq_len=steps)
        run(registry.load("graphed"), **arguments, problem=problem)
    assert [key[0].seq_len for key in graphed._graphs] == [2, 3]
