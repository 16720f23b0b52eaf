"""The backward kernel: a loop over a chunk's steps, last first, then the products of that chunk.

Each step is a product of the gates' gradients with W_hh, in panels of four blocks of units, and
from it the gates' gradients of the step before. They are kept for one chunk only: dx and every
weight's gradient are made of a chunk while its pairs are still in a near cache.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.heads import (
    add_to_heads,
    by_head,
    multiply_heads,
    pack_columns_of_heads,
    seeing,
)
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    chunk_begin,
    direction_of,
    first_pair,
    length_of,
    list_pairs,
    order_of,
    pack_columns,
    pack_two_rows,
    pair_of,
    panels_of,
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
from lstm_kernels.backends.numba_cpu.pairing import STEP, TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import (
    configure,
    in_pairs,
    lines_of,
    load_operand,
    multiply_rows,
    padded_k,
    release,
    rows_at_once,
    scratch_bytes,
    store_all_operands,
    store_operand,
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
from lstm_kernels.backends.numba_cpu.tile import (
    ROWS,
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
    prepare(a, like, thread, team)
    meet(a.flags, thread, team)
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
        configure(like, min(rows_at_once(like), a.B))
        for step in range(end - 1, first - 1, -1):
            _step(a, like, step, own, own if step < end - 1 else following, thread, team)
            if meets or step == first:
                meet(a.flags, thread, team)
        configure(like, rows_at_once(like))
        turn_pairs(like, a, first, end, own, thread, team)
        for d in range(a.D):
            if a.d_x != 0:
                write_d_x(a, like, d, first, end, own, thread, team)
            if a.D == 2:
                # Both directions add to the same rows.
                meet(a.flags, thread, team)
        add_d_weights(a, like, first, end, own, thread, team)
        sum_units(a, like, first, end, own, thread, team)
        meet(a.flags, thread, team)
        end = first
        following = own
        half = 1 - half
    configure(like, min(rows_at_once(like), a.B))
    _step(a, like, -1, 0, following, thread, team)
    release(like)


@inlined
def _blocks(a: Any, like: Any) -> int:
    """Blocks of units."""
    return (a.H + lanes(like) - 1) // lanes(like)


# A chunk's gradients of what meets W are read as rows of a pair or, for the products over pairs,
# as rows of a unit. Number by number one layout serves both, [d, slot, block, pair, W]. In pairs a
# row's elements are side by side: [d, pair, slot, block, W], which is turned for the other.


@inlined
def bytes_of_pair(a: Any, like: Any) -> int:
    """From a pair's gradients to the next pair's."""
    # A vector of zeros ends a pair's row: a product may read that far past its slots.
    units = (a.cell.d_units * _blocks(a, like) + 1) * lanes(like)
    return padded_k(like, units) * itemsize(like) if in_pairs(like) else VECTOR_BYTES


@inlined
def bytes_of_block(a: Any, like: Any) -> int:
    """From a block's gradients to the next block's, of one pair."""
    return lanes(like) * itemsize(like) if in_pairs(like) else a.chunk_rows * VECTOR_BYTES


@inlined
def bytes_of_direction(a: Any, like: Any) -> int:
    """From a direction's gradients to the other's."""
    blocks = a.cell.d_units * _blocks(a, like)
    return (a.chunk_rows if in_pairs(like) else blocks) * (
        bytes_of_pair(a, like) if in_pairs(like) else a.chunk_rows * VECTOR_BYTES
    )


@inlined
def place_of_block(a: Any, like: Any, d: int, slot: int, block: int) -> int:
    """Where a block's gradients of one slot begin."""
    of_block = (slot * _blocks(a, like) + block) * bytes_of_block(a, like)
    return d * bytes_of_direction(a, like) + of_block


