"""How a cell's definition shapes the kernels: the number of vectors of each kind, and their order.

Forward, a unit has its pre-activations in the order of `Cell.slots`: those that x W_ih^T goes into
come first, block by block of w_ih. Backward, it has a gradient a slot, those that meet both
matrices in the middle: so those for W_ih are one run, those for W_hh another. Behind them
come the gradients of per-unit parameters, which are summed over all pairs like those of biases.
"""

from dataclasses import dataclass
from functools import cache

from lstm_kernels.cells import Cell
from lstm_kernels.cells.code.derive import derived

# Vectors in a row of a product, and of a panel.
VECTORS = 4


@dataclass(frozen=True)
class CellLayout:
    """The numbers of vectors in a block of units, by cell; -1 in a tuple means none.

    `x_gates` and `h_gates` are blocks of rows of W_ih and W_hh, which a forward panel holds for
    `blocks` blocks of units, in `x_vectors` and `h_vectors` vectors. `line` is what a pair has in
    `gates`: its pre-activations, then the `saved` values in their place. `own` are states other
    than h, of which `kept` are those that the backward uses.

    Of the `d_units` gradients `place_of` has each slot's place. `x_gate_at` and `h_gate_at` say
    which gate of W_ih and W_hh belongs to a place, `x_gate_of` and `h_gate_of` which to a slot;
    places of W_hh begin at `h_begin`. `carries_h` is 1 if a gradient of h bypasses the product.
    `joined` is 1 if every slot is the sum of one gate's two products, in the same layout.
    """

    slots: int
    x_gates: int
    h_gates: int
    blocks: int
    x_vectors: int
    h_vectors: int
    x_gate_of: tuple[int, ...]
    h_gate_of: tuple[int, ...]
    line: int
    saved: int
    own: int
    kept: tuple[int, ...]
    kept_states: int
    per_unit: int
    d_units: int
    place_of: tuple[int, ...]
    x_gate_at: tuple[int, ...]
    h_gate_at: tuple[int, ...]
    h_begin: int
    carries_h: int
    joined: int


@cache
def layout_of(cell: Cell) -> CellLayout:
    """The layout of a cell, whose gates are few enough for a panel: see `reason_against`."""
    made, slots = derived(cell), cell.slots
    per_unit = len(cell.per_unit)
    order = sorted(range(len(slots)), key=lambda at: (slots[at].x is None, slots[at].h is not None))
    blocks = max(VECTORS // cell.x_blocks, 1)
    used = zip(made.uses_before[1:], made.uses_after[1:], strict=True)
    kept = tuple(at for at, uses in enumerate(used) if any(uses))
    return CellLayout(
        slots=len(slots),
        x_gates=cell.x_blocks,
        h_gates=cell.h_blocks,
        blocks=blocks,
        x_vectors=blocks * cell.x_blocks,
        h_vectors=blocks * cell.h_blocks,
        x_gate_of=tuple(_or_none(slot.x) for slot in slots),
        h_gate_of=tuple(_or_none(slot.h) for slot in slots),
        line=max(len(slots), len(made.saved)),
        saved=len(made.saved),
        own=cell.own_states,
        kept=kept,
        kept_states=len(kept),
        per_unit=per_unit,
        d_units=len(slots) + per_unit,
        place_of=tuple(order.index(at) for at in range(len(slots))),
        x_gate_at=tuple(_or_none(slots[at].x) for at in order),
        h_gate_at=tuple(_or_none(slots[at].h) for at in order),
        h_begin=sum(slot.h is None for slot in slots),
        carries_h=int(made.carries[0]),
        joined=int(
            all(slot.x == slot.h == at for at, slot in enumerate(slots))
            and (blocks == 1 or len(made.saved) <= len(slots))
        ),
    )


def reason_against(cell: Cell) -> str | None:
    """Why there cannot be kernels for a cell, or None."""
    if cell.x_blocks > VECTORS:
        return f"cell {cell.name!r} has {cell.x_blocks} gates, and a panel holds {VECTORS}"
    return None


def _or_none(block: int | None) -> int:
    return -1 if block is None else block
