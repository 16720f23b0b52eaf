"""The forward kernel of a cell that normalises.

Over units: a thread has some rows to itself, with all units, and no thread waits for another
within a chunk of steps. Over the batch: it has some panels of units, with all rows, as `forward`.
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.forward import c_bytes, h_bytes, prepare, project, put
from lstm_kernels.backends.numba_cpu.heads import seen_by
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    chunk_end,
    direction_of,
    first_pair,
    length_of,
    list_pairs,
    order_of,
    pair_of,
    panels_of,
    parts_of_rows,
    steps_are_apart,
)
from lstm_kernels.backends.numba_cpu.meeting import meet, share, team_size, thread_number
from lstm_kernels.backends.numba_cpu.norms import before_at, by_norm, run_levels, stage_of
from lstm_kernels.backends.numba_cpu.pairing import TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import load_operand, multiply_rows, scratch_bytes
from lstm_kernels.backends.numba_cpu.simd import (
    VECTOR_BYTES,
    inlined,
    itemsize,
    lanes,
    routine,
    store,
)
from lstm_kernels.backends.numba_cpu.stamp_lines import FROM_X, GATES, MEETING, PACKING, PRODUCTS
from lstm_kernels.backends.numba_cpu.stamps import clock_starts, stamp
from lstm_kernels.backends.numba_cpu.tile import ROWS
from lstm_kernels.backends.numba_cpu.tuples import (
    kept_of,
    load_all,
    pre_activations,
    store_all,
    store_all_parts,
)


def forward_normed(a: Any) -> None:
    """What every thread of the team runs; `a` is a record of `arguments.FORWARD_NORMED`."""
    like = a.like
    thread, team = thread_number(), team_size()
    clock_starts(a, thread)
    list_pairs(a, thread, team)
    prepare(a, like, thread, team)
    stamp(a, thread, PACKING)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
    first = 0
    while first < a.S:
        end = chunk_end(a, first)
        base = 0 if a.saves_gates else first_pair(a, first)
        project(like, a, first, end, base, thread, team)
        stamp(a, thread, FROM_X)
        meet(a.flags, thread, team)
        stamp(a, thread, MEETING)
        _steps(a, like, first, end, base, thread, team)
        meet(a.flags, thread, team)
        stamp(a, thread, MEETING)
        first = end


def _steps_by_rows(
    a: Any, like: Any, first: int, end: int, base: int, thread: int, team: int
) -> None:
    """A chunk's steps, part by part of the rows."""
    parts, blocks = parts_of_rows(a), (a.H + lanes(like) - 1) // lanes(like)
    _, panels = panels_of(a, like)
    memory, stride = a.line_memory + thread * a.line_bytes, blocks * VECTOR_BYTES
    begin, stop = share(a.D * parts, thread, team)
    for item in range(begin, stop):
        d, part = item // parts, item % parts
        low, high = share(a.B, part, parts)
        for step in range(first, end):
            rows = min(high, alive_at(a, step)) - low
            for panel in range(panels if rows > 0 else 0):
                _multiply(a, like, step, base, d, panel, low, low + rows, thread)
            stamp(a, thread, PRODUCTS)
            for row in range(low, low + rows):
                for u in range(blocks):
                    _collect(a, like, step, base, d, row, u, memory, stride, u)
                run_levels(a, like, d, memory, stride, blocks, 0)
                for u in range(blocks):
                    _conclude(a, like, step, d, row, u, memory, stride, u)
            stamp(a, thread, GATES)


def _steps_by_panels(
    a: Any, like: Any, first: int, end: int, base: int, thread: int, team: int
) -> None:
    """A chunk's steps, all rows of some panels of units."""
    blocks, panels = panels_of(a, like)
    meets = not steps_are_apart(a, panels, blocks * lanes(like), team)
    memory, stride = a.line_memory + thread * a.line_bytes, a.B * VECTOR_BYTES
    begin, stop = share(a.D * panels, thread, team)
    for step in range(first, end):
        rows = alive_at(a, step)
        tiles = (rows + ROWS - 1) // ROWS
        for item in range(begin, stop):
            d, panel = direction_of(item, panels)
            for tile in range(tiles):
                low, high = share(rows, tile, tiles)
                _multiply(a, like, step, base, d, panel, low, high, thread)
            stamp(a, thread, PRODUCTS)
            for u in range(panel * blocks, (panel + 1) * blocks):
                for row in range(rows if u * lanes(like) < a.H else 0):
                    _collect(a, like, step, base, d, row, u, memory, stride, row)
                if u * lanes(like) < a.H:
                    run_levels(a, like, d, memory, stride, rows, u)
                for row in range(rows if u * lanes(like) < a.H else 0):
                    _conclude(a, like, step, d, row, u, memory, stride, row)
            stamp(a, thread, GATES)
        if meets and step < end - 1:
            meet(a.flags, thread, team)
            stamp(a, thread, MEETING)


