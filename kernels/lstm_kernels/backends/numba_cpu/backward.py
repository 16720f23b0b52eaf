"""The backward kernel: a loop over a chunk's steps, last first, then the products of that chunk.

Each step is a product of the gates' gradients with W_hh, in panels of four blocks of units, and
from it the gates' gradients of the step before. They are kept for one chunk only: dx and every
weight's gradient are made of a chunk while its pairs are still in a near cache.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    chunk_begin,
    first_pair,
    length_of,
    list_pairs,
    order_of,
    pack_columns,
    pair_of,
    panels_of,
    per_unit_of,
    wide_panels,
)
from lstm_kernels.backends.numba_cpu.meeting import (
    meet,
    share,
    team_size,
    there_and_back,
    thread_number,
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
    store_word,
    zero,
)
from lstm_kernels.backends.numba_cpu.tile import (
    ROWS,
    SCRATCH_BYTES,
    TABLE_BYTES,
    multiply,
)
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
    list_pairs(a, thread, team)
    _prepare(a, like, thread, team)
    meet(a.flags, thread, team)
    end = a.S
    turn = 0
    following = 0
    while end > 0:
        first = chunk_begin(a, end)
        # Where gradients of the chunk's pairs go, counted from pair 0.
        size = a.D * a.cell.d_units * _blocks(a, like) * a.chunk_rows
        own = a.d_gates + (turn * size - first_pair(a, first)) * VECTOR_BYTES
        _pack_pairs(a, like, first, end, thread, team)
        for step in range(end - 1, first - 1, -1):
            _step(a, like, step, own, own if step < end - 1 else following, thread, team)
            meet(a.flags, thread, team)
        for d in range(a.D):
            if a.d_x != 0:
                _d_x(a, like, d, first, end, own, thread, team)
            if a.D == 2:
                # Both directions add to the same rows.
                meet(a.flags, thread, team)
        _d_weights(a, like, first, end, own, thread, team)
        _d_unit(a, like, first, end, own, thread, team)
        meet(a.flags, thread, team)
        end = first
        following = own
        turn = 1 - turn
    _step(a, like, -1, 0, following, thread, team)


@inlined
def _blocks(a: Any, like: Any) -> int:
    """Blocks of units."""
    return (a.H + lanes(like) - 1) // lanes(like)


@inlined
def _of_block(a: Any, like: Any, d: int, slot: int, block: int) -> int:
    """Where a block's gradients of one slot begin: a vector a pair, [chunk_rows, W]."""
    return ((d * a.cell.d_units + slot) * _blocks(a, like) + block) * a.chunk_rows * VECTOR_BYTES


