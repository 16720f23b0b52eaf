"""The backward kernel of a cell that normalises; its threads divide the work as the forward's.

What the forward computed from its pre-activations is computed again. The end of a chunk of steps is
that of other cells (`backward_chunk`).
"""

from typing import Any

from lstm_kernels.backends.numba_cpu.backward_chunk import end_of_chunk
from lstm_kernels.backends.numba_cpu.backward_layout import (
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
    parts_of_rows,
    steps_are_apart,
    wide_panels,
)
from lstm_kernels.backends.numba_cpu.meeting import meet, share, team_size, thread_number
from lstm_kernels.backends.numba_cpu.norms import (
    before_at,
    by_norm,
    d_after_at,
    d_stage_of,
    run_levels,
    run_levels_back,
    stage_of,
)
from lstm_kernels.backends.numba_cpu.pairing import TABLE_BYTES
from lstm_kernels.backends.numba_cpu.products import scratch_bytes
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
    zero,
)
from lstm_kernels.backends.numba_cpu.stamp_lines import GATES, MEETING, PACKING, PRODUCTS
from lstm_kernels.backends.numba_cpu.stamps import clock_starts, stamp
from lstm_kernels.backends.numba_cpu.tile import ROWS
from lstm_kernels.backends.numba_cpu.tuples import (
    first_elements,
    in_places,
    load_all,
    load_all_parts,
    load_kept,
    store_all,
    store_all_parts,
)


def backward_normed(a: Any) -> None:
    """What every thread of the team runs; `a` is a record of `arguments.BACKWARD_NORMED`."""
    like = a.like
    thread, team = thread_number(), team_size()
    clock_starts(a, thread)
    list_pairs(a, thread, team)
    prepare(a, like, thread, team)
    stamp(a, thread, PACKING)
    meet(a.flags, thread, team)
    stamp(a, thread, MEETING)
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
        _steps(a, like, first, end, own, following, thread, team)
        meet(a.flags, thread, team)
        stamp(a, thread, MEETING)
        end_of_chunk(a, like, first, end, own, thread, team)
        end = first
        following = own
        half = 1 - half
    _steps(a, like, -1, 0, 0, following, thread, team)


def _steps_by_rows(
    a: Any, like: Any, first: int, end: int, own: int, following: int, thread: int, team: int
) -> None:
    """A chunk's steps, part by part of the rows; those before step 0 if the chunk begins at -1."""
    parts, blocks = parts_of_rows(a), (a.H + lanes(like) - 1) // lanes(like)
    wide = wide_panels(like, a.H)
    memory, stride = a.line_memory + thread * a.line_bytes, blocks * VECTOR_BYTES
    d_hs = a.d_h_memory + thread * a.d_h_bytes
    begin, stop = share(a.D * parts, thread, team)
    for item in range(begin, stop):
        d, part = item // parts, item % parts
        low, high = share(a.B, part, parts)
        for step in range(end - 1, first - 1, -1):
            rows = (min(high, alive_at(a, step)) if step >= 0 else high) - low
            after = own if step < end - 1 else following
            for panel in range(wide if rows > 0 else 0):
                to = d_hs + panel * ROW_BYTES
                _multiply(a, like, step, after, d, panel, low, low + rows, to, wide, thread)
            stamp(a, thread, PRODUCTS)
            for row in range(low, low + rows):
                d_h = d_hs + (row - low) * wide * ROW_BYTES
                if step < 0:
                    for u in range(blocks):
                        _begin(a, like, d, row, u, d_h + u * VECTOR_BYTES)
                    continue
                for u in range(blocks):
                    at = d_h + u * VECTOR_BYTES
                    _collect(a, like, step, d, row, u, at, memory, stride, u)
                run_levels(a, like, d, memory, stride, blocks, 0)
                run_levels_back(a, like, d, memory, stride, blocks, 0)
                for u in range(blocks):
                    _conclude(a, like, step, d, row, u, own, memory, stride, u)
            stamp(a, thread, GATES)


