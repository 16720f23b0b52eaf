"""Heads: products with a W_hh of which only the blocks on the diagonal are stored, [G*H, M].

A head is M neighbouring units, and a unit sees the h of its own head only. So a panel is
multiplied with the elements of h, or with the units, of the heads that its own units are in: one
run. Where a panel ends within a head, its weights are zero for what a unit does not see.

Chosen when a kernel is compiled, by `CellLayout.by_head`; number by number only.
"""

from functools import partial
from typing import Any, NamedTuple

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.layout import ROW_BYTES, transpose_part
from lstm_kernels.backends.numba_cpu.meeting import share
from lstm_kernels.backends.numba_cpu.pairing import TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import multiply_rows, padded_k, tile_bytes
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    choose,
    inlined,
    itemsize,
    lanes,
    load,
    load_part,
    routine,
    store,
    store_part,
    store_word,
    transpose,
    zero,
)
from lstm_kernels.backends.numba_cpu.tile import ROWS, multiply

# One of two functions of kernels, by the first argument, a record: of one head, or of several.
by_head = partial(choose, lambda a: bool(a.cell.attribute("by_head")))


@inlined
def seen_by(a: Any, u: int, units: int) -> tuple[int, int]:
    """The run of h that this many units from one on see: its first element, and how many."""
    if a.cell.by_head == 0:
        return 0, a.H
    first = u // a.M * a.M
    return first, ((min(u + units, a.H) - 1) // a.M + 1) * a.M - first


@inlined
def seeing(a: Any, like: Any, column: int) -> tuple[int, int]:
    """The run of blocks of units that see a wide panel's columns: the first, and how many."""
    W = lanes(like)
    first, elements = seen_by(a, column, VECTORS * W)
    begin = first // W
    return begin, (first + elements + W - 1) // W - begin


def pack_gates_of_heads(a: Any, like: Any, to: int, blocks: int, w: int, u: int) -> None:
    """Pack a forward panel: `to` [what its units see, blocks, gates, W], from W_hh's rows.

    Args:
        u: the panel's first unit.
    """
    size, W, M, gates = itemsize(like), lanes(like), a.M, a.cell.h_gates
    step = blocks * gates * VECTOR_BYTES
    first, elements = seen_by(a, u, blocks * W)
    for at in range(to, to + elements * step, VECTOR_BYTES):
        store(at, zero(like))
    for block in range(blocks):
        unit = u + block * W
        units = min(W, a.H - unit)
        for gate in range(gates):
            lane = 0
            while lane < units:
                # The block's units of one head at a time.
                head = (unit + lane) // M * M
                lines = min(head + M - unit, units) - lane
                source = w + (gate * a.H + unit + lane) * M * size
                target = to + (head - first) * step + (block * gates + gate) * VECTOR_BYTES
                _pack_head(like, source, M, target + lane * size, step, lines)
                lane += lines


@routine
def _pack_head(like: Any, source: int, M: int, target: int, step: int, lines: int) -> None:
    """Some units' rows of M weights as columns of a panel."""
    size, W = itemsize(like), lanes(like)
    for start in range(0, M, W):
        count = min(M - start, W)
        at, to = source + start * size, target + start * step
        if lines == W and count == W:
            transpose(like, at, M * size, to, step)
        else:
            transpose_part(like, at, M, to, step, lines, count)


def pack_columns_of_heads(a: Any, like: Any, to: int, w: int, panel: int) -> None:
    """Pack a backward panel: `to` [gates, units that see its columns, 4, W], from W_hh's rows."""
    size, W, M = itemsize(like), lanes(like), a.M
    column = panel * VECTORS * W
    begin, blocks = seeing(a, like, column)
    for slot in range(a.cell.h_gates):
        gate = a.cell.h_gate_at[a.cell.h_begin + slot]
        for unit in range(begin * W, (begin + blocks) * W):
            for v in range(VECTORS):
                store(to + v * VECTOR_BYTES, zero(like))
            if unit < a.H:
                head, low, high = _columns_of(a, like, unit, column)
                source = w + ((gate * a.H + unit) * M + low - head) * size
                _copy(like, to + (low - column) * size, source, high - low)
            to += ROW_BYTES


@inlined
def _columns_of(a: Any, like: Any, unit: int, column: int) -> tuple[int, int, int]:
    """The first column that a unit sees; where those among a wide panel's begin, and end."""
    head = unit // a.M * a.M
    return head, max(head, column), min(head + a.M, column + VECTORS * lanes(like))


@inlined
def _copy(like: Any, to: int, source: int, elements: int) -> None:
    for at in range(0, elements, lanes(like)):
        left, offset = elements - at, at * itemsize(like)
        store_part(to + offset, load_part(like, source + offset, left), left)


class GatesTimesPanel(NamedTuple):
    """A product of rows of gates' gradients with a backward panel of W_hh, as addresses and sizes.

    `start` is where the first row's gradients of the first gate's first block are, `stride` and
    `block_stride` the bytes from a row to the next, and from a block to the next. `panel` is the
    panel's number in its direction, `packed` where it is. What is written to `out` may take two
    tiles.
    """

    rows: int
    table: int
    start: int
    stride: int
    block_stride: int
    panel: int
    packed: int
    out: int


def _multiply_one_head(a: Any, like: Any, given: GatesTimesPanel) -> None:
    multiply_rows(
        like,
        given.rows,
        VECTORS,
        given.table,
        given.start,
        given.stride,
        given.block_stride,
        itemsize(like),
        given.packed,
        padded_k(like, a.cell.h_gates * a.span),
        given.out,
    )


def _multiply_heads(a: Any, like: Any, given: GatesTimesPanel) -> None:
    """The same for each gate, which only the units that see the panel's columns have."""
    W, blocks = lanes(like), (a.H + lanes(like) - 1) // lanes(like)
    begin, count = seeing(a, like, given.panel * VECTORS * W)
    K, out = count * W, given.out
    for slot in range(a.cell.h_gates):
        to = out if slot == 0 else out + tile_bytes(like)
        multiply_rows(
            like,
            given.rows,
            VECTORS,
            given.table,
            given.start + (slot * blocks + begin) * given.block_stride,
            given.stride,
            given.block_stride,
            itemsize(like),
            given.packed + slot * K * ROW_BYTES,
            K,
            to,
        )
        if slot > 0:
            for vector in range(0, given.rows * ROW_BYTES, VECTOR_BYTES):
                store(out + vector, load(like, out + vector) + load(like, to + vector))


multiply_w_hh = by_head(_multiply_one_head, _multiply_heads)


@routine
def add_to_heads(
    a: Any,
    like: Any,
    pairs: int,
    d_gate: int,
    packed: int,
    d_w: int,
    gate: int,
    unit: int,
    column: int,
    adds: bool,
    table: int,
) -> None:
    """A block of units of one gate times the panel's columns that they see, over a chunk's pairs.

    Args:
        d_gate: where the block's gradients begin.
        d_w: the gradient of W_hh, [G*H, M].
        unit, column: the block's first unit, and the panel's first column.
        adds: whether a chunk before has written there.
    """
    size, W, M = itemsize(like), lanes(like), a.M
    out, units = table + TABLE_BYTES, min(W, a.H - unit)
    tiles = (units + ROWS - 1) // ROWS
    for tile in range(tiles):
        low, high = share(units, tile, tiles)
        for j in range(high - low):
            store_word(table + 8 * j, d_gate + (low + j) * size)
        multiply(
            like, high - low, VECTORS, table, W * VECTOR_BYTES, VECTOR_BYTES, packed, pairs, out
        )
        for j in range(high - low):
            of_unit = unit + low + j
            head, left, right = _columns_of(a, like, of_unit, column)
            to = d_w + ((gate * a.H + of_unit) * M + left - head) * size
            found = out + j * ROW_BYTES + (left - column) * size
            for at in range(0, right - left, W):
                more, offset = right - left - at, at * size
                value = load_part(like, found + offset, more)
                if adds:
                    value += load_part(like, to + offset, more)
                store_part(to + offset, value, more)
