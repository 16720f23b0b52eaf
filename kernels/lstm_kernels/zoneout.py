"""Zoneout: at random a unit keeps its state for a step, of any cell.

The cell with zoneout is another cell: it has one more gate for every state, from x only, which says
how much of the state before is kept. The masks are additional columns of x, which an identity
in w_ih passes to those gates. So no kernel changes, but the input product is longer: for an
LSTM with I = H it has 4.5 times the multiplications. In evaluation every gate is the
probability itself, so that states have their expected values.

Source: Krueger et al. 2016, "Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations".
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from lstm_kernels.cells import Cell, add_cells
from lstm_kernels.stack import Weights


@cache
def zoned(cell: Cell) -> Cell:
    """The cell with zoneout of each of its states: `keep_h` and so on are its last gates.

    Raises:
        ValueError: it multiplies by W_hh again, with gates that have to be the last ones
            themselves.
    """
    if cell.again:
        raise ValueError(
            f"zoneout with cell {cell.name!r}, which multiplies by W_hh again; "
            "expected a cell that does so once a step"
        )
    gates = tuple(f"keep_{name}" for name in cell.states)

    def step(p, *given):  # type: ignore[no-untyped-def] # symbols
        found = cell.step(p, *given)
        after = found if isinstance(found, tuple) else (found,)
        return tuple(
            new + getattr(p, gate) * (before - new)
            for new, before, gate in zip(after, given, gates, strict=False)
        )

    made = replace(
        cell,
        name=f"{cell.name}_zoneout",
        gates=(*cell.gates, *gates),
        step=step,
        from_x=(*cell.from_x, *gates),
    )
    taken = {slot.name for slot in cell.slots} & set(gates)
    if taken:
        raise ValueError(
            f"zoneout with cell {cell.name!r}, which already has a gate {taken.pop()!r}; "
            "give that gate another name"
        )
    add_cells([made], "zoneout")
    return made


def masks(
    x: Tensor, probabilities: Sequence[float], H: int, *, directions: int, training: bool
) -> Tensor:
    """The part of each state that is kept at each step, [T, B, D*S*H]: 0 or 1 while training."""
    T, B, _ = x.shape
    each = []
    for probability in list(probabilities) * directions:
        kept = x.new_full((T, B, H), probability)
        each.append(torch.bernoulli(kept) if training else kept)
    return torch.cat(each, -1)


def zoned_weights(weights: Sequence[Weights], cell: Cell, H: int) -> tuple[Weights, ...]:
    """The weights of each direction for x with `masks` appended; each reads its own columns."""
    S, D = len(cell.states), len(weights)
    kept = torch.eye(S * H, dtype=weights[0].w_ih.dtype, device=weights[0].w_ih.device)
    found = []
    for direction, one in enumerate(weights):
        rows, inputs = one.w_ih.shape
        others = [kept if d == direction else torch.zeros_like(kept) for d in range(D)]
        gates = torch.cat([one.w_ih, one.w_ih.new_zeros(rows, D * S * H)], 1)
        masks = torch.cat([one.w_ih.new_zeros(S * H, inputs), *others], 1)
        b_ih = None if one.b_ih is None else torch.cat([one.b_ih, one.b_ih.new_zeros(S * H)])
        found.append(one._replace(w_ih=torch.cat([gates, masks]), b_ih=b_ih))
    return tuple(found)
