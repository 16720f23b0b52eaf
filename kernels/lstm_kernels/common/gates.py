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
        weights: of several heads as `by_head` gives them.
    Returns:
        h [B, S] and c [B, K*H] or None.
    """
    w_hh, b_hh = weights.w_hh, weights.b_hh
    if code.again:
        rows = w_hh.shape[0] - code.again * w_hh.shape[1]
        w_hh, b_hh = w_hh[:rows], None if b_hh is None else b_hh[:rows]
    from_h = product(h, w_hh, b_hh)
    p = _summed(code, from_x, from_h) if code.others else (from_x + from_h).chunk(code.both, -1)
    return activate(code, p, h, c, weights)


def by_head(weights: tuple[Weights, ...], heads: int) -> tuple[Weights, ...]:
    """The weights as a loop multiplies by them: each w_hh of several heads is [N, G*H/N, H/N].

    Found before the loop: at every step it would be a copy of the weights.
    """
    if heads == 1:
        return weights
    return tuple(one._replace(w_hh=_by_head(one.w_hh, heads)) for one in weights)


def _by_head(w_hh: Tensor, heads: int) -> Tensor:
    met = w_hh.shape[1]
    of_heads: Tensor = w_hh.unflatten(0, (-1, heads, met)).transpose(0, 1)
    return of_heads.flatten(1, 2)


def product(h: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """What some gates have of h: [B, G*H] from h [B, S] and W_hh's rows, or `by_head` those."""
    if w.dim() == 2:
        return linear(h, w, b)
    heads, _, met = w.shape
    of_heads = torch.bmm(h.unflatten(1, (heads, met)).transpose(0, 1), w.transpose(1, 2))
    from_h: Tensor = of_heads.unflatten(2, (-1, met)).permute(1, 2, 0, 3).flatten(1)
    return from_h if b is None else from_h + b


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
