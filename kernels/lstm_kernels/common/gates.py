"""One step's arithmetic, past the products: from pre-activations to the next state.

Plain PyTorch, shared by every backend that loops over time in Python; written from the cell's
definition (`lstm_kernels.cells`). Gates come in the definition's order, which for an LSTM and a GRU
is PyTorch's: i, f, g, o and r, z, n.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.cells.code.emit import TORCH, compiled
from lstm_kernels.stack import Weights

State = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class StepCode:
    """A cell as a loop in Python runs it: its function, and where its pre-activations come from.

    Found before the loop, so that torch.compile sees numbers and a function, and no search.
    """

    function: Callable[..., Any]
    x_blocks: int
    h_blocks: int
    own_states: int
    units: int
    # Slots that lie in both products alike, from the first one on: added at once.
    both: int
    # Blocks of W_hh, the last ones, that a step meets with what it makes itself.
    again: int
    # Of the others the block of each product, counted from there; None where it has no part.
    others: tuple[tuple[int | None, int | None], ...]


@cache
def step_code(cell: str) -> StepCode:
    """The code of a cell by its name."""
    definition = CELLS[cell]
    both = _in_both(definition)
    return StepCode(
        torch_code(definition)["next_state"],
        definition.x_blocks,
        definition.h_blocks,
        definition.own_states,
        len(definition.per_unit),
        both,
        len(definition.again),
        tuple(
            (None if s.x is None else s.x - both, None if s.h is None else s.h - both)
            for s in definition.slots[both:]
        ),
    )


@cache
def torch_code(definition: Cell) -> dict[str, Any]:
    """The functions of a cell in PyTorch, by name: see `lstm_kernels.cells.code.emit`."""
    return compiled(definition, TORCH, {"torch": torch})


def _in_both(definition: Cell) -> int:
    count = 0
    for slot in definition.slots:
        if not slot.x == slot.h == count:
            break
        count += 1
    return count


def next_state(
    code: StepCode, from_x: Tensor, h: Tensor, c: Tensor | None, weights: Weights
) -> State:
    """The state after a step: one product with W_hh, then the rest.

    Args:
        from_x: [B, G*H], x W_ih^T + b_ih.
        h: [B, S], the state before; c: [B, K*H], a unit's own states side by side, or None.
    Returns:
        h [B, S] and c [B, K*H] or None.
    """
    w_hh, b_hh = weights.w_hh, weights.b_hh
    if code.again:
        rows = w_hh.shape[0] - code.again * w_hh.shape[1]
        w_hh, b_hh = w_hh[:rows], None if b_hh is None else b_hh[:rows]
    from_h = linear(h, w_hh, b_hh)
    p = _summed(code, from_x, from_h) if code.others else (from_x + from_h).chunk(code.both, -1)
    return activate(code, p, h, c, weights)


def add_gates(
    code: StepCode, from_x: Sequence[Tensor], from_h: Sequence[Tensor]
) -> Sequence[Tensor]:
    """What `activate` takes, from the products of each gate, each [B, H]."""
    alike = [from_x[at] + from_h[at] for at in range(code.both)]
    return [*alike, *_others(code, from_x[code.both :], from_h[code.both :])]


def activate(
    code: StepCode, p: Sequence[Tensor], h: Tensor, c: Tensor | None, weights: Weights
) -> State:
    """The next state from a step's pre-activations, each [B, H], in the order of `Cell.slots`."""
    if c is None:
        before: tuple[Tensor, ...] = (h,)
    elif code.own_states == 1:
        before = (h, c)
    else:
        before = (h, *c.chunk(code.own_states, -1))
    units = () if weights.per_unit is None else weights.per_unit.chunk(code.units)
    products = (_products(code, weights),) if code.again else ()
    (h, *own), _ = code.function(p, before, units, *products)
    if c is not None:
        c = own[0] if len(own) == 1 else torch.cat(own, -1)
    return (h if weights.w_hr is None else linear(h, weights.w_hr)), c


