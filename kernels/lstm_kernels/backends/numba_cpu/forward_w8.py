"""The forward kernel of int8 weights, for inference: it makes int8 of x and h as it goes.

It differs from `forward` in what is multiplied. The weights come packed (`int8_weights`). x is
quantised once a chunk, row by row. h is quantised at every step, by every thread for itself: all
of a row must be known first, and so the threads need not meet once more.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.forward import (
    add_bias,
    bias_of,
    h_bytes,
    prepare_states,
    states_of_tile,
)
from lstm_kernels.backends.numba_cpu.int8_products import (
    multiply_int8,
    padded,
    panel_bytes,
    quantise,
    row_bytes,
)
from lstm_kernels.backends.numba_cpu.layout import (
    alive_at,
    chunk_end,
    direction_of,
    first_pair,
    list_pairs,
    pair_of,
    panels_of,
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
from lstm_kernels.backends.numba_cpu.pairing import TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import scratch_bytes
from lstm_kernels.backends.numba_cpu.simd import VECTOR_BYTES, itemsize, lanes, routine
from lstm_kernels.backends.numba_cpu.stamp_lines import FROM_X, GATES, MEETING, PACKING, PRODUCTS
from lstm_kernels.backends.numba_cpu.stamps import clock_starts, stamp
from lstm_kernels.backends.numba_cpu.tile import ROWS


def forward_w8(a: Any) -> None:
    """What every thread of the team runs; `a` is a record of `arguments.FORWARD_W8`."""
    like = a.like
    thread, team = thread_number(), team_size()
    clock_starts(a, thread)
    list_pairs(a, thread, team)
    prepare_states(a, like, thread, team)
    stamp(a, thread, PACKING)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
    blocks, panels = panels_of(a, like)
    meets = not steps_are_apart(a, panels, blocks * lanes(like), team)
    first = 0
    while first < a.S:
        end = chunk_end(a, first)
        _project(a, like, first, end, thread, team)
        stamp(a, thread, FROM_X)
        meet(a.flags, thread, team)
        stamp(a, thread, MEETING)
        for step in range(first, end):
            _step(a, like, step, first_pair(a, first), thread, team)
            if meets or step == end - 1:
                meet(a.flags, thread, team)
                stamp(a, thread, MEETING)
        first = end


@routine
def _project(a: Any, like: Any, first: int, end: int, thread: int, team: int) -> None:
    """X W_ih^T + b of a chunk's pairs, into `gates`."""
    blocks, panels = panels_of(a, like)
    line_bytes = a.cell.line * VECTOR_BYTES
    pairs_begin = first_pair(a, first)
    pairs = first_pair(a, end) - pairs_begin
    stride = row_bytes(like, a.I)
    begin, stop = share(a.D * pairs, thread, team)
    for item in range(begin, stop):
        d, pair = direction_of(item, pairs)
        source = a.x + pair_of(a, d, pairs_begin + pair) * a.I * itemsize(like)
        quantise(like, a.x_rows + item * stride, source, a.I)
    stamp(a, thread, FROM_X)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
    tiles = (pairs + ROWS - 1) // ROWS
    out = a.scratch + thread * scratch_bytes(like) + TABLE_BYTES
    vectors = a.cell.x_vectors
    begin, stop = share(a.D * panels * tiles, thread, team)
    for item in range(begin, stop):
        panel, tile = tile_of(item, tiles)
        low, high = share(pairs, tile, tiles)
        rows = high - low
        start = a.x_rows + (direction_of(panel, panels)[0] * pairs + low) * stride
        packed = a.packed_w_ih + panel * panel_bytes(like, a.I, vectors)
        multiply_int8(like, rows, vectors, start, stride, packed, padded(like, a.I), out)
        gates = a.gates + (panel * a.gate_rows + low) * blocks * line_bytes
        for block in range(blocks):
            found = out + block * a.cell.x_gates * VECTOR_BYTES
            add_bias(a, like, rows, found, bias_of(a, panel, block), gates + block * line_bytes)


@routine
def _step(a: Any, like: Any, step: int, base: int, thread: int, team: int) -> None:
    """The product with W_hh of one step, and the states after it."""
    _, panels = panels_of(a, like)
    state_bytes, stride = h_bytes(a, like), row_bytes(like, a.H)
    rows = alive_at(a, step)
    tiles = (rows + ROWS - 1) // ROWS
    out = a.scratch + thread * scratch_bytes(like) + TABLE_BYTES
    before = a.h_state + step % 2 * a.D * a.B * state_bytes
    after = a.h_state + (step + 1) % 2 * a.D * a.B * state_bytes
    own = a.h_rows + thread * a.D * a.B * stride
    vectors = a.cell.h_vectors
    begin, end = share(a.D * panels * tiles, thread, team)
    for d in range(a.D):
        # A direction that has none of this thread's items may be at another step.
        if begin < (d + 1) * panels * tiles and d * panels * tiles < end:
            for row in range(d * a.B, d * a.B + rows):
                quantise(like, own + row * stride, before + row * state_bytes, a.H)
    for i in range(end - begin):
        panel, tile = tile_of(there_and_back(begin, end, i, step), tiles)
        low, high = share(rows, tile, tiles)
        start = own + (direction_of(panel, panels)[0] * a.B + low) * stride
        packed = a.packed_w_hh + panel * panel_bytes(like, a.H, vectors)
        multiply_int8(like, high - low, vectors, start, stride, packed, padded(like, a.H), out)
        stamp(a, thread, PRODUCTS)
        states_of_tile(a, like, step, base, panel, low, high, out, before, after)
        stamp(a, thread, GATES)