def _steps_by_panels(
    a: Any, like: Any, first: int, end: int, own: int, following: int, thread: int, team: int
) -> None:
    """The same, all rows of some panels of units."""
    blocks, wide = (a.H + lanes(like) - 1) // lanes(like), wide_panels(like, a.H)
    meets = not steps_are_apart(a, wide, VECTORS * lanes(like), team)
    memory, stride = a.line_memory + thread * a.line_bytes, a.B * VECTOR_BYTES
    d_hs = a.d_h_memory + thread * a.d_h_bytes
    begin, stop = share(a.D * wide, thread, team)
    for step in range(end - 1, first - 1, -1):
        rows = alive_at(a, step) if step >= 0 else a.B
        tiles = (rows + ROWS - 1) // ROWS
        after = own if step < end - 1 else following
        for item in range(begin, stop):
            d, panel = direction_of(item, wide)
            for tile in range(tiles):
                low, high = share(rows, tile, tiles)
                to = d_hs + low * ROW_BYTES
                _multiply(a, like, step, after, d, panel, low, high, to, 1, thread)
            stamp(a, thread, PRODUCTS)
            for u in range(panel * VECTORS, min((panel + 1) * VECTORS, blocks)):
                d_h = d_hs + u % VECTORS * VECTOR_BYTES
                if step < 0:
                    for row in range(rows):
                        _begin(a, like, d, row, u, d_h + row * ROW_BYTES)
                    continue
                for row in range(rows):
                    at = d_h + row * ROW_BYTES
                    _collect(a, like, step, d, row, u, at, memory, stride, row)
                run_levels(a, like, d, memory, stride, rows, u)
                run_levels_back(a, like, d, memory, stride, rows, u)
                for row in range(rows):
                    _conclude(a, like, step, d, row, u, own, memory, stride, row)
            stamp(a, thread, GATES)
        if meets and step > first:
            meet(a.flags, thread, team)
            stamp(a, thread, MEETING)


_steps = by_norm(_steps_by_rows, _steps_by_panels)


@routine
def _multiply(
    a: Any,
    like: Any,
    step: int,
    following: int,
    d: int,
    panel: int,
    low: int,
    high: int,
    to: int,
    wide: int,
    thread: int,
) -> None:
    """The gradients of h of some rows through the step after, a tile of a panel's units.

    Args:
        to, wide: where the first row's go, and how many panels apart rows are.
    """
    table = a.scratch + thread * scratch_bytes(like)
    out = table + TABLE_BYTES
    continued = (min(high, alive_at(a, step + 1)) if step + 1 < a.S else low) - low
    if continued > 0:
        start = following + place_of_block(a, like, d, a.cell.h_begin, 0)
        start += (first_pair(a, step + 1) + low) * bytes_of_pair(a, like)
        packed = a.packed_w_hh + (
            (d * wide_panels(like, a.H) + panel) * a.cell.h_gates * a.span * ROW_BYTES
        )
        pair_bytes, block_bytes = bytes_of_pair(a, like), bytes_of_block(a, like)
        multiplied = GatesTimesPanel(
            continued, table, start, pair_bytes, block_bytes, panel, packed, out
        )
        multiply_w_hh(a, like, multiplied)
    for j in range(high - low):
        for at in range(0, ROW_BYTES, VECTOR_BYTES):
            found = load(like, out + j * ROW_BYTES + at) if j < continued else zero(like)
            store(to + j * wide * ROW_BYTES + at, found)


@inlined
def _d_states_of(a: Any, like: Any, d: int, row: int, u: int, d_h: int, ends: bool) -> Any:
    """The gradients of a block's states: from the step after, or of the last ones."""
    blocks, size, left = (
        (a.H + lanes(like) - 1) // lanes(like),
        itemsize(like),
        a.H - u * lanes(like),
    )
    sequence, unit = d * a.B + order_of(a, row), u * lanes(like)
    carry = ((d * a.B + row) * blocks + u) * VECTOR_BYTES
    through = load(like, d_h)
    if ends:
        through += load_part(like, a.d_h_n + (sequence * a.H + unit) * size, left)
        of_c = a.d_c_n + (sequence * a.cell.own * a.H + unit) * size
        own = load_all_parts(like, of_c, a.H * size, a.cell.own, left)
    else:
        if a.cell.carries_h:
            through += load(like, a.d_h_carry + carry)
        own = load_all(like, a.d_c_carry + carry, a.D * a.B * blocks * VECTOR_BYTES, a.cell.own)
    return through, own