@routine
def prepare(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack W_hh and W_ih by columns: this thread's panels."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    units = _blocks(a, like) * lanes(like)
    begin, end = share(a.D * (wide_h + wide_i), thread, team)
    for item in range(begin, end):
        d, panel = item // (wide_h + wide_i), item % (wide_h + wide_i)
        if panel < wide_h:
            lines = lines_of(like, a.cell.h_gates * a.span)
            to = a.packed_w_hh + (d * wide_h + panel) * lines * ROW_BYTES
            _pack_w_hh(a, like, to, a.w_hh_1 if d else a.w_hh_0, panel)
        elif a.d_x != 0:
            panel -= wide_h
            w, x_gates = a.w_ih_1 if d else a.w_ih_0, a.cell.x_gates
            lines = lines_of(like, x_gates * units)
            to = a.packed_w_ih + (d * wide_i + panel) * lines * ROW_BYTES
            for slot in range(x_gates):
                gate = a.cell.x_gate_at[slot]
                pack_weights(like, a, to, slot, w, gate, panel, a.I)
            pack_end(like, to, x_gates * units)


def _pack_weights(
    like: Any, a: Any, to: int, slot: int, w: int, gate: int, panel: int, columns: int
) -> None:
    """[units, 4, W] of a panel: its columns of one gate of w [G*H, columns]."""
    column = panel * VECTORS * lanes(like)
    units = _blocks(a, like) * lanes(like)
    for j in range(units):
        source = w + ((gate * a.H + j) * columns + column) * itemsize(like)
        left = columns - column if j < a.H else 0
        pack_columns(like, to + (slot * units + j) * ROW_BYTES, source, left)


def _pack_weights_in_pairs(
    like: Any, a: Any, to: int, slot: int, w: int, gate: int, panel: int, columns: int
) -> None:
    """The same in pairs of rows, [units/2, 4, W, 2]."""
    column = panel * VECTORS * lanes(like)
    units = _blocks(a, like) * lanes(like)
    row_bytes = columns * itemsize(like)
    for j in range(0, units, 2):
        first = w + ((gate * a.H + j) * columns + column) * itemsize(like)
        one, two = first if j < a.H else 0, first + row_bytes if j + 1 < a.H else 0
        pack_two_rows(like, to + (slot * units + j) // 2 * ROW_BYTES, one, two, columns - column)


def _no_end(like: Any, to: int, rows: int) -> None:
    """A panel that ends with its last row."""


def _pack_end(like: Any, to: int, rows: int) -> None:
    """Zeros behind a panel's rows, an even number."""
    for k in range(rows // 2, lines_of(like, rows)):
        pack_two_rows(like, to + k * ROW_BYTES, 0, 0, 0)


pack_weights = either(_pack_weights, _pack_weights_in_pairs)
pack_end = either(_no_end, _pack_end)


def _pack_of_one_head(a: Any, like: Any, to: int, w: int, panel: int) -> None:
    """[gates, units, 4, W] of a panel: its columns of W_hh."""
    for slot in range(a.cell.h_gates):
        gate = a.cell.h_gate_at[a.cell.h_begin + slot]
        pack_weights(like, a, to, slot, w, gate, panel, a.H)
    pack_end(like, to, a.cell.h_gates * a.span)


_pack_w_hh = by_head(_pack_of_one_head, pack_columns_of_heads)


@inlined
def state_before(a: Any, like: Any, d: int, step: int, row: int) -> int:
    """The address of h [H] before a row's step."""
    if step == 0:
        return a.h0 + (d * a.B + order_of(a, row)) * a.H * itemsize(like)
    at = pair_of(a, d, first_pair(a, step - 1) + row)
    return a.y + (at * a.D + d) * a.H * itemsize(like)


@routine
def pack_pairs(a: Any, like: Any, first: int, end: int, thread: int, team: int) -> None:
    """Pack x and the states before each step of a chunk, for products over its pairs."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    W, panel_bytes = lanes(like), lines_of(like, a.chunk_rows) * ROW_BYTES
    begin, stop = share(a.D * (wide_h + wide_i), thread, team)
    for item in range(begin, stop):
        d, panel = item // (wide_h + wide_i), item % (wide_h + wide_i)
        if panel < wide_h and (a.d_w_hh_1 if d else a.d_w_hh_0) != 0:
            to = a.packed_h + (d * wide_h + panel) * panel_bytes
            pack_states(like, a, to, d, first, end, panel * VECTORS * W)
        elif panel >= wide_h and (a.d_w_ih_1 if d else a.d_w_ih_0) != 0:
            panel -= wide_h
            to = a.packed_x + (d * wide_i + panel) * panel_bytes
            pack_inputs(
                like, a, to, d, first_pair(a, first), first_pair(a, end), panel * VECTORS * W
            )


def _pack_states(like: Any, a: Any, to: int, d: int, first: int, end: int, column: int) -> None:
    """[pairs, 4, W] of a panel: from a column on, the states before each step of a chunk."""
    for step in range(first, end):
        for row in range(alive_at(a, step)):
            source = state_before(a, like, d, step, row) + column * itemsize(like)
            pack_columns(like, to, source, a.H - column)
            to += ROW_BYTES


def _pack_states_in_pairs(
    like: Any, a: Any, to: int, d: int, first: int, end: int, column: int
) -> None:
    """The same in pairs of rows, [pairs/2, 4, W, 2]."""
    rows, waiting = 0, 0
    for step in range(first, end):
        for row in range(alive_at(a, step)):
            source = state_before(a, like, d, step, row) + column * itemsize(like)
            if rows % 2:
                pack_two_rows(like, to + rows // 2 * ROW_BYTES, waiting, source, a.H - column)
            waiting = source
            rows += 1
    if rows % 2:
        pack_two_rows(like, to + rows // 2 * ROW_BYTES, waiting, 0, a.H - column)
        rows += 1
    pack_end(like, to, rows)


def _pack_inputs(like: Any, a: Any, to: int, d: int, begin: int, end: int, column: int) -> None:
    """[pairs, 4, W] of a panel: from a column on, x at each pair of a chunk."""
    for pair in range(begin, end):
        source = a.x + (pair_of(a, d, pair) * a.I + column) * itemsize(like)
        pack_columns(like, to + (pair - begin) * ROW_BYTES, source, a.I - column)


def _pack_inputs_in_pairs(
    like: Any, a: Any, to: int, d: int, begin: int, end: int, column: int
) -> None:
    """The same in pairs of rows, [pairs/2, 4, W, 2]."""
    for pair in range(begin, end, 2):
        first = a.x + (pair_of(a, d, pair) * a.I + column) * itemsize(like)
        second = 0
        if pair + 1 < end:
            second = a.x + (pair_of(a, d, pair + 1) * a.I + column) * itemsize(like)
        pack_two_rows(like, to + (pair - begin) // 2 * ROW_BYTES, first, second, a.I - column)
    pack_end(like, to, (end - begin + 1) // 2 * 2)


pack_states = either(_pack_states, _pack_states_in_pairs)
pack_inputs = either(_pack_inputs, _pack_inputs_in_pairs)


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
        multiply_w_hh(
            a, like, count, table, start, pair_bytes, block_bytes, of_direction, packed, out
        )
        for at in range(
            out + max(count, 0) * ROW_BYTES, out + (high - low) * ROW_BYTES, VECTOR_BYTES
        ):
            store(at, zero(like))
        for j in range(high - low):
            _row_gradients(a, like, d, step, low + j, block, out + j * ROW_BYTES, own)


def _multiply_one_head(
    a: Any,
    like: Any,
    rows: int,
    table: int,
    start: int,
    stride: int,
    block_stride: int,
    panel: int,
    packed: int,
    out: int,
) -> None:
    """Write rows of gates' gradients times a panel of W_hh: see `heads.multiply_heads`."""
    K = padded_k(like, a.cell.h_gates * a.span)
    multiply_rows(
        like, rows, VECTORS, table, start, stride, block_stride, itemsize(like), packed, K, out
    )


multiply_w_hh = by_head(_multiply_one_head, multiply_heads)


@inlined
def _prefetch_saved(a: Any, like: Any, d: int, step: int, low: int, high: int, block: int) -> None:
    """Prefetch what the forward saved for a tile while the product before it is made."""
    blocks = _blocks(a, like)
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


@inlined
def _row_gradients(
    a: Any, like: Any, d: int, step: int, row: int, block: int, d_hs: int, own: int
) -> None:
    """The gradients of a row's panel of units, from those of h through the step after."""
    W, size, blocks = lanes(like), itemsize(like), _blocks(a, like)
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


@routine
def write_d_x(
    a: Any, like: Any, d: int, first: int, end: int, own: int, thread: int, team: int
) -> None:
    """The gradient of x at a chunk's pairs, of one direction."""
    W, size = lanes(like), itemsize(like)
    pair_bytes, block_bytes = bytes_of_pair(a, like), bytes_of_block(a, like)
    K = padded_k(like, a.cell.x_gates * _blocks(a, like) * W)
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
def add_d_weights(
    a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int
) -> None:
    """What a chunk adds to the gradients of W_hh and W_ih: products over its pairs."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    W, blocks = lanes(like), _blocks(a, like)
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
    blocks, pairs = _blocks(a, like), first_pair(a, end) - first_pair(a, first)
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


@inlined
def turned_bytes(a: Any, like: Any) -> int:
    """From a unit's gradients, of all pairs of a chunk, to the next unit's."""
    return padded_k(like, a.chunk_rows) * itemsize(like)


def _turn_nothing(
    like: Any, a: Any, first: int, end: int, own: int, thread: int, team: int
) -> None:
    """Number by number, gradients are read in their own layout."""


def _turn_pairs(like: Any, a: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """Write a chunk's gradients as rows of units, `d_gates_turned`, zeros behind the last pair."""
    W, blocks, slots = lanes(like), _blocks(a, like), a.cell.slots
    pairs, pair_bytes = first_pair(a, end) - first_pair(a, first), bytes_of_pair(a, like)
    begin, stop = share(a.D * slots * blocks, thread, team)
    for item in range(begin, stop):
        d, block = item // (slots * blocks), item % (slots * blocks)
        source = own + place_of_block(a, like, d, 0, block) + first_pair(a, first) * pair_bytes
        to = a.d_gates_turned + item * W * turned_bytes(a, like)
        for pair in range(0, pairs, STEP):
            at, here = source + pair * pair_bytes, to + pair * itemsize(like)
            turn(like, at, pair_bytes, pairs - pair, here, turned_bytes(a, like))
    meet(a.flags, thread, team)


turn_pairs = either(_turn_nothing, _turn_pairs)


@routine
def sum_units(a: Any, like: Any, first: int, end: int, own: int, thread: int, team: int) -> None:
    """What a chunk adds to the sums over pairs, of biases' and other parameters' gradients."""
    pairs, pair_bytes = first_pair(a, end) - first_pair(a, first), bytes_of_pair(a, like)
    blocks = a.cell.d_units * _blocks(a, like)
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
