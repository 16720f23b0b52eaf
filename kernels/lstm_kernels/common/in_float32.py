"""A layer of a narrower dtype, computed in float32: for a backend that has no kernel for it."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, unflatten


def is_narrow(problem: Problem) -> bool:
    """Whether its numbers have fewer bits than float32's."""
    return problem.element_bytes < 4


def widened(problem: Problem) -> Problem:
    """The problem that replaces a narrow one; any other does not change."""
    return replace(problem, dtype="float32") if is_narrow(problem) else problem


def in_float32(
    layer: Callable[..., Outputs],
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
) -> Outputs:
    """The result of `layer` on float32 copies, rounded to the dtype of x once, at the end.

    Args:
        layer: it gets only x, h0, c0 and weights.
    """
    flat = [None if t is None else t.float() for one in weights for t in one]
    y, h_n, c_n = layer(
        x.float(),
        h0.float(),
        None if c0 is None else c0.float(),
        unflatten(flat),
    )
    return y.to(x), h_n.to(x), None if c_n is None else c_n.to(x)
