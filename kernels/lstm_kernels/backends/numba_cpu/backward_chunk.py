"""The end of a chunk of a backward's steps: products of its gradients of the gates, over its pairs.

A chunk's pairs are still in a near cache.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.backward_layout import (
    blocks_of,
    bytes_of_block,
    bytes_of_pair,
    place_of_block,
    turned_bytes,
)
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.heads import add_to_heads, by_head, seeing
from lstm_kernels.backends.numba_cpu.layout import ROW_BYTES, first_pair, pair_of, wide_panels
from lstm_kernels.backends.numba_cpu.meeting import meet, share
from lstm_kernels.backends.numba_cpu.pairing import STEP, TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import (
    in_pairs,
    lines_of,
    load_operand,
    multiply_rows,
    padded_k,
    rows_at_once,
    scratch_bytes,
    turn,
)
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    either,
    inlined,
    itemsize,
    lanes,
    load,
    load_part,
    prefetch,
    routine,
    store,
    store_part,
    store_word,
    zero,
)
from lstm_kernels.backends.numba_cpu.stamp_lines import D_W, D_X, MEETING
from lstm_kernels.backends.numba_cpu.stamps import stamp
from lstm_kernels.backends.numba_cpu.tile import ROWS, multiply


@inlined
def end_of_chunk(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """Make of a chunk's gradients those of x, and what they add to every other one."""
    for d in range(a.D):
        if a.d_x != 0:
            _write_d_x(a, like, d, first, end, own, thread, team)
            stamp(a, thread, D_X)
        if a.D == 2:
            # Both directions add to the same rows.
            meet(a.flags, thread, team)
            stamp(a, thread, MEETING)
    _add_d_weights(a, like, first, end, own, thread, team)
    _sum_units(a, like, first, end, own, thread, team)
    stamp(a, thread, D_W)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)


@routine
def _write_d_x(
    a: Any, like: Any, d: int, first: int, end: int, own: int, thread: int, team: int
) -> None:
    """The gradient of x at a chunk's pairs, of one direction."""
    W, size = lanes(like), itemsize(like)
    pair_bytes, block_bytes = bytes_of_pair(a, like), bytes_of_block(a, like)
    K = padded_k(like, a.cell.x_gates * blocks_of(a, like) * W)
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    tiles = (pairs + rows_at_once(like) - 1) // rows_at_once(like)
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    begin, stop = share(wide_panels(like, a.I) * tiles, thread, team)
    for item in range(begin, stop):
        panel, tile = item // tiles, item % tiles
        low, high = share(pairs, tile, tiles)
        start = own + place_of_block(a, like, d, 0, 0) + (pairs_begin + low) * pair_bytes
        lines = lines_of(like, K)
        packed = a.packed_w_ih + (d * wide_panels(like, a.I) + panel) * lines * ROW_BYTES
        rows = high - low
        multiply_rows(
            like, rows, VECTORS, table, start, pair_bytes, block_bytes, size, packed, K, out
        )
        column = panel * VECTORS * W
        for j in range(rows):
            row = pair_of(a, d, pairs_begin + low + j)
            to = a.d_x + (row * a.I + column) * size
            _write(like, to, out + j * ROW_BYTES, a.I - column, a.D == 2)


@inlined
def _write(like: Any, to: int, found: int, columns: int, adds: bool) -> None:
    """Write or add a tile's row, of which that many columns exist."""
    W = lanes(like)
    for v in range(VECTORS):
        value, at = load(like, found + v * VECTOR_BYTES), to + v * W * itemsize(like)
        if adds:
            value += load_part(like, at, columns - v * W)
        store_part(at, value, columns - v * W)


