"""Second derivatives: against finite differences, and of every backend against float64 `naive`."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import closeness
import pytest
import torch
from any_cells import variants
from layer_outputs import flat, outputs
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.common import second_derivatives
from lstm_kernels.registry import TORCH_CELLS
from lstm_kernels.stack import Weights

CELLS = list(TORCH_CELLS)
SIZES = {"seq_len": 3, "batch": 2, "input_size": 2, "hidden_size": 3}
SHAPES = {
    "one": {},
    "one-step": {"seq_len": 1},
    "no-bias": {"bias": False},
    "deep-bidirectional": {"num_layers": 2, "bidirectional": True, "seq_len": 2},
    "ragged": {"bidirectional": True, "lengths": "uniform:1:3"},
    "projected": {"proj_size": 2, "bidirectional": True},
}
CASES = [(cell, name) for cell in CELLS for name in SHAPES if cell == "lstm" or name != "projected"]
# Of every cell the shape that has most in it, and the one that few backends run.
FEW = [("lstm", "projected"), *((cell, "ragged") for cell in CELLS)]
# How cells differ, and interpreted kernels, is shown by `test_equal_naive`.
FEWER = [("lstm", "ragged")]


def cases(fast: list[tuple[str, str]]) -> Any:
    """Every case, of which these are run by every change."""
    return pytest.mark.parametrize(
        ("cell", "shape"),
        [pytest.param(*c, marks=[] if c in fast else pytest.mark.slow) for c in CASES],
        ids=["-".join(c) for c in CASES],
    )


Leaves = list[Tensor | None]
Results = dict[str, Tensor]


def curved(tensors: Any) -> Tensor:
    """A loss whose own gradient has a gradient, every element weighed differently."""
    weights = [torch.linspace(-1, 1.5, t.numel()).view_as(t).to(t) for t in tensors]
    return sum((w * t + w * t * t).sum() for w, t in zip(weights, tensors, strict=True))


def names_of(leaves: Leaves) -> list[str]:
    """x, h0, c0, w_ih_0, and so on."""
    weights = range((len(leaves) - 3) // len(Weights._fields))
    return ["x", "h0", "c0", *(f"{field}_{i}" for i in weights for field in Weights._fields)]


def derivatives(function: Callable[..., Any], leaves: Leaves) -> Results:
    """Of `curved(function(*leaves))`: its gradients, and a curved function's of those."""
    named = zip(names_of(leaves), leaves, strict=True)
    wanted = {name: t for name, t in named if t is not None and t.requires_grad}
    tensors = list(wanted.values())
    first = torch.autograd.grad(curved(function(*leaves)), tensors, create_graph=True)
    second = torch.autograd.grad(curved(first), tensors)
    return {f"d_{name}": d for name, d in zip(wanted, first, strict=True)} | {
        f"dd_{name}": d for name, d in zip(wanted, second, strict=True)
    }


def in_double(leaves: Leaves) -> Leaves:
    return [
        None if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in leaves
    ]


def assert_twice_right(
    backend: str, problem: lk.Problem, leaves: Leaves, assert_same: Any, **wish: bool
) -> None:
    """Both derivatives equal float64 `naive`'s."""

    def by_backend(*tensors: Tensor | None) -> tuple[Tensor, ...]:
        return outputs(backend, problem, *tensors, **wish)

    double = replace(problem, dtype="float64")
    want = derivatives(lambda *tensors: outputs("naive", double, *tensors), in_double(leaves))
    assert_same(derivatives(by_backend, leaves), want, closeness.LAYER[problem.dtype])


@cases(FEWER)
def test_gradgradcheck(
    eager_or_slow_backend: str, cell: str, shape: str, make_layer: Any, skip_where_refused: Any
) -> None:
    problem, arguments = make_layer(cell, **SIZES | SHAPES[shape])
    skip_where_refused(eager_or_slow_backend, problem)
    assert torch.autograd.gradgradcheck(
        lambda *tensors: outputs(eager_or_slow_backend, problem, *tensors),
        flat(arguments),
        fast_mode=True,
    )


@cases([])
def test_gradgradcheck_of_kernels(
    interpreted_backend: str, cell: str, shape: str, make_layer: Any, skip_where_refused: Any
) -> None:
    problem, arguments = make_layer(cell, **SIZES | SHAPES[shape])
    skip_where_refused(interpreted_backend, problem)
    function = partial(outputs, interpreted_backend, problem)
    assert torch.autograd.gradgradcheck(function, flat(arguments), fast_mode=True)


@pytest.mark.parametrize(("on", "of"), variants(fast=["naive"]))
def test_gradgradcheck_of_variants(
    on: str, of: str, make_layer: Any, skip_where_refused: Any
) -> None:
    problem, arguments = make_layer(of, **SIZES | SHAPES["ragged"])
    skip_where_refused(on, problem)
    function = partial(outputs, on, problem)
    assert torch.autograd.gradgradcheck(function, flat(arguments), fast_mode=True)


@cases(FEW)
def test_equal_naive(
    backend: str,
    cell: str,
    shape: str,
    dtype: str,
    make_layer: Any,
    assert_same: Any,
    skip_where_refused: Any,
) -> None:
    problem, arguments = make_layer(cell, **SIZES | SHAPES[shape], dtype=dtype)
    skip_where_refused(backend, problem)
    assert_twice_right(backend, problem, flat(arguments), assert_same)


