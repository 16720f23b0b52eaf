"""One step's arithmetic, past the products: from pre-activations to the next state.

Plain PyTorch, shared by every backend that loops over time in Python; written from the cell's
definition (`lstm_kernels.cells`). Gates come in the definition's order, which for an LSTM and a GRU
is PyTorch's: i, f, g, o and r, z, n.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.cells.code.emit import TORCH, compiled

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
    # Of the others the block of each product, None where it has no part.
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
        tuple((slot.x, slot.h) for slot in definition.slots[both:]),
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
    code: StepCode,
    from_x: Tensor,
    from_h: Tensor,
    h: Tensor,
    c: Tensor | None,
    per_unit: Tensor | None,
    w_hr: Tensor | None,
) -> State:
    """The state after a step, from the two products of all gates at once.

    Args:
        from_x: [B, G*H], x W_ih^T + b_ih. from_h: [B, G*H], h W_hh^T + b_hh, of what meets h.
        h: [B, S], the state before; c: [B, K*H], a unit's own states side by side, or None.
        per_unit: [U*H] or None. w_hr: [P, H] where h is projected, else None.
    Returns:
        h [B, S] and c [B, K*H] or None.
    """
    H = from_x.shape[-1] // code.x_blocks
    if code.both == code.x_blocks == code.h_blocks:
        p = list((from_x + from_h).chunk(code.both, -1))
    elif code.both:
        together = code.both * H
        sums = from_x.narrow(-1, 0, together) + from_h.narrow(-1, 0, together)
        p = list(sums.chunk(code.both, -1))
    else:
        p = []
    if code.others:
        p += _each(code.others, from_x.split(H, -1), from_h.split(H, -1))
    return activate(code, p, h, c, per_unit, w_hr)


def add_gates(
    code: StepCode, from_x: Sequence[Tensor], from_h: Sequence[Tensor]
) -> Sequence[Tensor]:
    """What `activate` takes, from the products of each gate, each [B, H]."""
    alike: tuple[tuple[int | None, int | None], ...] = tuple((at, at) for at in range(code.both))
    return _each((*alike, *code.others), from_x, from_h)


def activate(
    code: StepCode,
    p: Sequence[Tensor],
    h: Tensor,
    c: Tensor | None,
    per_unit: Tensor | None,
    w_hr: Tensor | None,
) -> State:
    """The next state from a step's pre-activations, each [B, H], in the order of `Cell.slots`."""
    own = () if c is None else c.chunk(code.own_states, -1)
    units = () if per_unit is None else per_unit.chunk(code.units)
    (h, *own), _ = code.function(p, (h, *own), units)
    c = None if c is None else own[0] if len(own) == 1 else torch.cat(own, -1)
    return (h if w_hr is None else linear(h, w_hr)), c


def _each(
    slots: Sequence[tuple[int | None, int | None]],
    from_x: Sequence[Tensor],
    from_h: Sequence[Tensor],
) -> list[Tensor]:
    """Pre-activations, of one product or of both."""
    found = []
    for x, h in slots:
        if x is None:
            assert h is not None
            found.append(from_h[h])
        else:
            found.append(from_x[x] if h is None else from_x[x] + from_h[h])
    return found
