"""The device code of `held`: one forward and one backward kernel, W_hh on chip for all steps.

A block owns `units` hidden units, all gates of them, for `tile` sequences of one direction. Its
threads are `lanes` times `parts`: a lane is one column of the product, a gate of a unit, and a
part a stretch of k. A thread keeps its column's weights for its part, the first `registers` of them
in registers and, where the kernel `overflows`, `in_shared` more in shared memory, and so makes its
sum alone: no shuffle, and one broadcast of the state from shared memory feeds four
multiplications. The parts' sums meet in shared memory, where one thread for each unit and sequence
adds them and does the gates; the cell state never leaves its registers.

Every step: the state is gathered through L2 into shared memory, after a flag (`flags.py`) where
blocks run at once; products; gates; the flag. A launch runs the steps [first, last): the GPU all
at once, the simulator a step a launch, since its blocks run one after another. Between launches
the states are carried in `carry`.

A step's number counts in the order of computing; `position` maps it to a place in the sequence,
which for the reverse direction starts at each sequence's own end.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import cuda, float32, float64, int64

from lstm_kernels.backends.fused_numba_cuda.cells import GRADIENTS, NEXT_STATE, ZERO
from lstm_kernels.backends.fused_numba_cuda.flags import COUNTER_STRIDE, arrive, wait
from lstm_kernels.backends.fused_numba_cuda.memory import (
    load_four,
    load_four_past_l1,
    load_past_l1,
    load_shared,
    store_four,
    store_shared,
)
from lstm_kernels.backends.fused_numba_cuda.points import (
    length_of,
    load_blocks,
    position,
    preactivations,
    store_blocks,
    with_products,
)
from lstm_kernels.cells import CELLS
from lstm_kernels.gpu.numba_launching import device_function
from lstm_kernels.problem import DTYPE_BYTES

TYPES = {"float32": float32, "float64": float64}

# Elements between the vectors that lanes of one warp read at once, beside their own length: the
# next one starts four banks on, or eight, and four gates' vectors are read without a conflict.
VECTOR_PADDING = 4

# Bytes that say where four vectors lie, an int64 each.
BYTES_OF_FOUR_BASES = 32

# Where a vector lies that there is not: nothing is gathered.
NOTHING = -1


@device_function
def load_weights(w, at, inside):
    """A weight of this thread, zero where its column or its k is beyond the matrix."""
    if inside:
        return w[at]
    return ZERO


@device_function
def _four_of(source, base, k):
    """Elements k to k+3 of a vector, past L1; zeros where there is no vector."""
    if base == NOTHING:
        return ZERO, ZERO, ZERO, ZERO
    return load_four_past_l1(source, base + k)


@device_function
def _gather(shared, bases, count, vectors, stride, source, H, aligned):
    """That many vectors of H, by all threads of the block.

    Where four elements can be loaded at once, four vectors are on their way at once; else one
    element of each thread is. (Loops are not over `range`: for one with a step Numba divides.)
    """
    n = 0
    while n < count:
        at = vectors + n * stride
        base_a = load_shared(bases, n)
        if aligned:
            base_b = load_shared(bases, n + 1)
            base_c = load_shared(bases, n + 2)
            base_d = load_shared(bases, n + 3)
            k = 4 * cuda.threadIdx.x
            while k < H:
                a_0, a_1, a_2, a_3 = _four_of(source, base_a, k)
                b_0, b_1, b_2, b_3 = _four_of(source, base_b, k)
                c_0, c_1, c_2, c_3 = _four_of(source, base_c, k)
                d_0, d_1, d_2, d_3 = _four_of(source, base_d, k)
                if base_a != NOTHING:
                    store_four(shared, at + k, a_0, a_1, a_2, a_3)
                if base_b != NOTHING:
                    store_four(shared, at + stride + k, b_0, b_1, b_2, b_3)
                if base_c != NOTHING:
                    store_four(shared, at + 2 * stride + k, c_0, c_1, c_2, c_3)
                if base_d != NOTHING:
                    store_four(shared, at + 3 * stride + k, d_0, d_1, d_2, d_3)
                k += 4 * cuda.blockDim.x
            n += 4
        else:
            if base_a != NOTHING:
                k = cuda.threadIdx.x
                while k < H:
                    store_shared(shared, at + k, load_past_l1(source, base_a + k))
                    k += cuda.blockDim.x
            n += 1


@device_function
def _state_base(r, rows, first_row, lengths, ragged, step, direction, D, T, B, H):
    """Where the state before a step lies, for the tile's row r: in h0 at the first, else in y."""
    if r >= rows:
        return NOTHING
    sequence = first_row + r
    if step == 0:
        return (direction * B + sequence) * H
    length = length_of(lengths, ragged, sequence, T)
    if step >= length:
        return NOTHING
    place = position(step - 1, length, direction) * B + sequence
    return (place * D + direction) * H


