"""What a kernel is told: one record of addresses and sizes, filled in Python, read by name.

B rows, sorted by falling length, run S = max(lengths) steps of their own: in the reverse direction
a row's step 0 is its last one in time. So the rows that are alive at a step are always the first
ones, and the R = sum(lengths) pairs of step and row, one step after another, are all there is to
compute. `starts` [S + 1] tells where each step's pairs begin. A packed batch is in memory what its
pairs are: x, y and their gradients are [R, ...] then, and its rows are sorted already.

Units come in blocks of W, a vector. Forward, a panel is the gates of one block (LSTM, GRU) or
four blocks (plain); backward, always four blocks. Padding is zero in everything padded.
"""

from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types

CELL_NUMBERS = {"lstm": 0, "gru": 1, "rnn_tanh": 2, "rnn_relu": 3}
LSTM, GRU, RNN_TANH, RNN_RELU = CELL_NUMBERS.values()

# The last two: how many pairs a chunk may have, and how many `gates` has room for. Both are odd, so
# that panels do not begin a power of two apart, where they would compete for the same cache sets.
_SIZES = ("cell", "S", "B", "I", "H", "D", "R", "packed", "chunk_rows", "gate_rows")
# int64 [B], [B], [S + 1]: rows in sorted order, their lengths, and the first pair of each step.
_ROWS = ("order", "lengths", "starts")
_SCRATCH = ("pairs", "scratch", "flags")

FORWARD = (
    *_SIZES,
    *_ROWS,
    *_SCRATCH,
    # [T, B, I] and [T, B, D*H], or [R, I] and [R, D*H] of a packed batch; [D, B, H]
    *("x", "y", "h0", "c0", "h_n", "c_n"),
    # One a direction; biases are 0 where there are none.
    *("w_ih_0", "w_hh_0", "b_ih_0", "b_hh_0", "w_ih_1", "w_hh_1", "b_ih_1", "b_hh_1"),
    # Whether gates and cells are kept for all pairs; else gates are one chunk's.
    "saves",
    # [D, panels, gate_rows, 4, W]: from x, then activated: i, f, g, o or r, z, n, h W_n.
    "gates",
    # [D, panels, gate_rows, W], the LSTM's c after each pair, or 0
    "cells",
    # [D, panels, I or H, gates, W] and [D, panels, 4, W]
    *("packed_w_ih", "packed_w_hh", "packed_b"),
    # [2, D, B, units] before and after a step, [D, B, units]
    *("h_state", "c_state"),
)

BACKWARD = (
    *_SIZES,
    *_ROWS,
    *_SCRATCH,
    *("x", "y", "h0", "c0", "d_y", "d_h_n", "d_c_n", "gates", "cells"),
    *("w_ih_0", "w_hh_0", "w_ih_1", "w_hh_1"),
    # Each 0 where it is not asked for. d_bias [D, 4, units] is there always.
    *("d_x", "d_w_ih_0", "d_w_hh_0", "d_w_ih_1", "d_w_hh_1"),
    *("d_h0", "d_c0", "d_bias"),
    # [D, panels, gates*units, 4, W], of H's and of I's columns
    *("packed_w_hh", "packed_w_ih"),
    # Gates' gradients of a chunk, and of the one before: [2, D, slots, blocks, chunk_rows, W]
    "d_gates",
    # What they meet in weights' gradients: [D, panels, chunk_rows, 4, W], h's and x's columns
    *("packed_h", "packed_x"),
    # [D, B, units] what a step hands the one before it
    *("d_h_carry", "d_c_carry"),
)


@cache
def record_of(fields: tuple[str, ...], dtype: str) -> np.dtype[Any]:
    """The record of those fields, and one element `like` of the dtype that tensors have."""
    return np.dtype([("like", dtype), *((name, np.int64) for name in fields)], align=True)


def signature_of(fields: tuple[str, ...], dtype: str) -> Any:
    """The C signature of a kernel: the address of its record."""
    return types.void(types.CPointer(numba.from_dtype(record_of(fields, dtype))))
