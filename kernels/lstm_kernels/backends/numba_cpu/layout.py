"""The layout: the sequences as pairs of step and row, and weights in panels.

Functions of both kernels' records; see `arguments` for the terms.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.meeting import share
from lstm_kernels.backends.numba_cpu.pairing import STEP
from lstm_kernels.backends.numba_cpu.products import interleave, transpose_pairs
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    either,
    inlined,
    itemsize,
    lanes,
    load_part,
    load_scalar,
    load_word,
    routine,
    store,
    store_scalar,
    store_word,
    transpose,
    zero,
)
from lstm_kernels.backends.numba_cpu.tile import ROWS
from lstm_kernels.backends.numba_cpu.tuples import load_all_parts

# Four vectors: a row of a product, and of a panel backward.
ROW_BYTES = VECTORS * VECTOR_BYTES


@inlined
def order_of(a: Any, row: int) -> int:
    """The batch index of a sorted row."""
    return load_word(a.order + 8 * row)


@inlined
def length_of(a: Any, row: int) -> int:
    """The steps of a sorted row."""
    return load_word(a.lengths + 8 * row)


@inlined
def first_pair(a: Any, step: int) -> int:
    """Where a step's pairs begin."""
    return load_word(a.starts + 8 * step)


@inlined
def alive_at(a: Any, step: int) -> int:
    """How many rows have that step."""
    return first_pair(a, step + 1) - first_pair(a, step)


@inlined
def pair_of(a: Any, d: int, pair: int) -> int:
    """The row of x [T*B or R, I] and y [T*B or R, D*H] that a pair has in one direction."""
    return load_word(a.pairs + 8 * (d * a.R + pair))


@inlined
def panels_of(a: Any, like: Any) -> tuple[int, int]:
    """How many blocks of units a forward panel has, and how many panels there are."""
    width = a.cell.blocks * lanes(like)
    return a.cell.blocks, (a.H + width - 1) // width


@inlined
def per_unit_of(a: Any, like: Any, d: int, u: int) -> Any:
    """The parameters a unit of one direction, of the block that begins with a unit."""
    to = (a.per_unit_1 if d else a.per_unit_0) + u * itemsize(like)
    return load_all_parts(like, to, a.H * itemsize(like), a.cell.per_unit, a.H - u)


@inlined
def direction_of(panel: int, panels: int) -> tuple[int, int]:
    """Which direction a panel of all belongs to, and its number there; a division takes longer."""
    return (1, panel - panels) if panel >= panels else (0, panel)


@routine
def steps_are_apart(a: Any, panels: int, width: int, team: int) -> bool:
    """Whether no thread needs at a step what another made at the step before.

    So it is where the parts of `share` end with a head, or with a direction.

    Args:
        panels, width: a direction's panels, and units of each.
    """
    for thread in range(1, team):
        ends = a.D * panels * thread
        if ends % team != 0 or ends // team % panels * width % a.M != 0:
            return False
    return True


