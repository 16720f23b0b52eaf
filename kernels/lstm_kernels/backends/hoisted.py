"""The input product of all steps at once, before the loop; then one product a step.

Idea: x W_ih^T + b_ih does not depend on the state, so T products of [B, I] become one of
[T*B, I]. Source: "inputs batched" in NVIDIA's "Optimizing Recurrent Neural Networks in cuDNN 5".
Limits: holds [T, B, G*H] at once.
"""

from torch import Tensor

from lstm_kernels.common.refusals import device_limit
from lstm_kernels.common.unroll import run_directions, unroll_hoisted
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