@cases(FEW)
def test_pytorchs_own_in_float32_too(
    cell: str, shape: str, make_layer: Any, assert_same: Any
) -> None:
    """Where oneDNN runs an LSTM, which it does not in float64."""
    problem, arguments = make_layer(cell, **SIZES | SHAPES[shape], dtype="float32")
    assert_twice_right("aten", problem, flat(arguments), assert_same)


@pytest.mark.parametrize(
    "cell", ["lstm", *(pytest.param(cell, marks=pytest.mark.slow) for cell in CELLS[1:])]
)
@pytest.mark.parametrize(
    "asked", [("x",), ("h0", "c0"), ("w_ih_0", "w_hh_1"), ("b_ih_1",)], ids="-".join
)
def test_of_those_that_are_asked_for(
    backend: str, cell: str, asked: tuple[str, ...], dtype: str, make_layer: Any, assert_same: Any
) -> None:
    problem, arguments = make_layer(cell, **SIZES | SHAPES["ragged"], dtype=dtype)
    leaves = flat(arguments)
    for name, leaf in zip(names_of(leaves), leaves, strict=True):
        if leaf is not None:
            leaf.requires_grad_(name in asked)
    assert_twice_right(backend, problem, leaves, assert_same)


def test_of_inputs_that_depend_on_each_other(
    backend: str, dtype: str, make_layer: Any, assert_same: Any
) -> None:
    """The state is made from x, and both directions have the same weights."""
    problem, arguments = make_layer("lstm", **SIZES | {"input_size": 3}, bidirectional=True)
    problem = replace(problem, dtype=dtype)

    def tied(name: str, asked: lk.Problem) -> Callable[..., tuple[Tensor, ...]]:
        def function(x: Tensor, h0: Tensor, c0: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
            h0 = h0 * x.mean(0)
            return outputs(name, asked, x * x, h0, c0, *weights, *weights)

        return function

    leaves = in_double(flat(arguments)[: 3 + len(Weights._fields)])
    want = derivatives(tied("naive", replace(problem, dtype="float64")), leaves)
    leaves = [
        None if t is None else t.detach().to(getattr(torch, dtype)).requires_grad_() for t in leaves
    ]
    assert_same(derivatives(tied(backend, problem), leaves), want, closeness.LAYER[dtype])


@pytest.mark.parametrize(
    "packed",
    [pytest.param(False, marks=pytest.mark.slow, id="padded"), pytest.param(True, id="packed")],
)
def test_a_step_with_a_gradient_penalty(
    backend: str, cell: str, packed: bool, make_pair: Any, assert_same: Any
) -> None:
    """Of two layers and both directions: the parameters after a step of SGD."""
    settings = {"num_layers": 2, "bidirectional": True}
    _, ours = make_pair(cell, backend, 3, 4, **settings)
    _, theirs = make_pair(cell, "naive", 3, 4, **settings)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 2, 3)

    def step(module: torch.nn.RNNBase, x: Tensor) -> Results:
        x = x.clone().requires_grad_()
        lengths = torch.tensor([2, 3])
        y, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False) if packed else x)
        y = y.data if packed else y
        (d_x,) = torch.autograd.grad(curved([y]), x, create_graph=True)
        (y.square().mean() + (d_x.norm() - 1).square()).backward()
        torch.optim.SGD(module.parameters(), lr=0.1).step()
        # The step's own size, not the parameter's, is what an error is relative to.
        return {name: p.grad for name, p in module.named_parameters()} | module.state_dict()

    assert_same(step(ours, x), step(theirs.double(), x.double()))


@pytest.mark.parametrize(
    "name", [each.name for each in registry.registered().values() if each.recompute]
)
def test_with_recompute(name: str, make_layer: Any, assert_same: Any) -> None:
    for package in registry.get(name).requires:
        pytest.importorskip(package, reason=f"{name} needs {package}")
    if torch.cuda.is_available():
        pytest.skip(f"{name}: runs on the GPU, see test_on_gpu")
    problem, arguments = make_layer("lstm", **SIZES | SHAPES["ragged"], dtype="float32")
    assert_twice_right(name, problem, flat(arguments), assert_same, recompute=True)


def test_third_derivatives(eager_backend: str, make_layer: Any, assert_same: Any) -> None:
    problem, arguments = make_layer("lstm", **SIZES)

    def third(name: str) -> Results:
        leaves = in_double(flat(arguments))
        wanted = [t for t in leaves if t is not None]
        found = outputs(name, problem, *leaves)
        for _ in range(2):
            found = torch.autograd.grad(curved(found), wanted, create_graph=True)
        return dict(enumerate(torch.autograd.grad(curved(found), wanted)))

    assert_same(third(eager_backend), third("naive"), closeness.LAYER["float64"])


def test_a_first_derivative_runs_nothing_again(
    backend: str, dtype: str, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("a layer was run again")

    monkeypatch.setattr(second_derivatives, "run_directions", again)
    problem, arguments = make_layer("lstm", **SIZES, dtype=dtype)
    leaves = flat(arguments)
    curved(outputs(backend, problem, *leaves)).backward()
    assert all(leaf.grad is not None for leaf in leaves if leaf is not None)
