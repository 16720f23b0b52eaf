"""The backward kernel: a loop over a chunk's steps, last first, then the products of that chunk.

Each step is a product of the gates' gradients with W_hh, in panels of four blocks of units, and
from it the gates' gradients of the step before. They are kept for one chunk only: dx and every
weight's gradient are made of a chunk while its pairs are still in a near cache.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.backward_chunk import end_of_chunk, turn_pairs
from lstm_kernels.backends.numba_cpu.backward_layout import (
    blocks_of,
    bytes_of_block,
    bytes_of_direction,
    bytes_of_pair,
    cells_of,
    gates_of,
    place_of_block,
    state_before,
)
from lstm_kernels.backends.numba_cpu.backward_packing import pack_pairs, prepare
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.heads import GatesTimesPanel, multiply_w_hh
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    chunk_begin,
    direction_of,
    first_pair,
    length_of,
    list_pairs,
    order_of,
    pair_of,
    per_unit_of,
    steps_are_apart,
    tile_of,
    wide_panels,
)
from lstm_kernels.backends.numba_cpu.meeting import (
    meet,
    share,
    team_size,
    there_and_back,
    thread_number,
)
from lstm_kernels.backends.numba_cpu.pairing import TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import (
    configure,
    in_pairs,
    lines_of,
    padded_k,
    release,
    rows_at_once,
    scratch_bytes,
    store_all_operands,
    store_operand,
)
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    inlined,
    itemsize,
    lanes,
    load,
    load_part,
    prefetch,
    routine,
    store,
    store_part,
    zero,
)
from lstm_kernels.backends.numba_cpu.stamp_lines import GATES, MEETING, PACKING, PRODUCTS
from lstm_kernels.backends.numba_cpu.stamps import clock_starts, stamp
from lstm_kernels.backends.numba_cpu.tuples import (
    first_elements,
    in_places,
    load_all,
    load_all_parts,
    load_kept,
    store_all,
    store_all_parts,
)


def backward(a: Any) -> None:
    """What every thread of the team runs; `a` is a record of `arguments.BACKWARD`."""
    like = a.like
    thread, team = thread_number(), team_size()
    clock_starts(a, thread)
    list_pairs(a, thread, team)
    prepare(a, like, thread, team)
    stamp(a, thread, PACKING)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
    meets = not steps_are_apart(a, wide_panels(like, a.H), VECTORS * lanes(like), team)
    end = a.S
    half = 0
    following = 0
    while end > 0:
        first = chunk_begin(a, end)
        # Where gradients of the chunk's pairs go, counted from pair 0.
        own = a.d_gates + half * a.D * bytes_of_direction(a, like)
        own -= first_pair(a, first) * bytes_of_pair(a, like)
        pack_pairs(a, like, first, end, thread, team)
        stamp(a, thread, PACKING)
        configure(like, min(rows_at_once(like), a.B))
        for step in range(end - 1, first - 1, -1):
            _step(a, like, step, own, own if step < end - 1 else following, thread, team)
            if meets or step == first:
                meet(a.flags, thread, team)
                stamp(a, thread, MEETING)
        configure(like, rows_at_once(like))
        turn_pairs(like, a, first, end, own, thread, team)
        end_of_chunk(a, like, first, end, own, thread, team)
        end = first
        following = own
        half = 1 - half
    configure(like, min(rows_at_once(like), a.B))
    _step(a, like, -1, 0, following, thread, team)
    release(like)


@routine
def _step(a: Any, like: Any, step: int, own: int, following: int, thread: int, team: int) -> None:
    """The gates' gradients of one step, from those of the one after; at -1, h0's and c0's."""
    wide = wide_panels(like, a.H)
    pair_bytes, block_bytes = bytes_of_pair(a, like), bytes_of_block(a, like)
    K = padded_k(like, a.cell.h_gates * a.span)
    rows = alive_at(a, step) if step >= 0 else a.B
    continued = alive_at(a, step + 1) if step + 1 < a.S else 0
    tiles = (rows + rows_at_once(like) - 1) // rows_at_once(like)
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    begin, end = share(a.D * wide * tiles, thread, team)
    for i in range(end - begin):
        panel, tile = tile_of(there_and_back(begin, end, i, step), tiles)
        d, of_direction = direction_of(panel, wide)
        block = of_direction * VECTORS
        low, high = share(rows, tile, tiles)
        count = min(high, continued) - low
        start = following + place_of_block(a, like, d, a.cell.h_begin, 0)
        start += (first_pair(a, step + 1) + low) * pair_bytes
        if step >= 0:
            _prefetch_saved(a, like, d, step, low, high, block)
        packed = a.packed_w_hh + panel * lines_of(like, K) * ROW_BYTES
        multiplied = GatesTimesPanel(
            count, table, start, pair_bytes, block_bytes, of_direction, packed, out
        )
        multiply_w_hh(a, like, multiplied)
        for at in range(
            out + max(count, 0) * ROW_BYTES, out + (high - low) * ROW_BYTES, VECTOR_BYTES
        ):
            store(at, zero(like))
        stamp(a, thread, PRODUCTS)
        for j in range(high - low):
            _row_gradients(a, like, d, step, low + j, block, out + j * ROW_BYTES, own)
        stamp(a, thread, GATES)


