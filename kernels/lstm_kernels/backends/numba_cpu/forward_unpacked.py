"""The forward kernel for few steps and sequences: it multiplies weights as they are (`unpacked`).

It differs from `forward` in that alone. A step reads as many bytes as if the weights were packed.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.forward import (
    add_bias,
    bias_of,
    h_bytes,
    prepare_states,
    states_of_tile,
)
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
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
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    inlined,
    itemsize,
    lanes,
    routine,
    store_word,
)
from lstm_kernels.backends.numba_cpu.stamp_lines import FROM_X, GATES, MEETING, PACKING, PRODUCTS
from lstm_kernels.backends.numba_cpu.stamps import clock_starts, stamp
from lstm_kernels.backends.numba_cpu.tile import ROWS
from lstm_kernels.backends.numba_cpu.unpacked import multiply_unpacked


def forward_unpacked(a: Any) -> None:
    """What every thread of the team runs; `a` is a record of `arguments.FORWARD`."""
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
        # Gates are behind those of all earlier pairs, or at the beginning of the chunk's own.
        base = 0 if a.saves_gates else first_pair(a, first)
        _project(a, like, first, end, base, thread, team)
        stamp(a, thread, FROM_X)
        meet(a.flags, thread, team)
        stamp(a, thread, MEETING)
        for step in range(first, end):
            _step(a, like, step, base, thread, team)
            if meets or step == end - 1:
                meet(a.flags, thread, team)
                stamp(a, thread, MEETING)
        first = end


@routine
def _project(a: Any, like: Any, first: int, end: int, base: int, thread: int, team: int) -> None:
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
        panel, tile = tile_of(item, tiles)
        low, high = share(pairs, tile, tiles)
        rows = high - low
        d, of_direction = direction_of(panel, panels)
        for j in range(rows):
            row = pair_of(a, d, pairs_begin + low + j)
            store_word(table + 8 * j, a.x + row * a.I * itemsize(like))
        w_ih = a.w_ih_1 if d else a.w_ih_0
        _multiply(a, like, rows, table, w_ih, a.cell.x_gates, of_direction, a.I, out)
        gates = a.gates + (panel * a.gate_rows + pairs_begin + low - base) * blocks * line_bytes
        for block in range(blocks):
            found = out + block * a.cell.x_gates * VECTOR_BYTES
            add_bias(a, like, rows, found, bias_of(a, panel, block), gates + block * line_bytes)


@routine
def _step(a: Any, like: Any, step: int, base: int, thread: int, team: int) -> None:
    """The product with W_hh of one step, and the states after it."""
    _, panels = panels_of(a, like)
    state_bytes = h_bytes(a, like)
    rows = alive_at(a, step)
    tiles = (rows + ROWS - 1) // ROWS
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    before = a.h_state + step % 2 * a.D * a.B * state_bytes
    after = a.h_state + (step + 1) % 2 * a.D * a.B * state_bytes
    begin, end = share(a.D * panels * tiles, thread, team)
    for i in range(end - begin):
        panel, tile = tile_of(there_and_back(begin, end, i, step), tiles)
        low, high = share(rows, tile, tiles)
        d, of_direction = direction_of(panel, panels)
        for j in range(high - low):
            store_word(table + 8 * j, before + (d * a.B + low + j) * state_bytes)
        w_hh = a.w_hh_1 if d else a.w_hh_0
        _multiply(a, like, high - low, table, w_hh, a.cell.h_gates, of_direction, a.H, out)
        stamp(a, thread, PRODUCTS)
        states_of_tile(a, like, step, base, panel, low, high, out, before, after)
        stamp(a, thread, GATES)


@inlined
def _multiply(
    a: Any, like: Any, rows: int, table: int, w: int, gates: int, panel: int, K: int, out: int
) -> None:
    """The product of a tile's rows with the gates of a direction's panel, as `tile.multiply`'s."""
    for block in range(a.cell.blocks):
        unit = (panel * a.cell.blocks + block) * lanes(like)
        for gate in range(gates):
            row = w + (gate * a.H + unit) * K * itemsize(like)
            to = out + (block * gates + gate) * VECTOR_BYTES
            multiply_unpacked(like, rows, table, row, a.H - unit, K, to, ROW_BYTES)
