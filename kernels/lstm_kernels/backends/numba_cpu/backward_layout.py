"""Where a backward has a chunk's gradients of the gates, and what the forward saved."""

from typing import Any

from lstm_kernels.backends.numba_cpu.layout import first_pair, order_of, pair_of, panels_of
from lstm_kernels.backends.numba_cpu.products import in_pairs, padded_k
from lstm_kernels.backends.numba_cpu.simd import VECTOR_BYTES, inlined, itemsize, lanes


@inlined
def blocks_of(a: Any, like: Any) -> int:
    """Blocks of units."""
    return (a.H + lanes(like) - 1) // lanes(like)


# A chunk's gradients of what meets W are read as rows of a pair or, for the products over pairs,
# as rows of a unit. Number by number one layout serves both, [d, slot, block, pair, W]. In pairs a
# row's elements are side by side: [d, pair, slot, block, W], which is turned for the other.


@inlined
def bytes_of_pair(a: Any, like: Any) -> int:
    """From a pair's gradients to the next pair's."""
    # A vector of zeros ends a pair's row: a product may read that far past its slots.
    units = (a.cell.d_units * blocks_of(a, like) + 1) * lanes(like)
    return padded_k(like, units) * itemsize(like) if in_pairs(like) else VECTOR_BYTES


@inlined
def bytes_of_block(a: Any, like: Any) -> int:
    """From a block's gradients to the next block's, of one pair."""
    return lanes(like) * itemsize(like) if in_pairs(like) else a.chunk_rows * VECTOR_BYTES


@inlined
def bytes_of_direction(a: Any, like: Any) -> int:
    """From a direction's gradients to the other's."""
    blocks = a.cell.d_units * blocks_of(a, like)
    return (a.chunk_rows if in_pairs(like) else blocks) * (
        bytes_of_pair(a, like) if in_pairs(like) else a.chunk_rows * VECTOR_BYTES
    )


@inlined
def place_of_block(a: Any, like: Any, d: int, slot: int, block: int) -> int:
    """Where a block's gradients of one slot begin."""
    of_block = (slot * blocks_of(a, like) + block) * bytes_of_block(a, like)
    return d * bytes_of_direction(a, like) + of_block


@inlined
def turned_bytes(a: Any, like: Any) -> int:
    """From a unit's gradients, of all pairs of a chunk, to the next unit's."""
    return padded_k(like, a.chunk_rows) * itemsize(like)


@inlined
def state_before(a: Any, like: Any, d: int, step: int, row: int) -> int:
    """The address of h [H] before a row's step."""
    if step == 0:
        return a.h0 + (d * a.B + order_of(a, row)) * a.H * itemsize(like)
    at = pair_of(a, d, first_pair(a, step - 1) + row)
    return a.y + (at * a.D + d) * a.H * itemsize(like)


@inlined
def _place_of(a: Any, like: Any, d: int, u: int, pair: int, rows: int) -> int:
    """Where a forward panel has a block's pair: its number among blocks of all pairs."""
    panel = d * panels_of(a, like)[1] + u // a.cell.blocks
    return (panel * rows + pair) * a.cell.blocks + u % a.cell.blocks


@inlined
def gates_of(a: Any, like: Any, d: int, u: int, pair: int) -> int:
    """Where a block's saved values of a pair begin."""
    return a.gates + _place_of(a, like, d, u, pair, a.gate_rows) * a.cell.line * VECTOR_BYTES


@inlined
def cells_of(a: Any, like: Any, d: int, u: int, pair: int) -> int:
    """Where a block's states other than h begin after a pair."""
    place = _place_of(a, like, d, u, pair, a.cell_rows)
    return a.cells + place * a.cell.kept_states * VECTOR_BYTES
