"""Gradients that can be differentiated again: by PyTorch's operations, from a layer's inputs.

What a kernel writes has no graph. So where a backward runs with gradients enabled, which is what
`create_graph=True` does, a backend's autograd Function returns `layer_gradients` in place of its
kernel's, from the inputs it saved. Without, nothing differs and nothing more is saved.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lstm_kernels.common.packing import packed, padded
from lstm_kernels.common.unroll import run_directions, unroll_hoisted
from lstm_kernels.problem import Problem
from lstm_kernels.stack import unflatten


def layer_gradients(
    problem: Problem,
    inputs: Sequence[Tensor | None],
    lengths: Tensor | None,
    d_outputs: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """A layer's gradients, differentiable in its inputs and in `d_outputs`.

    Runs the layer again, as the backend `hoisted` does, and holds the graph of both passes.

    Args:
        inputs: x [T, B, I], or [R, I] packed, h0 [D, B, S], c0 [D, B, H] or None, then the
            weights' tensors one after another, each with its own graph: as `ctx.saved_tensors`
            gives them.
        lengths: [B], on any device, or None.
        d_outputs: the gradients of y, h_n and, where the cell has one, c_n.
        needed: which of `inputs` need a gradient.
    Returns:
        A gradient for each of `inputs`, None for what needs none or had no part.
    """
    # A view each, so that what one input has to do with another stays out of its gradient.
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
        # Not every output needs to have a gradient: of one projected step, c_n has none by w_hr.
        pairs = [
            (output, d_output)
            for output, d_output in zip(outputs, d_outputs, strict=False)
            if output is not None and output.requires_grad and d_output is not None
        ]
        wanted = [
            tensor for tensor, need in zip(own, needed, strict=True) if tensor is not None and need
        ]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in pairs],
                wanted,
                [d_output for _, d_output in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return tuple(next(found) if need else None for need in needed)


def refuse_second_derivatives(outputs: Iterable[Tensor | None], reason: str) -> None:
    """Have a backward from these outputs raise where it runs with `create_graph=True`.

    For what would be wrong there without a word.

    Raises:
        RuntimeError: in that backward, with the reason.
    """

    def refuse(d_outputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            raise RuntimeError(reason)

    for output in outputs:
        if output is not None and output.grad_fn is not None:
            output.grad_fn.register_prehook(refuse)
