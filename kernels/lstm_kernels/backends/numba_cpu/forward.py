"""The forward kernel: weights packed, then chunk by chunk x W_ih^T, and a loop over its steps.

A thread owns panels of units over all steps, so that its part of W_hh stays in its own cache; the
threads meet once a step, to see each other's h. A panel holds all gates of its units: the states
are made from the product while it is still in the nearest cache.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.heads import by_head, pack_gates_of_heads, seen_by
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    chunk_end,
    direction_of,
    first_pair,
    length_of,
    list_pairs,
    order_of,
    pack_gates,
    pair_of,
    panels_of,
    per_unit_of,
    steps_are_apart,
    tile_of,
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
    copy_elements,
    in_pairs,
    lines_of,
    load_operand,
    multiply_onto,
    multiply_rows,
    padded_k,
    release,
    rows_at_once,
    scratch_bytes,
    store_operand,
    tile_bytes,
    tiles_at_once,
)
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    either,
    inlined,
    itemsize,
    lanes,
    load,
    load_part,
    routine,
    store,
    store_part,
    store_word,
    zero,
)
from lstm_kernels.backends.numba_cpu.stamp_lines import FROM_X, GATES, MEETING, PACKING, PRODUCTS
from lstm_kernels.backends.numba_cpu.stamps import clock_starts, stamp
from lstm_kernels.backends.numba_cpu.tile import (
    ROWS,
    multiply,
)
from lstm_kernels.backends.numba_cpu.tuples import (
    first_elements,
    kept_of,
    load_all,
    load_all_parts,
    pre_activations,
    store_all,
    store_all_parts,
)


def forward(a: Any) -> None:
    """What every thread of the team runs; `a` is a record of `arguments.FORWARD`."""
    like = a.like
    thread, team = thread_number(), team_size()
    clock_starts(a, thread)
    list_pairs(a, thread, team)
    prepare(a, like, thread, team)
    stamp(a, thread, PACKING)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
    blocks, panels = panels_of(a, like)
    meets = not steps_are_apart(a, panels, blocks * lanes(like), team)
    first = 0
    while first < a.S:
        end = chunk_end(a, first)
        # Gates are behind those of all earlier pairs, or at the beginning of the chunk's own.
        base = 0 if a.saves_gates else first_pair(a, first)
        project(like, a, first, end, base, thread, team)
        stamp(a, thread, FROM_X)
        meet(a.flags, thread, team)
        stamp(a, thread, MEETING)
        configure(like, min(rows_at_once(like), a.B))
        for step in range(first, end):
            _step(a, like, step, base, thread, team)
            if meets or step == end - 1:
                meet(a.flags, thread, team)
                stamp(a, thread, MEETING)
        first = end
    release(like)


@routine
def prepare(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack weights and biases, and copy the states before step 0: this thread's panels."""
    blocks, panels = panels_of(a, like)
    begin, end = share(a.D * panels, thread, team)
    for item in range(begin, end):
        d, u = item // panels, item % panels * blocks * lanes(like)
        w_ih, w_hh = (a.w_ih_1, a.w_hh_1) if d else (a.w_ih_0, a.w_hh_0)
        to = a.packed_w_ih + item * lines_of(like, a.I) * a.cell.x_vectors * VECTOR_BYTES
        pack_gates(like, to, a.cell.x_gates, blocks, w_ih, a.I, a.H, u)
        to = a.packed_w_hh + item * lines_of(like, a.span) * a.cell.h_vectors * VECTOR_BYTES
        _pack_w_hh(a, like, to, blocks, w_hh, u)
    prepare_states(a, like, thread, team)


