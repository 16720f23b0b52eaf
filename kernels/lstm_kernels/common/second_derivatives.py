"""Gradients that can be differentiated again: with PyTorch's operations, from a layer's inputs.

The result of a kernel has no graph. So if a backward runs with gradients enabled, which is what
`create_graph=True` does, a backend's autograd Function returns `layer_gradients` in place of its
kernel's, from the inputs it saved. Otherwise nothing changes and nothing more is saved.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.common.packing import packed, padded
from lstm_kernels.common.unroll import run_directions, unroll_hoisted
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, unflatten


def layer_gradients(
    problem: Problem,
    inputs: Sequence[Tensor | None],
    lengths: Tensor | None,
    d_outputs: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """A layer's gradients, differentiable in its inputs and in `d_outputs`.

    It runs the layer again, as the backend `hoisted` does, and holds the graph of both passes.

    Args:
        inputs: x [T, B, I], or [R, I] packed, h0 [D, B, S], c0 [D, B, H] or None, then the
            weights' tensors one after another, each with its own graph: as `ctx.saved_tensors`
            gives them.
        lengths: [B], on any device, or None.
        d_outputs: the gradients of y, h_n and, where the cell has one, c_n.
        needed: which of `inputs` need a gradient.
    Returns:
        A gradient for each of `inputs`, None for one that needs none or was not used.
    """
    # A view of each, so that a relation between inputs stays out of the gradients.
    own = [
        tensor.view_as(tensor) if tensor is not None and need else tensor
        for tensor, need in zip(inputs, needed, strict=True)
    ]
    x, h0, c0, *flat = own
    assert x is not None
    assert h0 is not None
    unpacked = lengths if x.dim() == 2 else None
    with torch.autocast(x.device.type, enabled=False):
        y, *states = run_directions(
            unroll_hoisted,
            padded(x, unpacked),
            h0,
            c0,
            unflatten(flat),
            problem=problem,
            lengths=lengths,
        )
        outputs = (packed(y, unpacked), *states)
        return _gradients(outputs, own, d_outputs, needed, create_graph=True)


def _gradients(
    outputs: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
    d_outputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    **how: bool,
) -> tuple[Tensor | None, ...]:
    """A gradient for each of `inputs` that needs one and was used, else None."""
    # Not every output depends on each input: with one projected step, c_n does not depend on w_hr.
    pairs = [
        (output, d_output)
        for output, d_output in zip(outputs, d_outputs, strict=False)
        if output is not None and output.requires_grad and d_output is not None
    ]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            [t for t, need in zip(inputs, needed, strict=True) if t is not None and need],
            [d_output for _, d_output in pairs],
            allow_unused=True,
            **how,
        )
    )
    return tuple(next(found) if need else None for need in needed)


class Recorded(torch.autograd.Function):
    """A layer whose own graph gives only first derivatives, as torch.compile's does.

    Its graph is kept separately, and the backward runs it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[..., Outputs],
        problem: Problem,
        lengths: Tensor | None,
        *inputs: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """y, h_n and, if the cell has one, c_n: the result of `run` on the inputs."""
        own = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        with torch.enable_grad():
            outputs = [output for output in run(*own) if output is not None]
        ctx.problem, ctx.lengths, ctx.count = problem, lengths, len(inputs)
        # The graph of saved outputs is freed with them, after a backward that keeps nothing.
        ctx.save_for_backward(*inputs, *own, *outputs)
        return tuple(output.detach() for output in outputs)

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor) -> Any:
        """The gradients of what `forward` takes, in its order; None for what has none."""
        saved, count = ctx.saved_tensors, ctx.count
        inputs, own, outputs = saved[:count], saved[count : 2 * count], saved[2 * count :]
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            found = layer_gradients(ctx.problem, inputs, ctx.lengths, d_outputs, needed)
            return None, None, None, *found
        # As the caller of this backward sets it: torch.compile's own graph may not be kept.
        keeps = torch._C._autograd._get_current_graph_task_keep_graph()
        found = _gradients(outputs, own, d_outputs, needed, retain_graph=keeps)
        return None, None, None, *found
