"""The forward kernel: weights packed, then chunk by chunk x W_ih^T, and a loop over its steps.

A thread owns panels of units over all steps, so that its part of W_hh stays in its own cache; the
threads meet once a step, to see each other's h. A panel holds all gates of its units: the states
are made from the product while it is still in the nearest cache.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    chunk_end,
    first_pair,
    length_of,
    list_pairs,
    order_of,
    pack_gates,
    pair_of,
    panels_of,
    per_unit_of,
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
    list_pairs(a, thread, team)
    _prepare(a, like, thread, team)
    meet(a.flags, thread, team)
    first = 0
    while first < a.S:
        end = chunk_end(a, first)
        # Gates lie behind those of all pairs before, or at the beginning of the chunk's own.
        base = 0 if a.saves_gates else first_pair(a, first)
        _project(a, like, first, end, base, thread, team)
        meet(a.flags, thread, team)
        for step in range(first, end):
            _step(a, like, step, base, thread, team)
            meet(a.flags, thread, team)
        first = end


@routine
def _prepare(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack the weights, and copy the states before step 0: this thread's panels."""
    blocks, panels = panels_of(a, like)
    begin, end = share(a.D * panels, thread, team)
    for item in range(begin, end):
        d, u = item // panels, item % panels * blocks * lanes(like)
        w_ih, w_hh = (a.w_ih_1, a.w_hh_1) if d else (a.w_ih_0, a.w_hh_0)
        to = a.packed_w_ih + item * a.I * a.cell.x_vectors * VECTOR_BYTES
        pack_gates(like, to, a.cell.x_gates, blocks, w_ih, a.I, a.H, u)
        to = a.packed_w_hh + item * a.H * a.cell.h_vectors * VECTOR_BYTES
        pack_gates(like, to, a.cell.h_gates, blocks, w_hh, a.H, a.H, u)
        for block in range(blocks):
            unit = u + block * lanes(like)
            _pack_bias(a, like, d, unit, _bias_of(a, item, block))
            for row in range(a.B):
                _first_states(a, like, d, unit, row, panels)


@inlined
def _bias_of(a: Any, panel: int, block: int) -> int:
    """Where a block's biases are packed, [slots, W]."""
    return a.packed_b + (panel * a.cell.blocks + block) * a.cell.slots * VECTOR_BYTES


@inlined
def _pack_bias(a: Any, like: Any, d: int, u: int, to: int) -> None:
    """[slots, W]: the sum of the biases that belong to each slot."""
    b_ih, b_hh = (a.b_ih_1, a.b_hh_1) if d else (a.b_ih_0, a.b_hh_0)
    for slot in range(a.cell.slots):
        bias = zero(like)
        x_gate, h_gate = a.cell.x_gate_of[slot], a.cell.h_gate_of[slot]
        if b_ih != 0 and x_gate >= 0:
            bias += load_part(like, b_ih + (x_gate * a.H + u) * itemsize(like), a.H - u)
        if b_ih != 0 and h_gate >= 0:
            bias += load_part(like, b_hh + (h_gate * a.H + u) * itemsize(like), a.H - u)
        store(to + slot * VECTOR_BYTES, bias)


@inlined
def _first_states(a: Any, like: Any, d: int, u: int, row: int, panels: int) -> None:
    """Copy a block's h0 and c0; a sequence without steps ends with them."""
    size = itemsize(like)
    units = panels * a.cell.blocks * lanes(like)
    here = ((d * a.B + row) * units + u) * size
    left, ends = a.H - u, length_of(a, row) == 0
    given = d * a.B + order_of(a, row)
    h = load_part(like, a.h0 + (given * a.H + u) * size, left)
    store(a.h_state + here, h)
    of_c = (given * a.cell.own * a.H + u) * size
    own = load_all_parts(like, a.c0 + of_c, a.H * size, a.cell.own, left)
    store_all(a.c_state + here, a.D * a.B * units * size, own)
    if ends:
        store_part(a.h_n + (given * a.H + u) * size, h, left)
        store_all_parts(a.c_n + of_c, a.H * size, own, left)


@routine
def _project(a: Any, like: Any, first: int, end: int, base: int, thread: int, team: int) -> None:
    """X W_ih^T + b of a chunk's pairs, into `gates`."""
    blocks, panels = panels_of(a, like)
    line_bytes = a.cell.line * VECTOR_BYTES
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    tiles = (pairs + ROWS - 1) // ROWS
    table = a.scratch + thread * SCRATCH_BYTES
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
            _add_bias(a, like, rows, found, _bias_of(a, panel, block), gates + block * line_bytes)


@inlined
def _add_bias(a: Any, like: Any, rows: int, found: int, bias: int, to: int) -> None:
    """Write a block's pre-activations but for what comes from h, of a tile's rows."""
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
    state_bytes = panels * blocks * VECTOR_BYTES
    rows = alive_at(a, step)
    tiles = (rows + ROWS - 1) // ROWS
    table = a.scratch + thread * SCRATCH_BYTES
    out = table + TABLE_BYTES
    before = a.h_state + step % 2 * a.D * a.B * state_bytes
    after = a.h_state + (step + 1) % 2 * a.D * a.B * state_bytes
    begin, end = share(a.D * panels * tiles, thread, team)
    for i in range(end - begin):
        item = there_and_back(begin, end, i, step)
        panel, tile = item // tiles, item % tiles
        d = panel // panels
        low, high = share(rows, tile, tiles)
        for j in range(high - low):
            store_word(table + 8 * j, before + (d * a.B + low + j) * state_bytes)
        vectors = a.cell.h_vectors
        packed = a.packed_w_hh + panel * a.H * vectors * VECTOR_BYTES
        multiply(like, high - low, vectors, table, VECTOR_BYTES, itemsize(like), packed, a.H, out)
        for j in range(high - low):
            row = low + j
            pair = first_pair(a, step) + row
            state = (d * a.B + row) * state_bytes + panel % panels * blocks * VECTOR_BYTES
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
                    out + j * ROW_BYTES + at * a.cell.h_gates,
                )
                cells = (panel * a.cell_rows + pair) * blocks + block
                u = (panel % panels * blocks + block) * lanes(like)
                h = _next_states(
                    a, like, d, u, p, before + state + at, state + at, gates, cells, last
                )
                _put(a, h, after + state + at, y, last * a.H, u)


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
    stride = a.D * a.B * panels_of(a, like)[1] * a.cell.blocks * VECTOR_BYTES
    own = load_all(like, a.c_state + state, stride, a.cell.own)
    per_unit = per_unit_of(a, like, d, u)
    after, saved = a.cell.next_state(p, (load(like, before), *own), per_unit)
    own = after[1:]
    store_all(a.c_state + state, stride, own)
    store_all(a.gates + gates * a.cell.line * VECTOR_BYTES, VECTOR_BYTES, saved)
    if a.cells != 0:
        to = a.cells + cells * a.cell.kept_states * VECTOR_BYTES
        store_all(to, VECTOR_BYTES, kept_of(a.cell, own))
    if last >= 0:
        to = a.c_n + (last * a.cell.own * a.H + u) * size
        store_all_parts(to, a.H * size, own, left)
    return after[0]


@inlined
def _put(a: Any, h: Any, state: int, y: int, last: int, u: int) -> None:
    """Write h of a block where the next step, y and, at a sequence's end, h_n have it."""
    store(state, h)
    store_part(a.y + (y + u) * itemsize(h), h, a.H - u)
    if last >= 0:
        store_part(a.h_n + (last + u) * itemsize(h), h, a.H - u)