@inlined
def _prefetch_saved(a: Any, like: Any, d: int, step: int, low: int, high: int, block: int) -> None:
    """Prefetch what the forward saved for a tile while the product before it is made."""
    blocks = blocks_of(a, like)
    first, before = first_pair(a, step), first_pair(a, max(step - 1, 0))
    for row in range(low, high):
        y = (pair_of(a, d, first + row) * a.D + d) * a.H * itemsize(like)
        for u in range(block, min(block + VECTORS, blocks)):
            prefetch(a.d_y + y + u * lanes(like) * itemsize(like))
            gates = gates_of(a, like, d, u, first + row)
            for v in range(a.cell.saved):
                prefetch(gates + v * VECTOR_BYTES)
            cells = cells_of(a, like, d, u, before + row)
            for v in range(a.cell.kept_states):
                prefetch(cells + v * VECTOR_BYTES)


@inlined
def _row_gradients(
    a: Any, like: Any, d: int, step: int, row: int, block: int, d_hs: int, own: int
) -> None:
    """The gradients of a row's panel of units, from those of h through the step after."""
    W, size, blocks = lanes(like), itemsize(like), blocks_of(a, like)
    cell, H, slot_bytes = a.cell, a.H, blocks * bytes_of_block(a, like)
    ends = step == length_of(a, row) - 1
    sequence = d * a.B + order_of(a, row)
    of_h, of_c, c_stride = sequence * H * size, sequence * cell.own * H * size, H * size
    carry, carry_stride = (d * a.B + row) * blocks * VECTOR_BYTES, a.D * a.B * blocks * VECTOR_BYTES
    pair = first_pair(a, max(step, 0)) + row
    before = first_pair(a, max(step - 1, 0)) + row
    y, d_y, h_before = a.y, a.d_y, a.y
    if step >= 0:
        offset = (pair_of(a, d, pair) * a.D + d) * H * size
        y += offset
        d_y += offset
        h_before = state_before(a, like, d, step, row)
    d_h_n, d_c_n, d_h0, d_c0 = a.d_h_n + of_h, a.d_c_n + of_c, a.d_h0 + of_h, a.d_c0 + of_c
    c0, d_h_carry, d_c_carry = a.c0 + of_c, a.d_h_carry + carry, a.d_c_carry + carry
    to = own + place_of_block(a, like, d, 0, 0) + pair * bytes_of_pair(a, like)
    for v in range(min(VECTORS, blocks - block)):
        u = block + v
        at, carried = u * W * size, u * VECTOR_BYTES
        left = H - u * W
        d_h = load(like, d_hs + v * VECTOR_BYTES)
        if ends:
            d_h += load_part(like, d_h_n + at, left)
            d_c = load_all_parts(like, d_c_n + at, c_stride, cell.own, left)
        else:
            if cell.carries_h:
                d_h += load(like, d_h_carry + carried)
            d_c = load_all(like, d_c_carry + carried, carry_stride, cell.own)
        if step < 0:
            store_part(d_h0 + at, d_h, left)
            store_all_parts(d_c0 + at, c_stride, d_c, left)
            continue
        d_h += load_part(like, d_y + at, left)
        saved = load_all(like, gates_of(a, like, d, u, pair), VECTOR_BYTES, cell.saved)
        if step == 0:
            c_before = load_all_parts(like, c0 + at, c_stride, cell.own, left)
        else:
            c_before = load_kept(cell, like, cells_of(a, like, d, u, before))
        c_after = load_kept(cell, like, cells_of(a, like, d, u, pair))
        h, h_after = load_part(like, h_before + at, left), load_part(like, y + at, left)
        per_unit = per_unit_of(a, like, d, u * W)
        d_p, d_before, d_per_unit = cell.gradients(
            (d_h, *d_c), saved, (h, *c_before), (h_after, *c_after), per_unit
        )
        here = to + u * bytes_of_block(a, like)
        d_p = in_places(cell, d_p)
        if left < W:
            # A cell may make anything from zeros: a NaN would spread through products with zero
            # weights.
            d_p = first_elements(d_p, left)
        store_all_operands(here, slot_bytes, d_p)
        store_all_operands(here + cell.slots * slot_bytes, slot_bytes, d_per_unit)
        if in_pairs(like) and u == blocks - 1:
            store_operand(to + cell.d_units * slot_bytes, zero(like))
        if cell.carries_h:
            store(d_h_carry + carried, d_before[0])
        store_all(d_c_carry + carried, carry_stride, d_before[1:])