@routine
def prepare_states(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack the biases, and copy the states before step 0: this thread's panels."""
    blocks, panels = panels_of(a, like)
    begin, end = share(a.D * panels, thread, team)
    for item in range(begin, end):
        d, of_direction = direction_of(item, panels)
        for block in range(blocks):
            unit = (of_direction * blocks + block) * lanes(like)
            _pack_bias(a, like, d, unit, bias_of(a, item, block))
            for row in range(a.B):
                _first_states(a, like, d, unit, row)


def _pack_of_one_head(a: Any, like: Any, to: int, blocks: int, w_hh: int, u: int) -> None:
    """A panel of W_hh: all of h meets it."""
    pack_gates(like, to, a.cell.h_gates, blocks, w_hh, a.H, a.H, u)


_pack_w_hh = by_head(_pack_of_one_head, pack_gates_of_heads)


@inlined
def bias_of(a: Any, panel: int, block: int) -> int:
    """Where a block's biases are packed, [slots, W]."""
    return a.packed_b + (panel * a.cell.blocks + block) * a.cell.slots * VECTOR_BYTES


@inlined
def _pack_bias(a: Any, like: Any, d: int, u: int, to: int) -> None:
    """[slots, W]: the sum of the biases that belong to each slot."""
    b_ih, b_hh = (a.b_ih_1, a.b_hh_1) if d else (a.b_ih_0, a.b_hh_0)
    for slot in range(a.cell.slots):
        bias = zero(like)
        x_gate, h_gate = a.cell.x_bias_of[slot], a.cell.h_bias_of[slot]
        if b_ih != 0 and x_gate >= 0:
            bias += load_part(like, b_ih + (x_gate * a.H + u) * itemsize(like), a.H - u)
        if b_ih != 0 and h_gate >= 0:
            bias += load_part(like, b_hh + (h_gate * a.H + u) * itemsize(like), a.H - u)
        store(to + slot * VECTOR_BYTES, bias)


@inlined
def _first_states(a: Any, like: Any, d: int, u: int, row: int) -> None:
    """Copy a block's h0 and c0; a sequence without steps ends with them."""
    size = itemsize(like)
    left, ends = a.H - u, length_of(a, row) == 0
    given = d * a.B + order_of(a, row)
    h = load_part(like, a.h0 + (given * a.H + u) * size, left)
    store_operand(a.h_state + (d * a.B + row) * h_bytes(a, like) + u * size, h)
    units = panels_of(a, like)[1] * a.cell.blocks * lanes(like)
    if u + lanes(like) == units and units < padded_k(like, units):
        # Values behind the last panel's units are multiplied by zeros; both states have them.
        for turn in range(2):
            row_at = a.h_state + ((turn * a.D + d) * a.B + row) * h_bytes(a, like)
            store_operand(row_at + units * size, zero(like))
    of_c = (given * a.cell.own * a.H + u) * size
    own = load_all_parts(like, a.c0 + of_c, a.H * size, a.cell.own, left)
    here = a.c_state + (d * a.B + row) * c_bytes(a, like) + u // lanes(like) * VECTOR_BYTES
    store_all(here, a.D * a.B * c_bytes(a, like), own)
    if ends:
        store_part(a.h_n + (given * a.H + u) * size, h, left)
        store_all_parts(a.c_n + of_c, a.H * size, own, left)


@inlined
def h_bytes(a: Any, like: Any) -> int:
    """Bytes of one sequence's h as a step's product reads it."""
    blocks, panels = panels_of(a, like)
    return padded_k(like, panels * blocks * lanes(like)) * itemsize(like)


@inlined
def c_bytes(a: Any, like: Any) -> int:
    """Bytes of one sequence's states other than h."""
    blocks, panels = panels_of(a, like)
    return panels * blocks * VECTOR_BYTES


def _project(like: Any, a: Any, first: int, end: int, base: int, thread: int, team: int) -> None:
    """X W_ih^T + b of a chunk's pairs, into `gates`."""
    blocks, panels = panels_of(a, like)
    line_bytes = a.cell.line * VECTOR_BYTES
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    tiles = (pairs + ROWS - 1) // ROWS
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    begin, stop = share(a.D * panels * tiles, thread, team)
    for item in range(begin, stop):
        panel, tile = item // tiles, item % tiles
        low, high = share(pairs, tile, tiles)
        rows = high - low
        for j in range(rows):
            row = pair_of(a, panel // panels, pairs_begin + low + j)
            store_word(table + 8 * j, a.x + row * a.I * itemsize(like))
        packed = a.packed_w_ih + panel * a.I * a.cell.x_vectors * VECTOR_BYTES
        vectors = a.cell.x_vectors
        multiply(like, rows, vectors, table, VECTOR_BYTES, itemsize(like), packed, a.I, out)
        gates = a.gates + (panel * a.gate_rows + pairs_begin + low - base) * blocks * line_bytes
        for block in range(blocks):
            found = out + block * a.cell.x_gates * VECTOR_BYTES
            add_bias(a, like, rows, found, bias_of(a, panel, block), gates + block * line_bytes)


def _project_in_pairs(
    like: Any, a: Any, first: int, end: int, base: int, thread: int, team: int
) -> None:
    """The same of rows that lie one after another: x is copied first, in the order of the pairs."""
    blocks, panels = panels_of(a, like)
    line_bytes = a.cell.line * VECTOR_BYTES
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    row_bytes = padded_k(like, a.I) * itemsize(like)
    begin, stop = share(a.D * pairs, thread, team)
    for item in range(begin, stop):
        source = a.x + pair_of(a, item // pairs, pairs_begin + item % pairs) * a.I * itemsize(like)
        to = a.x_rows + item * row_bytes
        for at in range(0, a.I, STEP):
            copy_elements(like, to + at * itemsize(like), source + at * itemsize(like), a.I - at)
    stamp(a, thread, FROM_X)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
    configure(like, rows_at_once(like))
    most = rows_at_once(like)
    tiles = (pairs + most - 1) // most
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    vectors, K = a.cell.x_vectors, padded_k(like, a.I)
    begin, stop = share(a.D * panels * tiles, thread, team)
    for item in range(begin, stop):
        panel, tile = tile_of(item, tiles)
        low, high = tile * most, min((tile + 1) * most, pairs)
        start = a.x_rows + (direction_of(panel, panels)[0] * pairs + low) * row_bytes
        packed = a.packed_w_ih + panel * lines_of(like, a.I) * vectors * VECTOR_BYTES
        gates = a.gates + (panel * a.gate_rows + pairs_begin + low - base) * blocks * line_bytes
        rows = high - low
        if a.cell.joined != 0 and rows == most:
            # A full tile is added to the biases, and written in its place.
            bias, to = bias_of(a, panel, 0), gates
            multiply_onto(
                like, rows, vectors, start, row_bytes, packed, K, bias, 0, to, blocks * line_bytes
            )
            continue
        multiply_rows(like, rows, vectors, table, start, row_bytes, 0, 0, packed, K, out)
        for block in range(blocks):
            found = out + block * a.cell.x_gates * VECTOR_BYTES
            add_bias(a, like, rows, found, bias_of(a, panel, block), gates + block * line_bytes)


project = either(_project, _project_in_pairs)


@inlined
def add_bias(a: Any, like: Any, rows: int, found: int, bias: int, to: int) -> None:
    """Write a block's pre-activations without the part from h, for a tile's rows."""
    to_bytes = a.cell.blocks * a.cell.line * VECTOR_BYTES
    for slot in range(a.cell.slots):
        at = slot * VECTOR_BYTES
        b = load(like, bias + at)
        for j in range(rows):
            from_x = (load(like, found + j * ROW_BYTES + at) + b) if slot < a.cell.x_gates else b
            store(to + j * to_bytes + at, from_x)


@routine
def _step(a: Any, like: Any, step: int, base: int, thread: int, team: int) -> None:
    """The product with W_hh of one step, and the states after it."""
    blocks, panels = panels_of(a, like)
    state_bytes = h_bytes(a, like)
    rows = alive_at(a, step)
    tiles = (rows + rows_at_once(like) - 1) // rows_at_once(like)
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    size = itemsize(like)
    before = a.h_state + step % 2 * a.D * a.B * state_bytes
    after = a.h_state + (step + 1) % 2 * a.D * a.B * state_bytes
    vectors, width = a.cell.h_vectors, blocks * lanes(like)
    gates_bytes = blocks * a.cell.line * VECTOR_BYTES
    joined = in_pairs(like) and a.cell.joined != 0
    begin, end = share(a.D * panels * tiles, thread, team)
    for done in range(0, end - begin, tiles_at_once(like)):
        several = min(tiles_at_once(like), end - begin - done)
        for i in range(several):
            panel, tile = tile_of(there_and_back(begin, end, done + i, step), tiles)
            low, high = share(rows, tile, tiles)
            d, of_direction = direction_of(panel, panels)
            seen, elements = seen_by(a, of_direction * width, width)
            start, K = before + (d * a.B + low) * state_bytes, padded_k(like, elements)
            start += seen * size
            packed = a.packed_w_hh + panel * lines_of(like, a.span) * vectors * VECTOR_BYTES
            to, many = out + i * tile_bytes(like), high - low
            if joined:
                line = panel * a.gate_rows + first_pair(a, step) + low - base
                gates, stride = a.gates + line * gates_bytes, gates_bytes
                multiply_onto(
                    like, many, vectors, start, state_bytes, packed, K, gates, stride, to, ROW_BYTES
                )
            else:
                multiply_rows(
                    like,
                    many,
                    vectors,
                    table,
                    start,
                    state_bytes,
                    VECTOR_BYTES,
                    size,
                    packed,
                    K,
                    to,
                )
        stamp(a, thread, PRODUCTS)
        for i in range(several):
            panel, tile = tile_of(there_and_back(begin, end, done + i, step), tiles)
            low, high = share(rows, tile, tiles)
            found = out + i * tile_bytes(like)
            states_of_tile(a, like, step, base, panel, low, high, found, before, after)
        stamp(a, thread, GATES)


@inlined
def states_of_tile(
    a: Any,
    like: Any,
    step: int,
    base: int,
    panel: int,
    low: int,
    high: int,
    found: int,
    before: int,
    after: int,
) -> None:
    """The states of a panel's units and some rows after a step, from the product with W_hh.

    Args:
        found: the product.
        before, after: where h is before the step, and where it goes.
    """
    blocks, panels = panels_of(a, like)
    d, of_direction = direction_of(panel, panels)
    state_bytes, size = h_bytes(a, like), itemsize(like)
    for j in range(high - low):
        row = low + j
        pair = first_pair(a, step) + row
        of_h = (d * a.B + row) * state_bytes
        of_c = (d * a.B + row) * c_bytes(a, like) + of_direction * blocks * VECTOR_BYTES
        y = (pair_of(a, d, pair) * a.D + d) * a.H
        ends = length_of(a, row) - 1 == step
        last = d * a.B + order_of(a, row) if ends else -1
        for block in range(blocks):
            at = block * VECTOR_BYTES
            gates = (panel * a.gate_rows + pair - base) * blocks + block
            p = pre_activations(
                a.cell,
                like,
                a.gates + gates * a.cell.line * VECTOR_BYTES,
                found + j * ROW_BYTES + at * a.cell.h_gates,
            )
            cells = (panel * a.cell_rows + pair) * blocks + block
            u = (of_direction * blocks + block) * lanes(like)
            h = _next_states(
                a, like, d, u, p, before + of_h + u * size, of_c + at, gates, cells, last
            )
            put(a, h, after + of_h + u * size, y, last * a.H, u)


@inlined
def _next_states(
    a: Any,
    like: Any,
    d: int,
    u: int,
    p: Any,
    before: int,
    state: int,
    gates: int,
    cells: int,
    last: int,
) -> Any:
    """A block's h after a step; its other states are written where they belong.

    Args:
        before: the address of h before the step.
        state: where the block's states lie, from each one's beginning.
        gates, cells: the block's number among those of all pairs.
        last: the sequence's number among all, where it ends here, else -1.
    """
    size, left = itemsize(like), a.H - u
    stride = a.D * a.B * c_bytes(a, like)
    own = load_all(like, a.c_state + state, stride, a.cell.own)
    per_unit = per_unit_of(a, like, d, u)
    after, saved = a.cell.next_state(p, (load_operand(like, before), *own), per_unit)
    own = after[1:]
    store_all(a.c_state + state, stride, own)
    if a.saves_gates != 0:
        store_all(a.gates + gates * a.cell.line * VECTOR_BYTES, VECTOR_BYTES, saved)
    if a.cells != 0:
        to = a.cells + cells * a.cell.kept_states * VECTOR_BYTES
        store_all(to, VECTOR_BYTES, kept_of(a.cell, own))
    if last >= 0:
        to = a.c_n + (last * a.cell.own * a.H + u) * size
        store_all_parts(to, a.H * size, own, left)
    return after[0]


@inlined
def put(a: Any, h: Any, state: int, y: int, last: int, u: int) -> None:
    """Write h of a block where the next step, y and, at a sequence's end, h_n have it."""
    # In pairs, a cell's results for units that do not exist are multiplied by zeros.
    store_operand(state, first_elements((h,), a.H - u)[0] if in_pairs(h) else h)
    store_part(a.y + (y + u) * itemsize(h), h, a.H - u)
    if last >= 0:
        store_part(a.h_n + (last + u) * itemsize(h), h, a.H - u)
