"""Gradients: of float64 against finite differences, of narrower dtypes against float64."""

from dataclasses import replace
from typing import Any

import closeness
import pytest
import torch
from any_cells import variants
from layer_outputs import flat, outputs

from lstm_kernels import registry
from lstm_kernels.registry import TORCH_CELLS

SHAPES = {
    "one": {},
    "one-step": {"seq_len": 1},
    "no-bias": {"bias": False},
    "deep-bidirectional": {
        **{"num_layers": 2, "bidirectional": True},
        **{"seq_len": 2, "input_size": 3, "hidden_size": 2},
    },
    "ragged": {"bidirectional": True, "lengths": "uniform:1:3"},
    "projected": {"proj_size": 2},
}


SIZES = {"seq_len": 3, "batch": 2, "input_size": 2, "hidden_size": 3}
CASES = [
    (cell, name) for cell in TORCH_CELLS for name in SHAPES if cell == "lstm" or name != "projected"
]

# Every shape with one cell, every cell with the shape that has most in it.
FEW = [(cell, shape) for cell, shape in CASES if cell == "lstm" or shape == "ragged"]

every_case = pytest.mark.parametrize(
    ("cell", "shape"),
    [pytest.param(*c, marks=[] if c in FEW else pytest.mark.slow) for c in CASES],
    ids=["-".join(c) for c in CASES],
)


@every_case
def test_gradcheck(
    backend: str, cell: str, shape: str, make_layer: Any, skip_where_refused: Any
) -> None:
    problem, arguments = make_layer(cell, **SIZES | SHAPES[shape])
    skip_where_refused(backend, problem)
    # One element after another takes interpreted kernels minutes: along one direction, of them.
    assert torch.autograd.gradcheck(
        lambda *tensors: outputs(backend, problem, *tensors),
        flat(arguments),
        fast_mode=bool(registry.get(backend).interpreter),
    )


@pytest.mark.parametrize(("on", "of"), variants(fast=["naive"]))
def test_gradcheck_of_variants(on: str, of: str, make_layer: Any, skip_where_refused: Any) -> None:
    """Both directions, lengths of their own, parameters a unit and all states, where there are."""
    problem, arguments = make_layer(of, **SIZES | SHAPES["ragged"])
    skip_where_refused(on, problem)
    assert torch.autograd.gradcheck(
        lambda *tensors: outputs(on, problem, *tensors),
        flat(arguments),
        fast_mode=bool(registry.get(on).interpreter),
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@every_case
def test_gradients_equal_float64_ones(
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
    leaves = flat(arguments)
    doubled = [None if t is None else t.detach().double().requires_grad_() for t in leaves]
    # naive: gradcheck proves it above.
    runs = [(backend, problem, leaves), ("naive", replace(problem, dtype="float64"), doubled)]
    gradients = []
    for name, asked, tensors in runs:
        ys = outputs(name, asked, *tensors)
        weights = [torch.linspace(-1, 1.5, y.numel()).view_as(y).to(y) for y in ys]
        torch.autograd.backward(ys, weights)
        gradients.append({str(i): t.grad for i, t in enumerate(tensors) if t is not None})
    assert_same(*gradients, bound=closeness.FEW_UNITS[dtype])