@routine
def _prepare(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack W_hh and W_ih by columns: this thread's panels."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    units = _blocks(a, like) * lanes(like)
    begin, end = share(a.D * (wide_h + wide_i), thread, team)
    for item in range(begin, end):
        d, panel = item // (wide_h + wide_i), item % (wide_h + wide_i)
        if panel < wide_h:
            w, h_gates = a.w_hh_1 if d else a.w_hh_0, a.cell.h_gates
            to = a.packed_w_hh + (d * wide_h + panel) * h_gates * units * ROW_BYTES
            for slot in range(h_gates):
                gate = a.cell.h_gate_at[a.cell.h_begin + slot]
                _pack_weights(a, like, to + slot * units * ROW_BYTES, w, gate, panel, a.H)
        elif a.d_x != 0:
            panel -= wide_h
            w, x_gates = a.w_ih_1 if d else a.w_ih_0, a.cell.x_gates
            to = a.packed_w_ih + (d * wide_i + panel) * x_gates * units * ROW_BYTES
            for slot in range(x_gates):
                gate = a.cell.x_gate_at[slot]
                _pack_weights(a, like, to + slot * units * ROW_BYTES, w, gate, panel, a.I)


@inlined
def _pack_weights(a: Any, like: Any, to: int, w: int, gate: int, panel: int, columns: int) -> None:
    """[units, 4, W]: a panel's columns of one gate of w [G*H, columns]."""
    column = panel * VECTORS * lanes(like)
    for j in range(_blocks(a, like) * lanes(like)):
        source = w + ((gate * a.H + j) * columns + column) * itemsize(like)
        pack_columns(like, to + j * ROW_BYTES, source, columns - column if j < a.H else 0)


@inlined
def _state_before(a: Any, like: Any, d: int, step: int, row: int) -> int:
    """The address of h [H] before a row's step."""
    if step == 0:
        return a.h0 + (d * a.B + order_of(a, row)) * a.H * itemsize(like)
    at = pair_of(a, d, first_pair(a, step - 1) + row)
    return a.y + (at * a.D + d) * a.H * itemsize(like)


@routine
def _pack_pairs(a: Any, like: Any, first: int, end: int, thread: int, team: int) -> None:
    """Pack x and the states before each step of a chunk, for products over its pairs."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    W, size = lanes(like), itemsize(like)
    pairs_begin = first_pair(a, first)
    begin, stop = share(a.D * (wide_h + wide_i), thread, team)
    for item in range(begin, stop):
        d, panel = item // (wide_h + wide_i), item % (wide_h + wide_i)
        if panel < wide_h and (a.d_w_hh_1 if d else a.d_w_hh_0) != 0:
            column = panel * VECTORS * W
            to = a.packed_h + (d * wide_h + panel) * a.chunk_rows * ROW_BYTES
            for step in range(first, end):
                for row in range(alive_at(a, step)):
                    source = _state_before(a, like, d, step, row) + column * size
                    at = to + (first_pair(a, step) + row - pairs_begin) * ROW_BYTES
                    pack_columns(like, at, source, a.H - column)
        elif panel >= wide_h and (a.d_w_ih_1 if d else a.d_w_ih_0) != 0:
            panel -= wide_h
            column = panel * VECTORS * W
            to = a.packed_x + (d * wide_i + panel) * a.chunk_rows * ROW_BYTES
            for pair in range(pairs_begin, first_pair(a, end)):
                source = a.x + (pair_of(a, d, pair) * a.I + column) * size
                pack_columns(like, to + (pair - pairs_begin) * ROW_BYTES, source, a.I - column)


@routine
def _step(a: Any, like: Any, step: int, own: int, following: int, thread: int, team: int) -> None:
    """The gates' gradients of one step, from those of the one after; at -1, h0's and c0's."""
    blocks, wide = _blocks(a, like), wide_panels(like, a.H)
    stride = a.chunk_rows * VECTOR_BYTES
    K = a.cell.h_gates * blocks * lanes(like)
    rows = alive_at(a, step) if step >= 0 else a.B
    continued = alive_at(a, step + 1) if step + 1 < a.S else 0
    tiles = (rows + ROWS - 1) // ROWS
    table = a.scratch + thread * SCRATCH_BYTES
    out = table + TABLE_BYTES
    begin, end = share(a.D * wide * tiles, thread, team)
    for i in range(end - begin):
        item = there_and_back(begin, end, i, step)
        panel, tile = item // tiles, item % tiles
        d, block = panel // wide, panel % wide * VECTORS
        low, high = share(rows, tile, tiles)
        count = min(high, continued) - low
        for j in range(count):
            pair = first_pair(a, step + 1) + low + j
            at = following + _of_block(a, like, d, a.cell.h_begin, 0) + pair * VECTOR_BYTES
            store_word(table + 8 * j, at)
        if step >= 0:
            _prefetch_saved(a, like, d, step, low, high, block)
        packed = a.packed_w_hh + panel * K * ROW_BYTES
        multiply(like, count, VECTORS, table, stride, itemsize(like), packed, K, out)
        for at in range(
            out + max(count, 0) * ROW_BYTES, out + (high - low) * ROW_BYTES, VECTOR_BYTES
        ):
            store(at, zero(like))
        for j in range(high - low):
            _row_gradients(a, like, d, step, low + j, block, out + j * ROW_BYTES, own)


@inlined
def _prefetch_saved(a: Any, like: Any, d: int, step: int, low: int, high: int, block: int) -> None:
    """Have what the forward saved of a tile on its way while the product before it is made."""
    blocks = _blocks(a, like)
    first, before = first_pair(a, step), first_pair(a, max(step - 1, 0))
    for row in range(low, high):
        y = (pair_of(a, d, first + row) * a.D + d) * a.H * itemsize(like)
        for u in range(block, min(block + VECTORS, blocks)):
            prefetch(a.d_y + y + u * VECTOR_BYTES)
            gates = _gates_of(a, like, d, u, first + row)
            for v in range(a.cell.saved):
                prefetch(gates + v * VECTOR_BYTES)
            cells = _cells_of(a, like, d, u, before + row)
            for v in range(a.cell.kept_states):
                prefetch(cells + v * VECTOR_BYTES)


@inlined
def _place_of(a: Any, like: Any, d: int, u: int, pair: int, rows: int) -> int:
    """Where a forward panel has a block's pair: its number among blocks of all pairs."""
    panel = d * panels_of(a, like)[1] + u // a.cell.blocks
    return (panel * rows + pair) * a.cell.blocks + u % a.cell.blocks


@inlined
def _gates_of(a: Any, like: Any, d: int, u: int, pair: int) -> int:
    """Where a block's saved values of a pair begin."""
    return a.gates + _place_of(a, like, d, u, pair, a.gate_rows) * a.cell.line * VECTOR_BYTES


@inlined
def _cells_of(a: Any, like: Any, d: int, u: int, pair: int) -> int:
    """Where a block's states after a pair begin, those beside h."""
    place = _place_of(a, like, d, u, pair, a.cell_rows)
    return a.cells + place * a.cell.kept_states * VECTOR_BYTES


@inlined
def _row_gradients(
    a: Any, like: Any, d: int, step: int, row: int, block: int, d_hs: int, own: int
) -> None:
    """The gradients of a row's panel of units, from those of h by way of the step after."""
    W, size, blocks = lanes(like), itemsize(like), _blocks(a, like)
    cell, H, slot_bytes = a.cell, a.H, blocks * a.chunk_rows * VECTOR_BYTES
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
        h_before = _state_before(a, like, d, step, row)
    d_h_n, d_c_n, d_h0, d_c0 = a.d_h_n + of_h, a.d_c_n + of_c, a.d_h0 + of_h, a.d_c0 + of_c
    c0, d_h_carry, d_c_carry = a.c0 + of_c, a.d_h_carry + carry, a.d_c_carry + carry
    to = own + _of_block(a, like, d, 0, 0) + pair * VECTOR_BYTES
    for v in range(min(VECTORS, blocks - block)):
        u = block + v
        at = u * VECTOR_BYTES
        left = H - u * W
        d_h = load(like, d_hs + v * VECTOR_BYTES)
        if ends:
            d_h += load_part(like, d_h_n + at, left)
            d_c = load_all_parts(like, d_c_n + at, c_stride, cell.own, left)
        else:
            if cell.carries_h:
                d_h += load(like, d_h_carry + at)
            d_c = load_all(like, d_c_carry + at, carry_stride, cell.own)
        if step < 0:
            store_part(d_h0 + at, d_h, left)
            store_all_parts(d_c0 + at, c_stride, d_c, left)
            continue
        d_h += load_part(like, d_y + at, left)
        saved = load_all(like, _gates_of(a, like, d, u, pair), VECTOR_BYTES, cell.saved)
        if step == 0:
            c_before = load_all_parts(like, c0 + at, c_stride, cell.own, left)
        else:
            c_before = load_kept(cell, like, _cells_of(a, like, d, u, before))
        c_after = load_kept(cell, like, _cells_of(a, like, d, u, pair))
        h, h_after = load_part(like, h_before + at, left), load_part(like, y + at, left)
        per_unit = per_unit_of(a, like, d, u * W)
        d_p, d_before, d_per_unit = cell.gradients(
            (d_h, *d_c), saved, (h, *c_before), (h_after, *c_after), per_unit
        )
        here = to + u * (slot_bytes // blocks)
        d_p = in_places(cell, d_p)
        if left < W:
            # Whatever a cell makes of zeros: a NaN would spread, by products with zero weights.
            d_p = first_elements(d_p, left)
        store_all(here, slot_bytes, d_p)
        store_all(here + cell.slots * slot_bytes, slot_bytes, d_per_unit)
        if cell.carries_h:
            store(d_h_carry + at, d_before[0])
        store_all(d_c_carry + at, carry_stride, d_before[1:])


@routine
def _d_x(a: Any, like: Any, d: int, first: int, end: int, own: int, thread: int, team: int) -> None:
    """The gradient of x at a chunk's pairs, of one direction."""
    W, size = lanes(like), itemsize(like)
    stride = a.chunk_rows * VECTOR_BYTES
    K = a.cell.x_gates * _blocks(a, like) * W
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    tiles = (pairs + ROWS - 1) // ROWS
    table = a.scratch + thread * SCRATCH_BYTES
    out = table + TABLE_BYTES
    begin, stop = share(wide_panels(like, a.I) * tiles, thread, team)
    for item in range(begin, stop):
        panel, tile = item // tiles, item % tiles
        low, high = share(pairs, tile, tiles)
        for j in range(high - low):
            pair = pairs_begin + low + j
            at = own + _of_block(a, like, d, 0, 0) + pair * VECTOR_BYTES
            store_word(table + 8 * j, at)
        packed = a.packed_w_ih + (d * wide_panels(like, a.I) + panel) * K * ROW_BYTES
        multiply(like, high - low, VECTORS, table, stride, size, packed, K, out)
        column = panel * VECTORS * W
        for j in range(high - low):
            row = pair_of(a, d, pairs_begin + low + j)
            to = a.d_x + (row * a.I + column) * size
            _write(like, to, out + j * ROW_BYTES, a.I - column, a.D == 2)


@inlined
def _write(like: Any, to: int, found: int, columns: int, adds: bool) -> None:
    """Write or add a tile's row, of which that many columns exist."""
    W = lanes(like)
    for v in range(VECTORS):
        value, at = load(like, found + v * VECTOR_BYTES), to + v * VECTOR_BYTES
        if adds:
            value += load_part(like, at, columns - v * W)
        store_part(at, value, columns - v * W)


@routine
def _d_weights(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """What a chunk adds to the gradients of W_hh and W_ih: products over its pairs."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    W, blocks = lanes(like), _blocks(a, like)
    slots = a.cell.slots
    begin, stop = share(a.D * (wide_h + wide_i) * slots * blocks, thread, team)
    for item in range(begin, stop):
        panel, block = item // (slots * blocks), item % (slots * blocks)
        d, panel = panel // (wide_h + wide_i), panel % (wide_h + wide_i)
        d_gate = own + _of_block(a, like, d, 0, block) + first_pair(a, first) * VECTOR_BYTES
        if panel < wide_h:
            gate = a.cell.h_gate_at[block // blocks]
            d_w = a.d_w_hh_1 if d else a.d_w_hh_0
            packed = a.packed_h + (d * wide_h + panel) * a.chunk_rows * ROW_BYTES
            columns = a.H
        else:
            panel -= wide_h
            gate = a.cell.x_gate_at[block // blocks]
            d_w = a.d_w_ih_1 if d else a.d_w_ih_0
            packed = a.packed_x + (d * wide_i + panel) * a.chunk_rows * ROW_BYTES
            columns = a.I
        if gate >= 0 and d_w != 0:
            column, unit = panel * VECTORS * W, block % blocks * W
            to = d_w + ((gate * a.H + unit) * columns + column) * itemsize(like)
            units = min(W, a.H - unit)
            _d_weights_block(
                a, like, first, end, d_gate, packed, to, units, columns, column, thread
            )


@inlined
def _d_weights_block(
    a: Any,
    like: Any,
    first: int,
    end: int,
    d_gate: int,
    packed: int,
    to: int,
    units: int,
    columns: int,
    column: int,
    thread: int,
) -> None:
    """A block of units of one gate times a panel of columns, over a chunk's pairs."""
    size, block_stride = itemsize(like), lanes(like) * VECTOR_BYTES
    table = a.scratch + thread * SCRATCH_BYTES
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


@routine
def _d_unit(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """What a chunk adds to the sums over pairs, of biases' and other parameters' gradients."""
    pairs = first_pair(a, end) - first_pair(a, first)
    begin, stop = share(a.D * a.cell.d_units * _blocks(a, like), thread, team)
    for item in range(begin, stop):
        total = zero(like)
        at = own + (item * a.chunk_rows + first_pair(a, first)) * VECTOR_BYTES
        for pair in range(pairs):
            total += load(like, at + pair * VECTOR_BYTES)
        to = a.d_unit + item * VECTOR_BYTES
        if end != a.S:
            total += load(like, to)
        store(to, total)
