"""numba_cpu on cells that normalise: against the oracle, threads, and what is refused."""

from typing import Any

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import closeness
import torch
from by_oracle import BOUNDS, check, results, widened
from layer_outputs import flat, outputs
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu import sequence, team
from lstm_kernels.cells import CELLS, batch_norm, cell, layer_norm, sigmoid, tanh

# One worker compiles for every test of this backend (see conftest).
pytestmark = pytest.mark.xdist_group("numba_cpu")

# One unit fewer and more than a vector has, whole vectors, and more pairs than a chunk.
SIZES: dict[str, dict[str, Any]] = {
    "one step": {"seq_len": 1, "batch": 4, "input_size": 3, "hidden_size": 30},
    "odd": {"seq_len": 9, "batch": 3, "input_size": 20, "hidden_size": 17},
    "whole": {"seq_len": 7, "batch": 7, "input_size": 16, "hidden_size": 64},
    "many chunks": {"seq_len": 100, "batch": 9, "input_size": 7, "hidden_size": 65},
    "many rows": {"seq_len": 3, "batch": 300, "input_size": 7, "hidden_size": 20},
}
BOTH = ("lstm_layernorm", "lstm_batchnorm")
SHAPES: dict[str, dict[str, Any]] = {
    "one way": {},
    "two ways": {"bidirectional": True, "bias": False},
    "ragged": {"bidirectional": True, "ragged": True},
}


@pytest.fixture(autouse=True)
def _threads_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "WORTH_MEETING", 0)


def fields_of(sizes: str, shape: str, **fields: Any) -> dict[str, Any]:
    found = SIZES[sizes] | SHAPES[shape] | fields
    if found.pop("ragged", False):
        found["lengths"] = f"uniform:0:{found['seq_len']}"
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("of", BOTH)
def test_both_are_the_oracles(
    of: str, sizes: str, shape: str, make_layer: Any, assert_same: Any
) -> None:
    problem, arguments = make_layer(of, **fields_of(sizes, shape))
    # Of the last two sequences that run a normalised value is nearly 1 or -1, whatever they are: a
    # gradient is the difference of two that nearly cancel, at many steps one after another.
    bound = 1e-7 if problem.mixes_batch and shape == "ragged" else BOUNDS["float64"]
    expected = results("reference", problem, arguments)
    assert_same(results("numba_cpu", problem, arguments), expected, bound)


@pytest.mark.parametrize("sizes", ["odd", "whole"])
def test_layernorm_is_the_oracles_in_float32(sizes: str, make_layer: Any, assert_same: Any) -> None:
    fields = fields_of(sizes, "ragged", dtype="float32")
    check("numba_cpu", "lstm_layernorm", fields, make_layer, assert_same)


@pytest.mark.slow
@pytest.mark.parametrize("heads", [2, 5])
@pytest.mark.parametrize("of", BOTH)
def test_norms_go_with_heads(of: str, heads: int, make_layer: Any, assert_same: Any) -> None:
    fields = fields_of("many rows", "two ways", hidden_size=100, heads=heads)
    check("numba_cpu", of, fields, make_layer, assert_same)


@cell(gates="a b n", states="h c d", per_unit="u v", bare="a", apart="n", positive="d")
def of_every_kind(p, h, c, d, u, v):
    """Norms of a parameter and of a constant, three levels deep; one gate is bare, one apart."""
    of_u, of_h = layer_norm(u * p.b, h)
    x, one = layer_norm(p.a_x * of_h, 1.0)
    c = sigmoid(p.n_x) * layer_norm(c + x * one) + of_u
    return tanh(c + v * p.a_h + p.a_b) + p.n_h, c, d + sigmoid(p.b)


@cell(gates="a b", states="h c", per_unit="u", bare="a")
def of_the_batch(p, h, c, u):
    """Norms over the batch, two levels deep, of gates and of states."""
    x, of_u = batch_norm(p.a_x + p.b, u * h)
    c = sigmoid(x) * c + of_u * p.a_h
    return tanh(batch_norm(c + h) + p.a_b), c