@cache
def _gate_base_of(cell: str) -> Any:
    gates_of = CELLS[cell].x_blocks
    slots = 4 if gates_of > 1 else 1
    is_gru = cell == "gru"

    @device_function
    def gate_base(n, rows, first_row, lengths, ragged, step, direction, T, B, H):
        """Where a gate's gradients of the step after lie; n counts gates of the tile's rows."""
        r = n // gates_of
        if r >= rows:
            return NOTHING
        sequence = first_row + r
        length = length_of(lengths, ragged, sequence, T)
        if step + 1 >= length:
            return NOTHING
        gate = n % gates_of
        # A GRU's third block, n from h, is the fourth of its gradients.
        slot = gate + gate // 2 if is_gru else gate
        place = position(step + 1, length, direction) * B + sequence
        return ((direction * T * B + place) * slots + slot) * H

    return gate_base


@device_function
def _sum_of_parts(shared, at, apart, parts):
    total = ZERO
    for part in range(parts):
        total += load_shared(shared, at + part * apart)
    return total


@cache
def _product_of(registers: int, overflows: bool) -> Any:
    @device_function
    def product(weights, shared, vector, held, in_shared):
        """One vector's part times this thread's weights, in four sums: none waits for itself."""
        s_0 = s_1 = s_2 = s_3 = ZERO
        for i in range(registers // 4):
            v_0, v_1, v_2, v_3 = load_four(shared, vector + 4 * i)
            s_0 += weights[4 * i] * v_0
            s_1 += weights[4 * i + 1] * v_1
            s_2 += weights[4 * i + 2] * v_2
            s_3 += weights[4 * i + 3] * v_3
        for i in range(in_shared // 4 if overflows else 0):
            v_0, v_1, v_2, v_3 = load_four(shared, vector + registers + 4 * i)
            w_0, w_1, w_2, w_3 = load_four(shared, held + 4 * i * cuda.blockDim.x)
            s_0 += w_0 * v_0
            s_1 += w_1 * v_1
            s_2 += w_2 * v_2
            s_3 += w_3 * v_3
        return (s_0 + s_1) + (s_2 + s_3)

    return product


@cache
def forward_kernel(cell: str, registers: int, overflows: bool, dtype: str) -> Callable[..., None]:
    """The forward of a cell; a thread has that many weights in registers, all if none overflow."""
    gates_of = CELLS[cell].x_blocks
    has_c = CELLS[cell].has_cell_state
    saves_gates = gates_of > 1
    next_state = NEXT_STATE[cell]
    product = _product_of(registers, overflows)
    element = TYPES[dtype]
    four_bases = BYTES_OF_FOUR_BASES // DTYPE_BYTES[dtype]

    def forward(
        from_x,  # [D, T, B, G*H], x W_ih^T + b_ih
        w, w_reverse,  # [G*H, H] each; the second is read in direction 1
        b, b_reverse,  # [G*H] each, b_hh
        h0, c0,  # [D, B, H]; c0 is read where the cell has a c
        lengths,  # [B] int64, read where `ragged`
        y,  # [T, B, D*H], written up to each sequence's end
        h_n, c_n,  # [D, B, H], written; c_n where the cell has a c
        gates,  # [D, T, B, 4*H], written where `saves`; never for a plain cell
        cells,  # [D, T, B, H], likewise; where the cell has a c
        carry,  # [2, D, B, H], h and c between launches
        counters,  # [directions * tiles * COUNTER_STRIDE] int32, zero, where `waits`
        first, last, first_direction, first_tile, D, T, B, H,
        units, lanes, parts, in_shared, tile, ragged, saves, waits, aligned, poll_limit,
    ):  # fmt: skip
        """Steps [first, last) of one layer; the grid is groups, tiles, directions."""
        thread = cuda.threadIdx.x
        lane = thread % lanes
        part = thread // lanes
        direction = first_direction + cuda.blockIdx.z
        first_row = (first_tile + cuda.blockIdx.y) * tile
        rows = min(tile, B - first_row)
        first_unit = cuda.blockIdx.x * units
        k_of_part = registers + (in_shared if overflows else 0)
        stride = parts * k_of_part + VECTOR_PADDING
        # One memory, as two: where vectors lie, then vectors, the parts' sums, and weights.
        bases = cuda.shared.array(0, int64)
        shared = cuda.shared.array(0, element)
        vectors = four_bases * ((tile + 3) // 4)
        partials = vectors + tile * stride
        held = partials + parts * tile * lanes + 4 * thread
        flag = (cuda.blockIdx.z * cuda.gridDim.y + cuda.blockIdx.y) * COUNTER_STRIDE
        if direction == 1:
            w = w_reverse
            b = b_reverse

        gate = lane // units
        column = first_unit + lane % units
        first_k = part * k_of_part
        inside = H - first_k if gate < gates_of and column < H else 0
        at = (gate * H + column) * H + first_k
        weights = cuda.local.array(registers, element)
        for i in range(registers):
            weights[i] = load_weights(w, at + i, i < inside)
        for i in range(in_shared if overflows else 0):
            k = registers + i
            weight = load_weights(w, at + k, k < inside)
            store_shared(shared, held + (i // 4) * 4 * cuda.blockDim.x + i % 4, weight)
        # What no step gathers is zero: beyond H, and sequences beyond the batch.
        for i in range(vectors + thread, partials, cuda.blockDim.x):
            store_shared(shared, i, ZERO)

        # From here on a thread is also one unit of one sequence, where there is one.
        row = thread // units
        unit = first_unit + thread % units
        at_sum = partials + row * lanes + thread % units
        own = row < rows and unit < H
        sequence = first_row + row
        length = length_of(lengths, ragged, sequence, T) if own else 0
        state = (direction * B + sequence) * H + unit
        h = ZERO
        c = ZERO
        if own:
            if first > 0:
                h = carry[state]
                c = carry[D * B * H + state]
            else:
                h = h0[state]
                if has_c:
                    c = c0[state]
        longest = 0
        for r in range(rows):
            longest = max(longest, length_of(lengths, ragged, first_row + r, T))

        whole_fours = 4 * ((rows + 3) // 4)

        for step in range(first, min(last, longest)):
            here = step < length
            place = position(step, length, direction) * B + sequence
            place_of_direction = direction * T * B + place
            p_0 = p_1 = p_2 = p_3 = ZERO
            if here:
                x_0, x_1, x_2, x_3 = load_blocks(
                    from_x, place_of_direction * gates_of * H + unit, H, gates_of
                )
                # Read again each step: four registers more would be too many.
                b_0, b_1, b_2, b_3 = load_blocks(b, unit, H, gates_of)
                p_0, p_1, p_2, p_3 = preactivations(
                    x_0, x_1, x_2, x_3, b_0, b_1, b_2, b_3, gates_of
                )
            n = thread
            while n < whole_fours:
                base = _state_base(n, rows, first_row, lengths, ragged, step, direction, D, T, B, H)
                store_shared(bases, n, base)
                n += cuda.blockDim.x
            if waits:
                wait(counters, flag, (step - first) * cuda.gridDim.x, poll_limit)
            else:
                cuda.syncthreads()
            source = h0 if step == 0 else y
            _gather(shared, bases, rows, vectors, stride, source, H, aligned)
            cuda.syncthreads()
            for r in range(rows):
                total = product(weights, shared, vectors + r * stride + first_k, held, in_shared)
                store_shared(shared, partials + (part * tile + r) * lanes + lane, total)
            cuda.syncthreads()

            s_0 = s_1 = s_2 = s_3 = ZERO
            if here:
                apart = tile * lanes
                h_0 = _sum_of_parts(shared, at_sum, apart, parts)
                h_1 = h_2 = h_3 = h_0
                if gates_of > 1:
                    h_1 = _sum_of_parts(shared, at_sum + units, apart, parts)
                    h_2 = _sum_of_parts(shared, at_sum + 2 * units, apart, parts)
                if gates_of > 3:
                    h_3 = _sum_of_parts(shared, at_sum + 3 * units, apart, parts)
                p_0, p_1, p_2, p_3 = with_products(p_0, p_1, p_2, p_3, h_0, h_1, h_2, h_3, gates_of)
                h, c, s_0, s_1, s_2, s_3 = next_state(p_0, p_1, p_2, p_3, h, c)
                y[(place * D + direction) * H + unit] = h
            if waits:
                arrive(counters, flag)
            # What only a backward needs is stored when the others know already.
            if here and saves:
                if saves_gates:
                    store_blocks(gates, place_of_direction * 4 * H + unit, H, 4, s_0, s_1, s_2, s_3)
                if has_c:
                    cells[place_of_direction * H + unit] = c

        if own:
            h_n[state] = h
            if has_c:
                c_n[state] = c
            if last < T:
                carry[state] = h
                carry[D * B * H + state] = c

    return forward


@cache
def backward_kernel(cell: str, registers: int, overflows: bool, dtype: str) -> Callable[..., None]:
    """The backward of a cell; a thread has that many weights in registers, all if none overflow.

    A lane is a gate and a unit here too: it multiplies that gate's gradients of all units with the
    gate's column of W_hh for its unit, and the sum over parts adds the gates up besides.
    """
    gates_of = CELLS[cell].x_blocks
    slots = 4 if gates_of > 1 else 1
    has_c = CELLS[cell].has_cell_state
    is_gru = cell == "gru"
    gradients = GRADIENTS[cell]
    gate_base = _gate_base_of(cell)
    product = _product_of(registers, overflows)
    element = TYPES[dtype]
    four_bases = BYTES_OF_FOUR_BASES // DTYPE_BYTES[dtype]

    def backward(
        d_y,  # [T, B, D*H]
        d_h_n, d_c_n,  # [D, B, H]; d_c_n is read where the cell has a c
        w, w_reverse,  # [G*H, H] each; the second is read in direction 1
        gates,  # [D, T, B, 4*H], as `forward` saved them; never read for a plain cell
        cells,  # [D, T, B, H], likewise; where the cell has a c
        y,  # [T, B, D*H]
        h0, c0,  # [D, B, H]
        lengths,  # [B] int64, read where `ragged`
        d_gates,  # [D, T, B, SLOTS*H], written up to each sequence's end
        d_h0, d_c0,  # [D, B, H], written by the launch whose first step is -1
        carry,  # [2, D, B, H], what reaches h and c beside the product, between launches
        counters,  # [directions * tiles * COUNTER_STRIDE] int32, zero, where `waits`
        first, last, first_direction, first_tile, D, T, B, H,
        units, lanes, parts, in_shared, tile, ragged, waits, aligned, poll_limit,
    ):  # fmt: skip
        """Steps last-1 down to first of one layer; the grid is groups, tiles, directions.

        Each step first takes h's gradient through the step after it, and so the last one, step -1,
        makes nothing but the gradients of the initial states.
        """
        thread = cuda.threadIdx.x
        lane = thread % lanes
        part = thread // lanes
        direction = first_direction + cuda.blockIdx.z
        first_row = (first_tile + cuda.blockIdx.y) * tile
        rows = min(tile, B - first_row)
        first_unit = cuda.blockIdx.x * units
        k_of_part = registers + (in_shared if overflows else 0)
        stride = parts * k_of_part + VECTOR_PADDING
        # One memory, as two: where vectors lie, then vectors, the parts' sums, and weights.
        bases = cuda.shared.array(0, int64)
        shared = cuda.shared.array(0, element)
        vectors = four_bases * ((tile * gates_of + 3) // 4)
        partials = vectors + tile * gates_of * stride
        held = partials + parts * tile * lanes + 4 * thread
        flag = (cuda.blockIdx.z * cuda.gridDim.y + cuda.blockIdx.y) * COUNTER_STRIDE
        if direction == 1:
            w = w_reverse

        gate = lane // units
        column = first_unit + lane % units
        first_k = part * k_of_part
        inside = H - first_k if gate < gates_of and column < H else 0
        at = (gate * H + first_k) * H + column
        weights = cuda.local.array(registers, element)
        for i in range(registers):
            weights[i] = load_weights(w, at + i * H, i < inside)
        for i in range(in_shared if overflows else 0):
            k = registers + i
            weight = load_weights(w, at + k * H, k < inside)
            store_shared(shared, held + (i // 4) * 4 * cuda.blockDim.x + i % 4, weight)
        # What no step gathers is zero: beyond H, and sequences beyond the batch.
        for i in range(vectors + thread, partials, cuda.blockDim.x):
            store_shared(shared, i, ZERO)
        # An idle lane multiplies some vector with zeros.
        vector = vectors + min(gate, gates_of - 1) * stride + first_k

        # From here on a thread is also one unit of one sequence, where there is one.
        row = thread // units
        unit = first_unit + thread % units
        at_sum = partials + row * lanes + thread % units
        own = row < rows and unit < H
        sequence = first_row + row
        length = length_of(lengths, ragged, sequence, T) if own else 0
        state = (direction * B + sequence) * H + unit
        # What reaches h(step) from later steps beside the product, and c(step); both are replaced
        # at a sequence's last step.
        dh = ZERO
        dc = ZERO
        d_direct = ZERO
        if own and last < T:
            d_direct = carry[state]
            dc = carry[D * B * H + state]
        longest = 0
        for r in range(rows):
            longest = max(longest, length_of(lengths, ragged, first_row + r, T))
        start = min(last, longest)
        whole_fours = 4 * ((rows * gates_of + 3) // 4)

        for done in range(start - first):
            step = start - 1 - done
            here = step >= 0 and step < length
            place = position(step, length, direction) * B + sequence
            place_of_direction = direction * T * B + place
            place_before = position(step - 1, length, direction) * B + sequence
            s_0 = s_1 = s_2 = s_3 = ZERO
            h = h_before = c = c_before = dy = ZERO
            if here:
                dy = d_y[(place * D + direction) * H + unit]
                if gates_of > 1:
                    s_0, s_1, s_2, s_3 = load_blocks(gates, place_of_direction * 4 * H + unit, H, 4)
                else:
                    h = y[(place * D + direction) * H + unit]
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
            n = thread
            while n < whole_fours:
                base = gate_base(n, rows, first_row, lengths, ragged, step, direction, T, B, H)
                store_shared(bases, n, base)
                n += cuda.blockDim.x
            if waits:
                wait(counters, flag, done * cuda.gridDim.x, poll_limit)
            else:
                cuda.syncthreads()
            _gather(shared, bases, rows * gates_of, vectors, stride, d_gates, H, aligned)
            cuda.syncthreads()
            for r in range(rows):
                at_vector = r * gates_of * stride + vector
                total = product(weights, shared, at_vector, held, in_shared)
                store_shared(shared, partials + (part * tile + r) * lanes + lane, total)
            cuda.syncthreads()

            if own:
                if step + 1 < length:
                    dh = d_direct
                    for g in range(gates_of):
                        dh += _sum_of_parts(shared, at_sum + g * units, tile * lanes, parts)
                else:
                    dh = d_h_n[state]
                    if has_c:
                        dc = d_c_n[state]
            if here:
                g_0, g_1, g_2, g_3, d_direct, dc = gradients(
                    dh + dy, dc, s_0, s_1, s_2, s_3, c_before, c, h_before, h
                )
                at_gates = place_of_direction * slots * H + unit
                store_blocks(d_gates, at_gates, H, slots, g_0, g_1, g_2, g_3)
            if waits:
                arrive(counters, flag)

        if own:
            if first < 0:
                d_h0[state] = dh
                if has_c:
                    d_c0[state] = dc
            else:
                carry[state] = d_direct
                carry[D * B * H + state] = dc

    return backward
