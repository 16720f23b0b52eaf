"""A backend's outputs as a function of tensors, one after another, as autograd's checks want it."""

from typing import Any

import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.stack import run, unflatten


def outputs(
    backend: str, problem: lk.Problem, *tensors: Tensor | None, recompute: bool = False
) -> tuple[Tensor, ...]:
    """y, h_n and, where the cell has one, c_n, of what `flat` returns."""
    lengths = None if problem.lengths == "full" else torch.tensor(problem.sequence_lengths())
    returned = run(
        registry.load(backend),
        *tensors[:3],
        unflatten(tensors[3:]),
        problem=problem,
        lengths=lengths,
        recompute=recompute,
    )
    return tuple(output for output in returned if output is not None)


def flat(arguments: dict[str, Any]) -> list[Tensor | None]:
    """Tensors of `make_layer`, as `outputs` takes them."""
    weights = [tensor for direction in arguments["weights"] for tensor in direction]
    return [arguments["x"], arguments["h0"], arguments["c0"], *weights]
