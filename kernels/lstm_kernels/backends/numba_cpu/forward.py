"""The forward kernel: weights packed, then chunk by chunk x W_ih^T, and a loop over its steps.

A thread owns panels of units over all steps, so that its part of W_hh stays in its own cache; the
threads meet once a step, to see each other's h. A panel holds all gates of its units: the state is
made from the product while it is still in the nearest cache.
"""

from typing import Any

from numba import carray

from lstm_kernels.backends.numba_cpu.activations import sigmoid, tanh
from lstm_kernels.backends.numba_cpu.arguments import GRU, LSTM, RNN_TANH
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
    where_positive,
    zero,
)
from lstm_kernels.backends.numba_cpu.team import (
    meet,
    share,
    team_size,
    there_and_back,
    thread_number,
)
from lstm_kernels.backends.numba_cpu.tile import (
    ROWS,
    SCRATCH_BYTES,
    TABLE_BYTES,
    VECTORS,
    multiply,
    multiply_three,
)


def forward(arguments: Any) -> None:
    """What every thread of the team runs; `arguments` is a record of `arguments.FORWARD`."""
    a = carray(arguments, 1)[0]
    like = zero(a.like)
    thread, team = thread_number(), team_size()
    list_pairs(a, thread, team)
    _prepare(a, like, thread, team)
    meet(a.flags, thread, team)
    first = 0
    while first < a.S:
        end = chunk_end(a, first)
        # Gates lie behind those of all pairs before, or at the beginning of the chunk's own.
        base = 0 if a.saves else first_pair(a, first)
        _project(a, like, first, end, base, thread, team)
        meet(a.flags, thread, team)
        for step in range(first, end):
            _step(a, like, step, base, thread, team)
            meet(a.flags, thread, team)
        first = end


