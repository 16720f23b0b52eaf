"""The device code of `streamed`: the gates of one step, between two products that cuBLAS makes.

A thread is one unit of one sequence; the grid is units, sequences, directions, and threads continue
with further sequences if there are more than a grid may have. The arithmetic is `held`'s.

If a unit sees only its own state, there is no product to wait for: one launch makes all steps,
and the states stay in registers.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from collections.abc import Callable
from functools import cache

from numba import cuda

from lstm_kernels.backends.fused_numba_cuda import points
from lstm_kernels.backends.fused_numba_cuda.cells import (
    NUMBERS,
    cell_code,
    kept_states,
    saved_values,
)
from lstm_kernels.backends.fused_numba_cuda.points import length_of, position
from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.derive import derived


@cache
def forward_step_kernel(cell: str, dtype: str) -> Callable[..., None]:
    """One step's gates of a cell; all steps' where it makes no product with h."""
    definition = CELLS[cell]
    x_blocks, h_blocks = definition.x_blocks, definition.h_blocks
    K, U = definition.own_states, len(definition.per_unit)
    n_saved, n_kept = saved_values(cell), len(kept_states(cell))
    next_state = cell_code(cell, dtype)["next_state"]
    load_x, load_h = points.load_blocks(x_blocks), points.load_blocks(h_blocks)
    load_per_unit = points.load_blocks(U)
    preactivations = points.preactivations(cell)
    load_states, store_states = points.load_states(cell), points.store_states(cell)
    store_saved, store_kept = points.store_blocks(n_saved), points.store_kept(cell)

    def forward_step(
        from_h,  # [D, B, Gh*H], h W_hh^T + b_hh; never read where there is no such product
        from_x,  # [D, T, B, G*H], x W_ih^T + b_ih
        per_unit, per_unit_reverse,  # [U*H] each; the second is read in direction 1
        lengths,  # [B] int64, read where `ragged`
        y,  # [T, B, D*H], the steps' rows written where a sequence still runs
        h_n, c_n,  # [D, B, H] and [D, B, K*H], the states before, replaced by those after
        gates,  # [D, T, B, SAVED*H], written where `saves`
        cells,  # [D, T, B, KEPT*H], the same
        step, D, T, B, H, ragged, saves,
    ):  # fmt: skip
        unit = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        direction = cuda.blockIdx.z
        if direction == 1:
            per_unit = per_unit_reverse
        if unit < H:
            for sequence in range(cuda.blockIdx.y, B, cuda.gridDim.y):
                length = length_of(lengths, ragged, sequence, T)
                row = direction * B + sequence
                if step < length:
                    states = load_states(h_n, row * H + unit, c_n, row * K * H + unit, H)
                    own = load_per_unit(per_unit, unit, H)
                    now = step
                    # A loop of one round, where there is one, NVVM would see too late to be none.
                    while True:
                        place = position(now, length, direction) * B + sequence
                        place_of_direction = direction * T * B + place
                        x = load_x(from_x, place_of_direction * x_blocks * H + unit, H)
                        h = load_h(from_h, row * h_blocks * H + unit, H)
                        states, saved = next_state(preactivations(x, h), states, own)
                        y[(place * D + direction) * H + unit] = states[0]
                        if saves:
                            at = place_of_direction * n_saved * H + unit
                            store_saved(gates, at, H, saved)
                            store_kept(cells, place_of_direction * n_kept * H + unit, H, states)
                        now += 1
                        if h_blocks > 0 or now == length:
                            break
                    store_states(h_n, row * H + unit, c_n, row * K * H + unit, H, states)

    return forward_step


@cache
def backward_step_kernel(cell: str, dtype: str) -> Callable[..., None]:
    """One step's gradients of a cell's gates; all steps' where it makes no product with h."""
    definition = CELLS[cell]
    h_blocks, slots = definition.h_blocks, len(definition.slots)
    K, U = definition.own_states, len(definition.per_unit)
    n_saved, n_kept = saved_values(cell), len(kept_states(cell))
    h_carries = derived(definition).carries[0]
    gradients = cell_code(cell, dtype)["gradients"]
    load_saved, store_d_p = points.load_blocks(n_saved), points.store_blocks(slots)
    load_per_unit, add_to_per_unit = points.load_blocks(U), points.add_to_blocks(U)
    load_carry, store_carry = points.load_blocks(1 + K), points.store_blocks(1 + K)
    load_states, store_states = points.load_states(cell), points.store_states(cell)
    with_h = points.with_h(cell)
    load_after, load_before = points.load_after(cell, dtype), points.load_before(cell, dtype)
    load_first, store_from_h = points.load_first(cell, dtype), points.store_from_h(cell)
    zero, no_states = NUMBERS[dtype](0), points.zeros(1 + K, dtype)

    def backward_step(
        through_w,  # [D, B, H], the gates' gradients of the step after, times W_hh
        d_y,  # [T, B, D*H]
        d_h_n, d_c_n,  # [D, B, H] and [D, B, K*H]
        per_unit, per_unit_reverse,  # [U*H] each; the second is read in direction 1
        gates,  # [D, T, B, SAVED*H], as saved
        cells,  # [D, T, B, KEPT*H], the same
        y,  # [T, B, D*H]
        h0, c0,  # [D, B, H] and [D, B, K*H]
        lengths,  # [B] int64, read where `ragged`
        d_gates,  # [D, T, B, SLOTS*H], the steps' rows written where a sequence runs
        d_now,  # [D, B, Gh*H], written: the same, as rows of W_hh are ordered
        d_h0, d_c0,  # [D, B, H] and [D, B, K*H], written at step -1
        d_per_unit,  # [D, B, U*H], added to
        carry,  # [1+K, D, B, H], what reaches the states without the product; read but at the last
        step, D, T, B, H, ragged,
    ):  # fmt: skip
        unit = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        direction = cuda.blockIdx.z
        if direction == 1:
            per_unit = per_unit_reverse
        if unit < H:
            own = load_per_unit(per_unit, unit, H)
            for sequence in range(cuda.blockIdx.y, B, cuda.gridDim.y):
                length = length_of(lengths, ragged, sequence, T)
                row = direction * B + sequence
                at_h = row * H + unit
                at_c = row * K * H + unit
                d_states = no_states
                now = step
                # A loop of one round, where there is one, NVVM would see too late to be none.
                while True:
                    if now + 1 < length:
                        if h_blocks > 0:
                            d_states = load_carry(carry, at_h, D * B * H)
                        dh = d_states[0] if h_carries else zero
                        if h_blocks > 0:
                            dh += through_w[at_h]
                    else:
                        d_states = load_states(d_h_n, at_h, d_c_n, at_c, H)
                        dh = d_states[0]
                    if now < 0:
                        store_states(d_h0, at_h, d_c0, at_c, H, with_h(dh, d_states))
                    elif now < length:
                        place = position(now, length, direction) * B + sequence
                        place_of_direction = direction * T * B + place
                        place_before = position(now - 1, length, direction) * B + sequence
                        at_y = (place * D + direction) * H + unit
                        at_before = (place_before * D + direction) * H + unit
                        at_kept = place_of_direction * n_kept * H + unit
                        at_kept_before = (direction * T * B + place_before) * n_kept * H + unit
                        saved = load_saved(gates, place_of_direction * n_saved * H + unit, H)
                        after = load_after(y, at_y, cells, at_kept, H)
                        if now > 0:
                            before = load_before(y, at_before, cells, at_kept_before, H)
                        else:
                            before = load_first(h0, at_h, c0, at_c, H)
                        d_after = with_h(dh + d_y[at_y], d_states)
                        d_p, d_states, d_own = gradients(d_after, saved, before, after, own)
                        store_d_p(d_gates, place_of_direction * slots * H + unit, H, d_p)
                        store_from_h(d_now, row * h_blocks * H + unit, H, d_p)
                        add_to_per_unit(d_per_unit, row * U * H + unit, H, d_own)
                        if h_blocks > 0:
                            store_carry(carry, at_h, D * B * H, d_states)
                    if h_blocks > 0 or now < 0:
                        break
                    now -= 1

    return backward_step
