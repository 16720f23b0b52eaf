"""The input product of all steps at once, before the loop; then one product a step.

Idea: x W_ih^T + b_ih does not depend on the state, so T products of [B, I] become one of
[T*B, I]. Source: "inputs batched" in NVIDIA's "Optimizing Recurrent Neural Networks in cuDNN 5".
Limits: holds [T, B, G*H] at once.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from lstm_kernels.common.gates import input_product, step_code
from lstm_kernels.common.refusals import device_limit
from lstm_kernels.common.unroll import run_directions, unroll_hoisted, unroll_steps
from lstm_kernels.phases import Note, note_backward
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says."""
    return run_directions(unroll_hoisted, x, h0, c0, weights, problem=problem, lengths=lengths)


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return device_limit(problem, device)


def in_phases(note: Note) -> Any:
    """The same layer, which notes its phases: see `lstm_kernels.phases`."""

    def one_direction(
        x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
    ) -> Outputs:
        code = step_code(cell)
        # Not a leaf: a leaf would keep what is asked of it for later calls too.
        weights = weights._replace(w_ih=weights.w_ih.view_as(weights.w_ih))
        from_x = input_product(code, x, weights)
        note("x W_ih^T")
        note_backward(note, "backward: steps", from_x)
        # Autograd makes the gradients of both factors of a product at once.
        note_backward(note, "backward: x W_ih^T", weights.w_ih)
        outputs = unroll_steps(code, from_x, h, c, weights, alive)
        note("steps")
        return outputs

    return SimpleNamespace(layer=partial(run_directions, one_direction))