@routine
def _prepare(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack the weights, and copy the states before step 0: this thread's panels."""
    W = lanes(like)
    blocks, panels = panels_of(a, like)
    vectors = 3 if a.cell == GRU else VECTORS
    stride, less = (W, W) if blocks == VECTORS else (a.H, 0)
    begin, end = share(a.D * panels, thread, team)
    for item in range(begin, end):
        d, u = item // panels, item % panels * blocks * W
        w_ih, w_hh = (a.w_ih_1, a.w_hh_1) if d else (a.w_ih_0, a.w_hh_0)
        row_bytes = vectors * VECTOR_BYTES
        to = a.packed_w_ih + item * a.I * row_bytes
        pack_gates(like, to, vectors, w_ih, a.I, u, stride, a.H - u, less)
        to = a.packed_w_hh + item * a.H * row_bytes
        pack_gates(like, to, vectors, w_hh, a.H, u, stride, a.H - u, less)
        _pack_bias(a, like, a.packed_b + item * ROW_BYTES, d, u, stride, less)
        for row in range(a.B):
            _first_state(a, like, d, u, row, blocks, panels)


@inlined
def _pack_bias(a: Any, like: Any, to: int, d: int, u: int, stride: int, less: int) -> None:
    """[4, W]: the sum of both biases, but for a GRU's n: that from x, then that from h."""
    b_ih, b_hh = (a.b_ih_1, a.b_hh_1) if d else (a.b_ih_0, a.b_hh_0)
    size = itemsize(like)
    for v in range(VECTORS):
        bias = zero(a.like)
        if b_ih != 0:
            left = a.H - u - v * less
            at = (v * stride + u) * size
            if a.cell != GRU or v < 2:
                bias = load_part(like, b_ih + at, left) + load_part(like, b_hh + at, left)
            elif v == 2:
                bias = load_part(like, b_ih + at, left)
            else:
                bias = load_part(like, b_hh + at - a.H * size, left)
        store(to + v * VECTOR_BYTES, bias)


@inlined
def _first_state(a: Any, like: Any, d: int, u: int, row: int, blocks: int, panels: int) -> None:
    """Copy h0 and c0 of a panel's units; a sequence without steps ends with them."""
    W, size = lanes(like), itemsize(like)
    for block in range(blocks):
        given = ((d * a.B + order_of(a, row)) * a.H + u + block * W) * size
        here = (d * a.B + row) * panels * blocks * VECTOR_BYTES + (u + block * W) * size
        left = a.H - u - block * W
        h = load_part(like, a.h0 + given, left)
        store(a.h_state + here, h)
        if length_of(a, row) == 0:
            store_part(a.h_n + given, h, left)
        if a.cell == LSTM:
            c = load_part(like, a.c0 + given, left)
            store(a.c_state + here, c)
            if length_of(a, row) == 0:
                store_part(a.c_n + given, c, left)


@inlined
def _product(a: Any, like: Any, rows: int, table: int, panel: int, K: int, out: int) -> None:
    if a.cell == GRU:
        multiply_three(like, rows, table, VECTOR_BYTES, itemsize(like), panel, K, out)
    else:
        multiply(like, rows, table, VECTOR_BYTES, itemsize(like), panel, K, out)


@routine
def _project(a: Any, like: Any, first: int, end: int, base: int, thread: int, team: int) -> None:
    """X W_ih^T + b of a chunk's pairs, into `gates`."""
    _, panels = panels_of(a, like)
    vectors = 3 if a.cell == GRU else VECTORS
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    tiles = (pairs + ROWS - 1) // ROWS
    table = a.scratch + thread * SCRATCH_BYTES
    out = table + TABLE_BYTES
    begin, stop = share(a.D * panels * tiles, thread, team)
    for item in range(begin, stop):
        panel, tile = item // tiles, item % tiles
        low, high = share(pairs, tile, tiles)
        for j in range(high - low):
            row = pair_of(a, panel // panels, pairs_begin + low + j)
            store_word(table + 8 * j, a.x + row * a.I * itemsize(like))
        packed = a.packed_w_ih + panel * a.I * vectors * VECTOR_BYTES
        _product(a, like, high - low, table, packed, a.I, out)
        gates = a.gates + (panel * a.gate_rows + pairs_begin + low - base) * ROW_BYTES
        bias = a.packed_b + panel * ROW_BYTES
        for v in range(VECTORS):
            b = load(like, bias + v * VECTOR_BYTES)
            for at in range(v * VECTOR_BYTES, (high - low) * ROW_BYTES, ROW_BYTES):
                store(gates + at, (load(like, out + at) + b) if v < vectors else b)


@routine
def _step(a: Any, like: Any, step: int, base: int, thread: int, team: int) -> None:
    """The product with W_hh of one step, and the states after it."""
    blocks, panels = panels_of(a, like)
    vectors = 3 if a.cell == GRU else VECTORS
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
        packed = a.packed_w_hh + panel * a.H * vectors * VECTOR_BYTES
        _product(a, like, high - low, table, packed, a.H, out)
        for j in range(high - low):
            pair = first_pair(a, step) + low + j
            gates = a.gates + (panel * a.gate_rows + pair - base) * ROW_BYTES
            state = (d * a.B + low + j) * state_bytes + panel % panels * blocks * VECTOR_BYTES
            at = out + j * ROW_BYTES
            u = panel % panels * blocks * lanes(like)
            ends = length_of(a, low + j) - 1 == step
            y = (pair_of(a, d, pair) * a.D + d) * a.H
            last = (d * a.B + order_of(a, low + j)) * a.H if ends else -1
            if a.cell == LSTM:
                c = _lstm(a, like, at, gates, a.c_state + state)
                if a.saves:
                    store(a.cells + (panel * a.gate_rows + pair) * VECTOR_BYTES, c)
                if ends:
                    store_part(a.c_n + (last + u) * itemsize(like), c, a.H - u)
                h = load(like, gates + 3 * VECTOR_BYTES) * tanh(c)
                _put(a, h, after + state, y, last, u)
            elif a.cell == GRU:
                h = _gru(a, like, at, gates, before + state)
                _put(a, h, after + state, y, last, u)
            else:
                for v in range(VECTORS):
                    here = v * VECTOR_BYTES
                    h = load(like, at + here) + load(like, gates + here)
                    h = tanh(h) if a.cell == RNN_TANH else where_positive(h, h)
                    _put(a, h, after + state + here, y, last, u + v * lanes(like))


@inlined
def _lstm(a: Any, like: Any, out: int, gates: int, c_state: int) -> Any:
    """C after a step; i, f, g, o replace what came from x."""
    V = VECTOR_BYTES
    i = sigmoid(load(like, out) + load(like, gates))
    f = sigmoid(load(like, out + V) + load(like, gates + V))
    g = tanh(load(like, out + 2 * V) + load(like, gates + 2 * V))
    o = sigmoid(load(like, out + 3 * V) + load(like, gates + 3 * V))
    c = f * load(like, c_state) + i * g
    store(c_state, c)
    store(gates, i)
    store(gates + V, f)
    store(gates + 2 * V, g)
    store(gates + 3 * V, o)
    return c


@inlined
def _gru(a: Any, like: Any, out: int, gates: int, h_state: int) -> Any:
    """H after a step; r, z, n and h W_n + b replace what came from x."""
    V = VECTOR_BYTES
    r = sigmoid(load(like, out) + load(like, gates))
    z = sigmoid(load(like, out + V) + load(like, gates + V))
    from_h = load(like, out + 2 * V) + load(like, gates + 3 * V)
    n = tanh(load(like, gates + 2 * V) + r * from_h)
    store(gates, r)
    store(gates + V, z)
    store(gates + 2 * V, n)
    store(gates + 3 * V, from_h)
    return n + z * (load(like, h_state) - n)


@inlined
def _put(a: Any, h: Any, state: int, y: int, last: int, u: int) -> None:
    """Write h of a block where the next step, y and, at a sequence's end, h_n have it."""
    store(state, h)
    store_part(a.y + (y + u) * itemsize(h), h, a.H - u)
    if last >= 0:
        store_part(a.h_n + (last + u) * itemsize(h), h, a.H - u)
