"""The device code of `streamed`: the gates of one step, between two products that cuBLAS makes.

A thread is one unit of one sequence; the grid is units, sequences, directions, and threads go on
to further sequences where there are more than a grid may have. The arithmetic is `held`'s.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from collections.abc import Callable
from functools import cache

from numba import cuda

from lstm_kernels.backends.fused_numba_cuda.cells import GRADIENTS, NEXT_STATE, ZERO
from lstm_kernels.backends.fused_numba_cuda.points import (
    length_of,
    load_blocks,
    position,
    preactivations,
    store_blocks,
)
from lstm_kernels.cells import CELLS


@cache
def forward_step_kernel(cell: str) -> Callable[..., None]:
    """One step's gates of a cell."""
    gates_of = CELLS[cell].x_blocks
    has_c = CELLS[cell].has_cell_state
    next_state = NEXT_STATE[cell]

    def forward_step(
        from_h,  # [D, B, G*H], h W_hh^T + b_hh
        from_x,  # [D, T, B, G*H], x W_ih^T + b_ih
        lengths,  # [B] int64, read where `ragged`
        y,  # [T, B, D*H], the step's row written where a sequence still runs
        h_n, c_n,  # [D, B, H], the state before, replaced by the one after; c_n where there is a c
        gates,  # [D, T, B, 4*H], written where `saves`; never for a plain cell
        cells,  # [D, T, B, H], likewise; where the cell has a c
        step, D, T, B, H, ragged, saves,
    ):  # fmt: skip
        unit = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        direction = cuda.blockIdx.z
        if unit < H:
            for sequence in range(cuda.blockIdx.y, B, cuda.gridDim.y):
                length = length_of(lengths, ragged, sequence, T)
                if step < length:
                    state = direction * B + sequence
                    place = position(step, length, direction) * B + sequence
                    place_of_direction = direction * T * B + place
                    x_0, x_1, x_2, x_3 = load_blocks(
                        from_x, place_of_direction * gates_of * H + unit, H, gates_of
                    )
                    h_0, h_1, h_2, h_3 = load_blocks(
                        from_h, state * gates_of * H + unit, H, gates_of
                    )
                    p_0, p_1, p_2, p_3 = preactivations(
                        x_0, x_1, x_2, x_3, h_0, h_1, h_2, h_3, gates_of
                    )
                    at = state * H + unit
                    c = c_n[at] if has_c else ZERO
                    h, c, s_0, s_1, s_2, s_3 = next_state(p_0, p_1, p_2, p_3, h_n[at], c)
                    y[(place * D + direction) * H + unit] = h
                    h_n[at] = h
                    if has_c:
                        c_n[at] = c
                    if saves:
                        if gates_of > 1:
                            store_blocks(
                                gates,
                                place_of_direction * 4 * H + unit, H, 4, s_0, s_1, s_2, s_3,
                            )  # fmt: skip
                        if has_c:
                            cells[place_of_direction * H + unit] = c

    return forward_step


@cache
def backward_step_kernel(cell: str) -> Callable[..., None]:
    """One step's gradients of a cell's gates."""
    gates_of = CELLS[cell].x_blocks
    slots = 4 if gates_of > 1 else 1
    has_c = CELLS[cell].has_cell_state
    is_gru = cell == "gru"
    gradients = GRADIENTS[cell]

    def backward_step(
        through_w,  # [D, B, H], the gates' gradients of the step after, times W_hh
        d_y,  # [T, B, D*H]
        d_h_n, d_c_n,  # [D, B, H]; d_c_n is read where the cell has a c
        gates,  # [D, T, B, 4*H], as saved; never read for a plain cell
        cells,  # [D, T, B, H], likewise; where the cell has a c
        y,  # [T, B, D*H]
        h0, c0,  # [D, B, H]
        lengths,  # [B] int64, read where `ragged`
        d_gates,  # [D, T, B, SLOTS*H], the step's row written where a sequence runs
        d_now,  # [D, B, G*H], written: the same, as rows of W_hh are ordered
        d_h0, d_c0,  # [D, B, H], written at step -1
        carry,  # [2, D, B, H], what reaches h and c beside the product; read but for the last step
        step, D, T, B, H, ragged,
    ):  # fmt: skip
        unit = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        direction = cuda.blockIdx.z
        if unit < H:
            for sequence in range(cuda.blockIdx.y, B, cuda.gridDim.y):
                length = length_of(lengths, ragged, sequence, T)
                row = direction * B + sequence
                state = row * H + unit
                carried = D * B * H + state
                dc = ZERO
                if step + 1 < length:
                    dh = through_w[state] + carry[state]
                    if has_c:
                        dc = carry[carried]
                else:
                    dh = d_h_n[state]
                    if has_c:
                        dc = d_c_n[state]
                if step < 0:
                    d_h0[state] = dh
                    if has_c:
                        d_c0[state] = dc
                elif step < length:
                    place = position(step, length, direction) * B + sequence
                    place_of_direction = direction * T * B + place
                    place_before = position(step - 1, length, direction) * B + sequence
                    at_y = (place * D + direction) * H + unit
                    s_0 = s_1 = s_2 = s_3 = ZERO
                    h = h_before = c = c_before = ZERO
                    if gates_of > 1:
                        s_0, s_1, s_2, s_3 = load_blocks(
                            gates, place_of_direction * 4 * H + unit, H, 4
                        )
                    else:
                        h = y[at_y]
                    if has_c:
                        c = cells[place_of_direction * H + unit]
                        if step > 0:
                            c_before = cells[(direction * T * B + place_before) * H + unit]
                        else:
                            c_before = c0[state]
                    if is_gru:
                        if step > 0:
                            h_before = y[(place_before * D + direction) * H + unit]
                        else:
                            h_before = h0[state]
                    g_0, g_1, g_2, g_3, d_direct, dc = gradients(
                        dh + d_y[at_y], dc, s_0, s_1, s_2, s_3, c_before, c, h_before, h
                    )
                    at = place_of_direction * slots * H + unit
                    store_blocks(d_gates, at, H, slots, g_0, g_1, g_2, g_3)
                    at = row * gates_of * H + unit
                    d_now[at] = g_0
                    if gates_of > 1:
                        d_now[at + H] = g_1
                        # A GRU's product with h makes of n the part from h alone.
                        d_now[at + 2 * H] = g_3 if is_gru else g_2
                    if gates_of > 3:
                        d_now[at + 3 * H] = g_3
                    carry[state] = d_direct
                    if has_c:
                        carry[carried] = dc

    return backward_step