@inlined
def _collect(
    a: Any,
    like: Any,
    step: int,
    d: int,
    row: int,
    u: int,
    d_h: int,
    memory: int,
    stride: int,
    line: int,
) -> None:
    """What a step took of a row's block, and the gradients of its states after it, into a line."""
    size, unit, left = itemsize(like), u * lanes(like), a.H - u * lanes(like)
    pair, to = first_pair(a, step) + row, memory + line * VECTOR_BYTES
    p = load_all(like, gates_of(a, like, d, u, pair), VECTOR_BYTES, a.cell.slots)
    store_all(to, stride, p)
    if step == 0:
        of_c = ((d * a.B + order_of(a, row)) * a.cell.own * a.H + unit) * size
        own = load_all_parts(like, a.c0 + of_c, a.H * size, a.cell.own, left)
    else:
        own = load_kept(a.cell, like, cells_of(a, like, d, u, first_pair(a, step - 1) + row))
    before = before_at(a, to, stride)
    store(before, load_part(like, state_before(a, like, d, step, row) + unit * size, left))
    store_all(before + stride, stride, own)
    ends = step == length_of(a, row) - 1
    through, d_own = _d_states_of(a, like, d, row, u, d_h, ends)
    d_y = a.d_y + ((pair_of(a, d, pair) * a.D + d) * a.H + unit) * size
    d_after = d_after_at(a, to, stride)
    store(d_after, through + load_part(like, d_y, left))
    store_all(d_after + stride, stride, d_own)


@inlined
def _conclude(
    a: Any,
    like: Any,
    step: int,
    d: int,
    row: int,
    u: int,
    own: int,
    memory: int,
    stride: int,
    line: int,
) -> None:
    """The gradients of a block's pre-activations and states before a step."""
    cell, left = a.cell, a.H - u * lanes(like)
    blocks, pair = (a.H + lanes(like) - 1) // lanes(like), first_pair(a, step) + row
    p, before, per_unit, normed, values = stage_of(a, like, d, memory, stride, line, u)
    d_after, d_values = d_stage_of(a, like, memory, stride, line)
    d_p, d_before, d_per_unit = cell.gradients(
        d_after, d_values, p, before, per_unit, normed, values
    )
    d_p = in_places(cell, d_p)
    if left < lanes(like):
        # A cell may make anything from zeros: a NaN would spread through products with zero
        # weights.
        d_p = first_elements(d_p, left)
    slot_bytes = blocks * bytes_of_block(a, like)
    to = own + place_of_block(a, like, d, 0, u) + pair * bytes_of_pair(a, like)
    store_all(to, slot_bytes, d_p)
    store_all(to + cell.slots * slot_bytes, slot_bytes, d_per_unit)
    carry = ((d * a.B + row) * blocks + u) * VECTOR_BYTES
    if cell.carries_h:
        store(a.d_h_carry + carry, d_before[0])
    store_all(a.d_c_carry + carry, a.D * a.B * blocks * VECTOR_BYTES, d_before[1:])


@inlined
def _begin(a: Any, like: Any, d: int, row: int, u: int, d_h: int) -> None:
    """The gradients of a block's h0 and other first states."""
    size, unit, left = itemsize(like), u * lanes(like), a.H - u * lanes(like)
    sequence = d * a.B + order_of(a, row)
    through, own = _d_states_of(a, like, d, row, u, d_h, length_of(a, row) == 0)
    store_part(a.d_h0 + (sequence * a.H + unit) * size, through, left)
    of_c = a.d_c0 + (sequence * a.cell.own * a.H + unit) * size
    store_all_parts(of_c, a.H * size, own, left)