def _summed(code: StepCode, from_x: Tensor, from_h: Tensor) -> Sequence[Tensor]:
    """Pre-activations: those in both products by one addition, then the others."""
    H, both = from_x.shape[-1] // code.x_blocks, code.both
    if not both:
        return _others(code, from_x.split(H, -1), from_h.split(H, -1))
    x, *of_x = from_x.split([both * H] + [H] * (code.x_blocks - both), -1)
    h, *of_h = from_h.split([both * H] + [H] * (code.h_blocks - code.again - both), -1)
    return [*(x + h).chunk(both, -1), *_others(code, of_x, of_h)]


def _others(code: StepCode, of_x: Sequence[Tensor], of_h: Sequence[Tensor]) -> list[Tensor]:
    """The pre-activations beside those in both products, from the blocks beside those."""
    return [
        (of_x[x] if h is None else of_x[x] + of_h[h]) if x is not None else of_h[h or 0]
        for x, h in code.others
    ]


def _products(code: StepCode, weights: Weights) -> list[Callable[[Tensor], Tensor]]:
    """Of each gate that meets W_hh again, its product with what it is given."""
    H = weights.w_hh.shape[1]
    blocks = weights.w_hh.split(H)[-code.again :]
    biases = [None] * code.again if weights.b_hh is None else weights.b_hh.split(H)[-code.again :]
    return [partial(linear, weight=w, bias=b) for w, b in zip(blocks, biases, strict=True)]


def gradients_of_saved(
    cell: str,
    d_h: Tensor,
    d_c: Tensor | None,
    d_saved: Tensor | None,
    saved: Tensor | None,
    c_before: Tensor | None,
    c: Tensor | None,
    h_before: Tensor | None,
    h: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of one step's two products and of the state before it, differentiable.

    As `gpu.fused_gates.gradients`, whose names these are, in float32 or wider; but what was saved
    may have a gradient of its own, as it has where these gradients are differentiated again.

    Args:
        d_h, d_c: [B, H], gradients of the state after the step.
        saved: [B, 4*H], LSTM's activated i, f, g, o; GRU's r, z, n and n's part from h; None for a
            plain cell. d_saved: their gradient, or None.
        c_before, c: LSTM, the cell state before and after. h_before: GRU. h: plain cells.
    Returns:
        d_from_x, d_from_h [B, G*H], d_h_before and d_c_before [B, H], None where h acts through
        its product alone, or the cell has no c.
    """
    dtype = d_h.dtype
    wide = torch.promote_types(dtype, torch.float32)

    def widened(tensor: Tensor | None) -> Tensor:
        # What the cell has no use for is left empty.
        return d_h.new_empty(0) if tensor is None else tensor.to(wide)

    dh, dc = widened(d_h), widened(d_c)
    if saved is None:
        h = widened(h)
        d = (dh * (1 - h * h) if cell == "rnn_tanh" else torch.where(h > 0, dh, 0)).to(dtype)
        return d, d, None, None
    s0, s1, s2, s3 = widened(saved).chunk(4, dim=-1)
    d0, d1, d2, d3 = (0, 0, 0, 0) if d_saved is None else widened(d_saved).chunk(4, dim=-1)
    if cell == "lstm":
        t = torch.tanh(widened(c))
        dc = dc + dh * s3 * (1 - t * t)
        g0 = (dc * s2 + d0) * s0 * (1 - s0)
        g1 = (dc * widened(c_before) + d1) * s1 * (1 - s1)
        g2 = (dc * s0 + d2) * (1 - s2 * s2)
        g3 = (dh * t + d3) * s3 * (1 - s3)
        d_from_x = torch.cat([g0, g1, g2, g3], dim=-1).to(dtype)
        return d_from_x, d_from_x, None, (dc * s1).to(dtype)
    g1 = (dh * (widened(h_before) - s2) + d1) * s1 * (1 - s1)
    g2 = (dh * (1 - s1) + d2) * (1 - s2 * s2)
    g0 = (g2 * s3 + d0) * s0 * (1 - s0)
    g3 = g2 * s0 + d3
    d_from_x, d_from_h = torch.cat([g0, g1, g2], dim=-1), torch.cat([g0, g1, g3], dim=-1)
    return d_from_x.to(dtype), d_from_h.to(dtype), (dh * s1).to(dtype), None
