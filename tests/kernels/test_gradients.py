"""Gradients against finite differences, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lstm_kernels import registry
from lstm_kernels.stack import Weights, run

SHAPES = {
    "one": {},
    "one-step": {"seq_len": 1},
    "no-bias": {"bias": False},
    "deep-bidirectional": {"num_layers": 2, "bidirectional": True},
    "ragged": {"bidirectional": True, "lengths": "uniform:1:3"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck(
    backend: str, cell: str, shape: str, make_layer: Any, skip_where_refused: Any
) -> None:
    fields = {"seq_len": 3, "batch": 2, "input_size": 2, "hidden_size": 3} | SHAPES[shape]
    check(backend, cell, fields, make_layer, skip_where_refused)


def test_gradcheck_of_a_projection(backend: str, make_layer: Any, skip_where_refused: Any) -> None:
    fields = {"seq_len": 3, "batch": 2, "input_size": 2, "hidden_size": 3, "proj_size": 2}
    check(backend, "lstm", fields, make_layer, skip_where_refused)


def check(
    backend: str, cell: str, fields: dict[str, Any], make_layer: Any, skip_where_refused: Any
) -> None:
    problem, arguments = make_layer(cell, **fields)
    skip_where_refused(backend, problem)
    lengths = None if problem.lengths == "full" else torch.tensor(problem.sequence_lengths())
    flat = [arguments["x"], arguments["h0"], arguments["c0"]]
    flat += [tensor for weights in arguments["weights"] for tensor in weights]

    def outputs(*tensors: Tensor | None) -> tuple[Tensor, ...]:
        x, h0, c0, *rest = tensors
        weights = tuple(Weights._make(rest[i : i + 5]) for i in range(0, len(rest), 5))
        implementation = registry.load(backend)
        found = run(implementation, x, h0, c0, weights, problem=problem, lengths=lengths)
        return tuple(output for output in found if output is not None)

    assert torch.autograd.gradcheck(outputs, flat)