@inlined
def parts_of_rows(a: Any) -> int:
    """Into how many parts rows are divided, where a part is one thread's.

    As many as eight threads need, or as a product's rows: a product's sums depend on how many rows
    it has, and no result may on how many threads there are.
    """
    return max((a.B + ROWS - 1) // ROWS, min(a.B, 8))


@inlined
def tile_of(item: int, tiles: int) -> tuple[int, int]:
    """The panel and the tile of rows of an item."""
    # Small batches mostly have one tile, and then two divisions would be half the work.
    return (item, 0) if tiles == 1 else (item // tiles, item % tiles)


@inlined
def wide_panels(like: Any, columns: int) -> int:
    """How many panels of four blocks that many columns make."""
    width = VECTORS * lanes(like)
    return (columns + width - 1) // width


@routine
def chunk_end(a: Any, first: int) -> int:
    """The end of the chunk that begins with a step: as many pairs as a chunk may have."""
    end = first + 1
    while end < a.S and first_pair(a, end + 1) - first_pair(a, first) <= a.chunk_rows:
        end += 1
    return end


@routine
def chunk_begin(a: Any, end: int) -> int:
    """The first step of the chunk that ends before a step."""
    begin = end - 1
    while begin > 0 and first_pair(a, end) - first_pair(a, begin - 1) <= a.chunk_rows:
        begin -= 1
    return begin


@routine
def list_pairs(a: Any, thread: int, team: int) -> None:
    """Fill `pairs` [D, R], this thread's part of the steps."""
    begin, end = share(a.S, thread, team)
    for step in range(begin, end):
        first = first_pair(a, step)
        for row in range(alive_at(a, step)):
            store_word(a.pairs + 8 * (first + row), _place_of(a, step, row))
            if a.D == 2:
                t = length_of(a, row) - 1 - step
                store_word(a.pairs + 8 * (a.R + first + row), _place_of(a, t, row))


@inlined
def _place_of(a: Any, t: int, row: int) -> int:
    """Which row of x holds step t of a sorted row."""
    return first_pair(a, t) + row if a.packed else t * a.B + order_of(a, row)


def _pack_gates(
    like: Any, to: int, gates: int, blocks: int, w: int, K: int, H: int, u: int
) -> None:
    """Pack a forward panel: `to` [K, blocks, gates, W], from rows of w [gates*H, K], transposed.

    Args:
        u: the panel's first unit.
    """
    size, W = itemsize(like), lanes(like)
    step = blocks * gates * VECTOR_BYTES
    if H - u < blocks * W:
        for at in range(to, to + K * step, VECTOR_BYTES):
            store(at, zero(load_scalar(like, at)))
    for start in range(0, K, W):
        count = min(K - start, W)
        for block in range(blocks):
            unit = u + block * W
            lines = min(H - unit, W)
            for gate in range(gates):
                source = w + ((gate * H + unit) * K + start) * size
                target = to + start * step + (block * gates + gate) * VECTOR_BYTES
                if lines == W and count == W:
                    transpose(like, source, K * size, target, step)
                else:
                    transpose_part(like, source, K, target, step, lines, count)


def _pack_gates_in_pairs(
    like: Any, to: int, gates: int, blocks: int, w: int, K: int, H: int, u: int
) -> None:
    """The same in pairs: `to` [K/2, blocks, gates, W, 2], K up to a multiple of 32."""
    size, W = itemsize(like), lanes(like)
    step = blocks * gates * VECTOR_BYTES
    for start in range(0, K, STEP):
        for block in range(blocks):
            unit = u + block * W
            for gate in range(gates):
                source = w + ((gate * H + unit) * K + start) * size
                target = to + start // 2 * step + (block * gates + gate) * VECTOR_BYTES
                transpose_pairs(like, source, K * size, H - unit, K - start, target, step)


pack_gates = either(_pack_gates, _pack_gates_in_pairs)


@routine
def transpose_part(
    like: Any, source: int, K: int, target: int, step: int, lines: int, count: int
) -> None:
    """Write rows of K elements as columns, a `step` apart: some rows, some elements of them."""
    size = itemsize(like)
    for lane in range(lines):
        for k in range(count):
            element = load_scalar(like, source + (lane * K + k) * size)
            store_scalar(target + k * step + lane * size, element)


@inlined
def pack_columns(like: Any, to: int, source: int, columns: int) -> None:
    """Pack one row of a wide panel: `to` [4, W], of which that many columns exist."""
    W = lanes(like)
    for v in range(VECTORS):
        part = load_part(like, source + v * VECTOR_BYTES, columns - v * W)
        store(to + v * VECTOR_BYTES, part)


@inlined
def pack_two_rows(like: Any, to: int, first: int, second: int, columns: int) -> None:
    """Pack two rows of a wide panel of pairs: `to` [4, W, 2]; a row at 0 is zeros."""
    W = lanes(like)
    for v in range(VECTORS):
        at = v * W * itemsize(like)
        left = columns - v * W
        one, two = first + at if first != 0 else 0, second + at if second != 0 else 0
        interleave(like, to + v * VECTOR_BYTES, one, two, left)
