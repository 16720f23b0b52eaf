"""What a backward packs: W_hh and W_ih for its steps, x and the states for products over pairs."""

from typing import Any

from lstm_kernels.backends.numba_cpu.backward_layout import blocks_of, state_before
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.heads import by_head, pack_columns_of_heads
from lstm_kernels.backends.numba_cpu.layout import (
    ROW_BYTES,
    alive_at,
    first_pair,
    pack_columns,
    pack_two_rows,
    pair_of,
    wide_panels,
)
from lstm_kernels.backends.numba_cpu.meeting import share
from lstm_kernels.backends.numba_cpu.products import lines_of
from lstm_kernels.backends.numba_cpu.simd import either, itemsize, lanes, routine


@routine
def prepare(a: Any, like: Any, thread: int, team: int) -> None:
    """Pack W_hh and W_ih by columns: this thread's panels."""
    wide_h, wide_i = wide_panels(like, a.H), wide_panels(like, a.I)
    units = blocks_of(a, like) * lanes(like)
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
    units = blocks_of(a, like) * lanes(like)
    for j in range(units):
        source = w + ((gate * a.H + j) * columns + column) * itemsize(like)
        left = columns - column if j < a.H else 0
        pack_columns(like, to + (slot * units + j) * ROW_BYTES, source, left)


def _pack_weights_in_pairs(
    like: Any, a: Any, to: int, slot: int, w: int, gate: int, panel: int, columns: int
) -> None:
    """The same in pairs of rows, [units/2, 4, W, 2]."""
    column = panel * VECTORS * lanes(like)
    units = blocks_of(a, like) * lanes(like)
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