@cell(gates="a b", states="h", bare="a b")
def of_bare_products(p, h):
    """No norm at all."""
    return tanh(p.a_x * p.b_h + p.a_h + p.b_b) + p.a_b * sigmoid(p.b_x)


@cell(gates="a", states="h")
def of_four_levels(p, h):
    """One level too many."""
    return layer_norm(1 + layer_norm(h + layer_norm(p.a + layer_norm(h * h))))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "defined", [of_every_kind, of_the_batch, of_bare_products], ids=lambda of: of.name
)
def test_a_cell_of_ones_own_is_the_oracles(
    defined: Any, shape: str, make_layer: Any, assert_same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CELLS, defined.name, defined)
    for sizes in ("odd", "many rows"):
        check("numba_cpu", defined.name, fields_of(sizes, shape), make_layer, assert_same)


def test_a_cell_of_four_levels_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, of_four_levels.name, of_four_levels)
    reason = registry.unsupported("numba_cpu", lk.Problem("of_four_levels", 2, 2, 2, 2), "cpu")
    assert reason == (
        "cell 'of_four_levels' normalises 4 times one after another, and there is code for 3"
    )


@cell(gates="a", states="h")
def of_both_kinds(p, h):
    """Neither some rows nor some units have all that it normalises."""
    return tanh(layer_norm(p.a) + batch_norm(h))


def test_a_cell_of_both_norms_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, of_both_kinds.name, of_both_kinds)
    reason = registry.unsupported("numba_cpu", lk.Problem("of_both_kinds", 2, 2, 2, 2), "cpu")
    assert reason == (
        "cell 'of_both_kinds' normalises over all units and over the batch, and there is code for "
        "one of them"
    )


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("sizes", ["one step", "odd", "many chunks"])
@pytest.mark.parametrize("of", BOTH)
def test_any_number_of_threads_gives_the_same_bits(
    of: str, sizes: str, count: int, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, arguments = make_layer(of, **fields_of(sizes, "ragged"))
    want = results("numba_cpu", problem, arguments)
    monkeypatch.setattr(team, "threads", lambda: count)
    for _ in range(3):
        got = results("numba_cpu", problem, arguments)
        assert not [name for name, tensor in want.items() if not torch.equal(got[name], tensor)]


@pytest.mark.parametrize("of", BOTH)
def test_gradients_are_those_of_finite_differences(of: str, make_layer: Any) -> None:
    fields = {"seq_len": 3, "batch": 4, "hidden_size": 5, "lengths": "uniform:1:3"}
    problem, arguments = make_layer(of, **fields)

    def layer(*tensors: Tensor | None) -> tuple[Tensor, ...]:
        return outputs("numba_cpu", problem, *tensors)

    assert torch.autograd.gradcheck(layer, flat(arguments), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, flat(arguments), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_numbers_are_computed_in_float32(dtype: torch.dtype) -> None:
    narrow = lk.Recurrent("lstm_layernorm", 16, 24, backend="numba_cpu").to(dtype)
    wide = lk.Recurrent("lstm_layernorm", 16, 24, backend="numba_cpu")
    wide.load_state_dict(narrow.state_dict())
    x = torch.randn(5, 3, 16).to(dtype)
    y, (_, c) = narrow(x)
    expected, (_, last) = wide(x.float())
    assert torch.equal(y, expected.to(dtype))
    bound = closeness.LAYER[str(dtype).removeprefix("torch.")]
    assert closeness.relative_error(y, expected) < bound
    assert closeness.relative_error(c, last) < bound


def test_a_large_mean_leaves_the_variance_its_digits(make_layer: Any) -> None:
    """The variance is of differences from the mean: squares of large numbers would swallow it."""
    problem, arguments = make_layer("lstm_layernorm", **SIZES["odd"], dtype="float32")
    (weights,) = arguments["weights"]
    with torch.no_grad():
        arguments["x"].fill_(1).add_(torch.randn_like(arguments["x"]) / 1000)
        weights.w_ih.fill_(500).add_(torch.randn_like(weights.w_ih))
    y = results("numba_cpu", problem, arguments)["y"]
    want = results("reference", *widened(problem, arguments))["y"]
    assert closeness.relative_error(y, want) < 1e-2