_steps = by_norm(_steps_by_rows, _steps_by_panels)


@inlined
def _state_at(a: Any, like: Any, step: int, d: int, row: int) -> int:
    """Where a row's h is before a step."""
    return a.h_state + ((step % 2 * a.D + d) * a.B + row) * h_bytes(a, like)


@inlined
def _line_of(a: Any, like: Any, d: int, u: int, pair: int) -> int:
    """Where `gates` has a block's pre-activations of a pair, counted from where it begins."""
    blocks, panels = panels_of(a, like)
    panel = d * panels + u // blocks
    return a.gates + (
        ((panel * a.gate_rows + pair) * blocks + u % blocks) * a.cell.line * VECTOR_BYTES
    )


@routine
def _multiply(
    a: Any, like: Any, step: int, base: int, d: int, panel: int, low: int, high: int, thread: int
) -> None:
    """Add the product with W_hh to a panel's pre-activations of some rows, a tile at most."""
    blocks, panels = panels_of(a, like)
    size, state_bytes, width = itemsize(like), h_bytes(a, like), blocks * lanes(like)
    table = a.scratch + thread * scratch_bytes(like)
    out, vectors = table + TABLE_BYTES, a.cell.h_vectors
    seen, K = seen_by(a, panel * width, width)
    packed = a.packed_w_hh + (d * panels + panel) * a.span * vectors * VECTOR_BYTES
    start = _state_at(a, like, step, d, low) + seen * size
    rows = high - low
    multiply_rows(
        like, rows, vectors, table, start, state_bytes, VECTOR_BYTES, size, packed, K, out
    )
    for j in range(rows):
        pair = first_pair(a, step) + low + j - base
        for block in range(blocks):
            gates = _line_of(a, like, d, panel * blocks + block, pair)
            found = out + j * ROW_BYTES + block * VECTOR_BYTES * a.cell.h_gates
            store_all(gates, VECTOR_BYTES, pre_activations(a.cell, like, gates, found))


@inlined
def _collect(
    a: Any,
    like: Any,
    step: int,
    base: int,
    d: int,
    row: int,
    u: int,
    memory: int,
    stride: int,
    line: int,
) -> None:
    """What a step takes of a row's block, into a line."""
    to, pair = memory + line * VECTOR_BYTES, first_pair(a, step) + row - base
    p = load_all(like, _line_of(a, like, d, u, pair), VECTOR_BYTES, a.cell.slots)
    store_all(to, stride, p)
    h = _state_at(a, like, step, d, row) + u * lanes(like) * itemsize(like)
    state = a.c_state + (d * a.B + row) * c_bytes(a, like) + u * VECTOR_BYTES
    before = before_at(a, to, stride)
    store(before, load_operand(like, h))
    own = load_all(like, state, a.D * a.B * c_bytes(a, like), a.cell.own)
    store_all(before + stride, stride, own)


@inlined
def _conclude(
    a: Any, like: Any, step: int, d: int, row: int, u: int, memory: int, stride: int, line: int
) -> None:
    """The states of a row's block after a step, from a line whose norms are known."""
    size, pair, unit = itemsize(like), first_pair(a, step) + row, u * lanes(like)
    p, before, per_unit, normed, values = stage_of(a, like, d, memory, stride, line, u)
    states = a.cell.next_state(p, before, per_unit, normed, values)
    own = states[1:]
    state = a.c_state + (d * a.B + row) * c_bytes(a, like) + u * VECTOR_BYTES
    store_all(state, a.D * a.B * c_bytes(a, like), own)
    if a.cells != 0:
        blocks, panels = panels_of(a, like)
        place = ((d * panels + u // blocks) * a.cell_rows + pair) * blocks + u % blocks
        to = a.cells + place * a.cell.kept_states * VECTOR_BYTES
        store_all(to, VECTOR_BYTES, kept_of(a.cell, own))
    last = d * a.B + order_of(a, row) if length_of(a, row) - 1 == step else -1
    if last >= 0:
        to = a.c_n + (last * a.cell.own * a.H + unit) * size
        store_all_parts(to, a.H * size, own, a.H - unit)
    y = (pair_of(a, d, pair) * a.D + d) * a.H
    put(a, states[0], _state_at(a, like, step + 1, d, row) + unit * size, y, last * a.H, unit)