@routine
def _add_d_weights(
    a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int
) -> None:
    """What a chunk adds to the gradients of W_hh and W_ih: products over its pairs."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    W, blocks = lanes(like), blocks_of(a, like)
    slots, panel_bytes = a.cell.slots, lines_of(like, a.chunk_rows) * ROW_BYTES
    done = _d_heads(a, like, first, end, own, thread, team)
    panels = wide_h + wide_i - done
    begin, stop = share(a.D * panels * slots * blocks, thread, team)
    for item in range(begin, stop):
        panel, block = item // (slots * blocks), item % (slots * blocks)
        d, panel = panel // panels, panel % panels + done
        if panel < wide_h:
            gate = a.cell.h_gate_at[block // blocks]
            d_w = a.d_w_hh_1 if d else a.d_w_hh_0
            packed = a.packed_h + (d * wide_h + panel) * panel_bytes
            columns = a.H
        else:
            panel -= wide_h
            gate = a.cell.x_gate_at[block // blocks]
            d_w = a.d_w_ih_1 if d else a.d_w_ih_0
            packed = a.packed_x + (d * wide_i + panel) * panel_bytes
            columns = a.I
        if gate >= 0 and d_w != 0:
            column, unit = panel * VECTORS * W, block % blocks * W
            to = d_w + ((gate * a.H + unit) * columns + column) * itemsize(like)
            units, scratch = min(W, a.H - unit), a.scratch + thread * scratch_bytes(like)
            if in_pairs(like):
                rows = a.d_gates_turned + (d * slots * blocks + block) * W * turned_bytes(a, like)
                sums = a.d_w_sums + item * W * ROW_BYTES
            else:
                rows = (
                    own + place_of_block(a, like, d, 0, block) + first_pair(a, first) * VECTOR_BYTES
                )
                sums = 0
            add_block(like, a, first, end, rows, packed, sums, to, units, columns, column, scratch)


def _d_no_heads(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> int:
    """The panels of W_hh that are done: none."""
    return 0


def _d_of_heads(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> int:
    """What a chunk adds to the gradient of W_hh; the panels that are done, all of W_hh."""
    wide_h, W, h_gates = wide_panels(like, a.H), lanes(like), a.cell.h_gates
    blocks, pairs = blocks_of(a, like), first_pair(a, end) - first_pair(a, first)
    begin, stop = share(a.D * wide_h * h_gates * blocks, thread, team)
    for item in range(begin, stop):
        panel, place = item // (h_gates * blocks), item % (h_gates * blocks)
        d, panel = panel // wide_h, panel % wide_h
        slot, block = a.cell.h_begin + place // blocks, place % blocks
        d_w_hh = a.d_w_hh_1 if d else a.d_w_hh_0
        seen_from, seen_by_blocks = seeing(a, like, panel * VECTORS * W)
        if d_w_hh != 0 and seen_from <= block < seen_from + seen_by_blocks:
            rows = (
                own + place_of_block(a, like, d, slot, block) + first_pair(a, first) * VECTOR_BYTES
            )
            packed = a.packed_h + (d * wide_h + panel) * a.chunk_rows * ROW_BYTES
            add_to_heads(
                a,
                like,
                pairs,
                rows,
                packed,
                d_w_hh,
                a.cell.h_gate_at[slot],
                block * W,
                panel * VECTORS * W,
                end != a.S,
                a.scratch + thread * scratch_bytes(like),
            )
    return wide_h


_d_heads = by_head(_d_no_heads, _d_of_heads)


def _add_block(
    like: Any,
    a: Any,
    first: int,
    end: int,
    d_gate: int,
    packed: int,
    sums: int,
    to: int,
    units: int,
    columns: int,
    column: int,
    table: int,
) -> None:
    """A block of units of one gate times a panel of columns, over a chunk's pairs.

    Args:
        d_gate: where the block's gradients begin.
        sums: unused: `to` has the sum over chunks.
        to: where the block's first row and the panel's first column lie in the gradient.
    """
    size, block_stride = itemsize(like), lanes(like) * VECTOR_BYTES
    out = table + TABLE_BYTES
    pairs = first_pair(a, end) - first_pair(a, first)
    tiles = (units + ROWS - 1) // ROWS
    for tile in range(tiles):
        low, high = share(units, tile, tiles)
        for j in range(high - low):
            store_word(table + 8 * j, d_gate + (low + j) * size)
            for v in range(VECTORS):
                prefetch(to + (low + j) * columns * size + v * VECTOR_BYTES)
        multiply(like, high - low, VECTORS, table, block_stride, VECTOR_BYTES, packed, pairs, out)
        for j in range(high - low):
            row = to + (low + j) * columns * size
            _write(like, row, out + j * ROW_BYTES, columns - column, end != a.S)


def _add_block_in_pairs(
    like: Any,
    a: Any,
    first: int,
    end: int,
    d_gate: int,
    packed: int,
    sums: int,
    to: int,
    units: int,
    columns: int,
    column: int,
    table: int,
) -> None:
    """The same in pairs. Sums over chunks are float32, [W, 4, W] at `sums`, and rounded once."""
    W, size, stride = lanes(like), itemsize(like), turned_bytes(a, like)
    out = table + TABLE_BYTES
    K = padded_k(like, first_pair(a, end) - first_pair(a, first))
    tiles = (units + rows_at_once(like) - 1) // rows_at_once(like)
    for tile in range(tiles):
        low, high = share(units, tile, tiles)
        start, rows = d_gate + low * stride, high - low
        multiply_rows(like, rows, VECTORS, table, start, stride, 0, 0, packed, K, out)
        for j in range(rows):
            row, total = to + (low + j) * columns * size, sums + (low + j) * ROW_BYTES
            for v in range(VECTORS):
                value = load(like, out + j * ROW_BYTES + v * VECTOR_BYTES)
                if end != a.S:
                    value += load(like, total + v * VECTOR_BYTES)
                if first == 0:
                    store_part(row + v * W * size, value, columns - column - v * W)
                else:
                    store(total + v * VECTOR_BYTES, value)


add_block = either(_add_block, _add_block_in_pairs)


def _turn_nothing(
    like: Any, a: Any, first: int, end: int, own: int, thread: int, team: int
) -> None:
    """Number by number, gradients are read in their own layout."""


def _turn_pairs(like: Any, a: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """Write a chunk's gradients as rows of units, `d_gates_turned`, zeros behind the last pair."""
    W, blocks, slots = lanes(like), blocks_of(a, like), a.cell.slots
    pairs, pair_bytes = first_pair(a, end) - first_pair(a, first), bytes_of_pair(a, like)
    begin, stop = share(a.D * slots * blocks, thread, team)
    for item in range(begin, stop):
        d, block = item // (slots * blocks), item % (slots * blocks)
        source = own + place_of_block(a, like, d, 0, block) + first_pair(a, first) * pair_bytes
        to = a.d_gates_turned + item * W * turned_bytes(a, like)
        for pair in range(0, pairs, STEP):
            at, here = source + pair * pair_bytes, to + pair * itemsize(like)
            turn(like, at, pair_bytes, pairs - pair, here, turned_bytes(a, like))
    stamp(a, thread, D_W)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)


turn_pairs = either(_turn_nothing, _turn_pairs)


@routine
def _sum_units(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """What a chunk adds to the sums over pairs, of biases' and other parameters' gradients."""
    pairs, pair_bytes = first_pair(a, end) - first_pair(a, first), bytes_of_pair(a, like)
    blocks = a.cell.d_units * blocks_of(a, like)
    begin, stop = share(a.D * blocks, thread, team)
    for item in range(begin, stop):
        total = zero(like)
        at = own + place_of_block(a, like, item // blocks, 0, item % blocks)
        at += first_pair(a, first) * pair_bytes
        for pair in range(pairs):
            total += load_operand(like, at + pair * pair_bytes)
        to = a.d_unit + item * VECTOR_BYTES
        if end != a.S:
            total += load(like, to)
        store(to, total)
