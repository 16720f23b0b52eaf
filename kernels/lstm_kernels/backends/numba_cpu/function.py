"""The autograd Function around a layer's two kernels."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_kernels.backends.numba_cpu.sequence import (
    Run,
    Saved,
    packable,
    run_backward,
    run_forward,
    run_kernel,
)
from lstm_kernels.common.second_derivatives import layer_gradients
from lstm_kernels.problem import Problem
from lstm_kernels.stack import unflatten


class Runner(NamedTuple):
    """What runs the kernels of a layer, and the autograd Function of a layer that has them run."""

    run: Run
    function: Any


def runner_of(run: Run) -> Runner:
    """A runner that runs each kernel so.

    It has a Function of its own: one more argument would make every call of a layer slower.
    """

    class NumbaLayer(torch.autograd.Function):
        """One layer, one or both directions, with gradients of x, the states and every weight."""

        @staticmethod
        def forward(
            ctx: Any,
            problem: Problem,
            lengths: Tensor | None,
            x: Tensor,
            h0: Tensor,
            c0: Tensor | None,
            *flat: Tensor | None,
        ) -> tuple[Tensor, ...]:
            """y, h_n and, where the cell has one, c_n; keeps what the backward needs."""
            weights = packable(unflatten(flat))
            y, h_n, c_n, saved = run_forward(run, problem, x, h0, c0, weights, lengths, saves=True)
            ctx.problem, ctx.lengths = problem, lengths
            ctx.save_for_backward(x, h0, c0, y, *saved, *flat)
            return (y, h_n) if c_n is None else (y, h_n, c_n)

        @staticmethod
        def backward(ctx: Any, d_y: Tensor, d_h_n: Tensor, d_c_n: Tensor | None = None) -> Any:
            """The gradients of what `forward` takes, in its order; None for what has none."""
            x, h0, c0, y, gates, cells, *flat = ctx.saved_tensors
            needed = ctx.needs_input_grad[2:]
            if torch.is_grad_enabled():
                inputs, d_outputs = (x, h0, c0, *flat), (d_y, d_h_n, d_c_n)
                found = layer_gradients(ctx.problem, inputs, ctx.lengths, d_outputs, needed)
                return None, None, *found
            found = run_backward(
                run,
                ctx.problem,
                d_y.contiguous(),
                d_h_n.contiguous(),
                None if d_c_n is None else d_c_n.contiguous(),
                x,
                h0,
                c0,
                y,
                Saved(gates, cells),
                packable(unflatten(flat)),
                ctx.lengths,
                needed,
            )
            return None, None, *found

    return Runner(run, NumbaLayer)


PLAIN = runner_of(run_kernel)
