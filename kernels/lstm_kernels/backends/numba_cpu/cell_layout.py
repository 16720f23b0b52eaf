"""How a cell's definition shapes the kernels: the number of vectors of each kind, and their order.

Forward, a unit has its pre-activations in the order of `Cell.slots`: those that x W_ih^T goes into
come first, block by block of w_ih. Backward, it has a gradient a slot, those that meet both
matrices in the middle: so those for W_ih are one run, those for W_hh another. Behind them
come the gradients of per-unit parameters, which are summed over all pairs like those of biases.

A cell that normalises saves its pre-activations, and its kernels compute the rest again.
"""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Any

from lstm_kernels.cells import Cell, Slot
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.cells.code.stages import Staged, staged
from lstm_kernels.cells.code.symbols import ZERO

# Vectors in a row of a product, and of a panel.
VECTORS = 4
# The most levels of norms that kernels have code for.
DEPTH = 3


@dataclass(frozen=True)
class CellLayout:
    """The numbers of vectors in a block of units, by cell; -1 in a tuple means none.

    `x_gates` and `h_gates` are blocks of rows of W_ih and W_hh, which a forward panel holds for
    `blocks` blocks of units, in `x_vectors` and `h_vectors` vectors. `line` is what a pair has in
    `gates`: its pre-activations, then the `saved` values in their place. `own` are `states` other
    than h, of which `kept` are those that the backward uses.

    Of the `d_units` gradients `place_of` has each slot's place. `x_gate_at` and `h_gate_at` say
    which gate of W_ih and W_hh belongs to a place, `x_gate_of` and `h_gate_of` which to a slot;
    places of W_hh begin at `h_begin`. `carries_h` is 1 if a gradient of h bypasses the product.
    `x_bias_of`, `h_bias_of`, `x_bias_at` and `h_bias_at` say of b_ih and b_hh what the others say
    of W_ih and W_hh: they differ where products are bare.
    `joined` is 1 if every slot is the sum of one gate's two products, in the same layout.
    `by_head` is 1 in kernels for a W_hh of several heads.
    `normed` is 1 if the cell's step is in stages (`cells.code.stages`), between norms `over_units`
    or else `over_batch`. Norm n takes the values from `norm_begin[n]` to `norm_begin[n + 1]`, of
    all `values`, and level k has the norms from `level_begin[k - 1]` to `level_begin[k]`.
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
    x_bias_of: tuple[int, ...]
    h_bias_of: tuple[int, ...]
    x_bias_at: tuple[int, ...]
    h_bias_at: tuple[int, ...]
    joined: int
    by_head: int
    normed: int
    over_units: int
    over_batch: int
    states: int
    values: int
    norm_begin: tuple[int, ...]
    level_begin: tuple[int, ...]


@cache
def layout_of(cell: Cell, by_head: bool = False) -> CellLayout:
    """The layout of a cell, whose gates are few enough for a panel: see `reason_against`.

    Args:
        by_head: whether W_hh has several heads.
    """
    slots, in_stages = cell.slots, staged(cell)
    per_unit = len(cell.per_unit)
    order = sorted(range(len(slots)), key=lambda at: _place(slots[at]))
    blocks = max(VECTORS // cell.x_blocks, 1)
    saved, kept, carries_h = _kept_of(cell) if in_stages is None else _kept_in_stages(in_stages)
    x_bias_of, h_bias_of = zip(*(_biases_of(cell, slot) for slot in slots), strict=True)
    return CellLayout(
        slots=len(slots),
        x_gates=cell.x_blocks,
        h_gates=cell.h_blocks,
        blocks=blocks,
        x_vectors=blocks * cell.x_blocks,
        h_vectors=blocks * cell.h_blocks,
        x_gate_of=tuple(_or_none(slot.x) for slot in slots),
        h_gate_of=tuple(_or_none(slot.h) for slot in slots),
        line=max(len(slots), saved),
        saved=saved,
        own=cell.own_states,
        states=len(cell.states),
        kept=kept,
        kept_states=len(kept),
        per_unit=per_unit,
        d_units=len(slots) + per_unit,
        place_of=tuple(order.index(at) for at in range(len(slots))),
        x_gate_at=tuple(_or_none(slots[at].x) for at in order),
        h_gate_at=tuple(_or_none(slots[at].h) for at in order),
        h_begin=sum(slot.x is not None and slot.h is None for slot in slots),
        carries_h=int(carries_h),
        x_bias_of=x_bias_of,
        h_bias_of=h_bias_of,
        x_bias_at=tuple(x_bias_of[at] for at in order),
        h_bias_at=tuple(h_bias_of[at] for at in order),
        joined=int(
            all(slot.x == slot.h == at for at, slot in enumerate(slots))
            and (blocks == 1 or saved <= len(slots))
        ),
        by_head=int(by_head),
        **_stages_of(in_stages),
    )


def _place(slot: Slot) -> tuple[bool, ...]:
    """The order of places: those of x alone, of both, of h alone; biases alone come last."""
    return slot.x is None and slot.h is None, slot.x is None, slot.h is not None


def _kept_of(cell: Cell) -> tuple[int, tuple[int, ...], bool]:
    """How many values a forward saves, which states it keeps, and whether h has a carry."""
    made = derived(cell)
    used = zip(made.uses_before[1:], made.uses_after[1:], strict=True)
    kept = tuple(at for at, uses in enumerate(used) if any(uses))
    return len(made.saved), kept, made.carries[0]


def _kept_in_stages(made: Staged) -> tuple[int, tuple[int, ...], bool]:
    """The same of a step in stages, which a backward computes again."""
    own = tuple(range(len(made.step.before) - 1))
    return len(made.step.slots), own, made.gradients.d_before[0] is not ZERO


def _biases_of(cell: Cell, slot: Slot) -> tuple[int, int]:
    """The blocks of b_ih and of b_hh that are added to a slot, -1 for none."""
    gate, _, part = slot.name.rpartition("_")
    if gate in cell.bare and slot.name not in cell.gates:
        # The first gates of both, and so the same ones.
        at = cell.gates.index(gate) if part == "b" else -1
        return at, at
    return _or_none(slot.x), _or_none(slot.h)


def _stages_of(made: Staged | None) -> dict[str, Any]:
    """The fields of a step in stages; none of a step without norms."""
    levels = () if made is None else made.levels
    norm_of = () if made is None else made.norm_of
    depth = max(levels, default=0)
    over_batch = made is not None and any(norm.op == "batch_norm" for norm in made.norms)
    return {
        "normed": int(made is not None),
        "over_units": int(not over_batch),
        "over_batch": int(over_batch),
        "values": len(norm_of),
        "norm_begin": tuple(bisect_left(norm_of, norm) for norm in range(len(levels) + 1)),
        "level_begin": tuple(bisect_left(levels, level + 1) for level in range(depth + 1)),
    }


def reason_against(cell: Cell) -> str | None:
    """Why there cannot be kernels for a cell, or None."""
    if cell.x_blocks > VECTORS:
        return f"cell {cell.name!r} has {cell.x_blocks} gates, and a panel holds {VECTORS}"
    made = staged(cell)
    if made is None:
        return None
    if len({norm.op for norm in made.norms}) > 1:
        return (
            f"cell {cell.name!r} normalises over all units and over the batch, and there is "
            "code for one of them"
        )
    if made.depth > DEPTH:
        return (
            f"cell {cell.name!r} normalises {made.depth} times one after another, and there is "
            f"code for {DEPTH}"
        )
    return None


def _or_none(block: int | None) -> int:
    return -1 if block is None else block
