"""The device code of `held`: one forward and one backward kernel, W_hh on chip for all steps.

A block owns `units` hidden units, all gates of them, for `tile` sequences of one direction. Its
threads are `lanes` times `parts`: a lane is one column of the product, a gate of a unit, and a
part a stretch of k. A thread keeps its column's weights for its part, the first `registers` of them
in registers and, where the kernel `overflows`, `in_shared` more in shared memory, and so makes its
sum alone: no shuffle, and one broadcast of the state from shared memory feeds four
multiplications. The parts' sums meet in shared memory, where one thread for each unit and sequence
adds them and does the gates; the cell state never leaves its registers.

Every step: the state is gathered through L2 into shared memory, each element of it as soon as its
block has told it where blocks run at once (`exchange.py`); a barrier; products; a barrier; gates. A
launch runs the steps [first, last): the GPU all at once, the simulator a step a launch, since its
blocks run one after another. Between launches the states are carried in `carry`.

Two barriers a step are enough for shared memory. The vectors are stored before the first and read
after it, the parts' sums stored before the second and read after it. The next step's vectors are
stored after the second, when all have multiplied by the last ones, and its sums after its own
first, when all have added the last ones. Where vectors lie is in two tables, the steps' in turn: a
step's gather reads one while it fills the other, which the next gather reads two barriers later and
the last one read two barriers ago.

A step's number counts in the order of computing; `position` maps it to a place in the sequence,
which for the reverse direction starts at each sequence's own end.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import cuda, float32, float64, int64

from lstm_kernels.backends.fused_numba_cuda import points
from lstm_kernels.backends.fused_numba_cuda.cells import (
    NUMBERS,
    ZERO,
    cell_code,
    kept_states,
    saved_values,
)
from lstm_kernels.backends.fused_numba_cuda.exchange import tell
from lstm_kernels.backends.fused_numba_cuda.memory import (
    is_not_yet,
    load_four,
    load_four_relaxed,
    load_relaxed,
    load_shared,
    some_not_yet,
    store_four,
    store_shared,
    trap,
    unknown,
)
from lstm_kernels.backends.fused_numba_cuda.points import length_of, position, sum_of_parts
from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.gpu.numba_launching import device_function
from lstm_kernels.problem import DTYPE_BYTES

TYPES = {"float32": float32, "float64": float64}

# Elements between the vectors that lanes of one warp read at once, in addition to their length: the
# next one starts four banks on, or eight, and four gates' vectors are read without a conflict.
VECTOR_PADDING = 4

# Bytes that say where four vectors lie at this step and at the next one, an int64 each.
BYTES_OF_FOUR_BASES = 64

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
    """Elements k to k+3 of a vector; zeros where there is no vector."""
    if base == NOTHING:
        return ZERO, ZERO, ZERO, ZERO
    return load_four_relaxed(source, base + k)


@device_function
def _gather(
    shared, bases, table, count, vectors, stride, source, H, aligned, polls, poll_limit
):  # fmt: skip
    """That many vectors of H, by all threads of the block; `table` is where bases begin.

    Where it `polls`, each element is loaded until somebody has told it, at most so often. Where
    four elements can be loaded at once, four vectors are on their way at once; else one element of
    each thread is. (Loops are not over `range`: for one with a step Numba divides.)
    """
    n = 0
    while n < count:
        at = vectors + n * stride
        if aligned:
            k = 4 * cuda.threadIdx.x
            while k < H:
                left = poll_limit
                while True:
                    # Read again each time: eight registers that none waits with.
                    base_a = load_shared(bases, table + n)
                    base_b = load_shared(bases, table + n + 1)
                    base_c = load_shared(bases, table + n + 2)
                    base_d = load_shared(bases, table + n + 3)
                    a_0, a_1, a_2, a_3 = _four_of(source, base_a, k)
                    b_0, b_1, b_2, b_3 = _four_of(source, base_b, k)
                    c_0, c_1, c_2, c_3 = _four_of(source, base_c, k)
                    d_0, d_1, d_2, d_3 = _four_of(source, base_d, k)
                    waits_for_a = some_not_yet(a_0, a_1, a_2, a_3)
                    waits_for_b = some_not_yet(b_0, b_1, b_2, b_3)
                    waits_for_c = some_not_yet(c_0, c_1, c_2, c_3)
                    waits_for_d = some_not_yet(d_0, d_1, d_2, d_3)
                    some = waits_for_a | waits_for_b | waits_for_c | waits_for_d
                    if not (polls and some):
                        break
                    left -= 1
                    if left == 0:
                        trap()
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
            base_a = load_shared(bases, table + n)
            if base_a != NOTHING:
                k = cuda.threadIdx.x
                while k < H:
                    left = poll_limit
                    while True:
                        value = load_relaxed(source, base_a + k)
                        if not (polls and is_not_yet(value)):
                            break
                        left -= 1
                        if left == 0:
                            trap()
                    store_shared(shared, at + k, value)
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
    gates_of, slots = CELLS[cell].h_blocks, len(CELLS[cell].slots)
    slot_of_gate = points.slot_of_gate(cell)

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
        slot = slot_of_gate(n % gates_of)
        place = position(step + 1, length, direction) * B + sequence
        return ((direction * T * B + place) * slots + slot) * H

    return gate_base


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
    definition = CELLS[cell]
    x_blocks, gates_of = definition.x_blocks, definition.h_blocks
    K, U = definition.own_states, len(definition.per_unit)
    n_saved, n_kept = saved_values(cell), len(kept_states(cell))
    next_state = cell_code(cell, dtype)["next_state"]
    load_x, load_b = points.load_blocks(x_blocks), points.load_blocks(gates_of)
    load_per_unit = points.load_blocks(U)
    preactivations, with_products = points.preactivations(cell), points.with_products(cell)
    sums_of_parts = points.sums_of_parts(gates_of)
    load_states, store_states = points.load_states(cell), points.store_states(cell)
    load_carry, store_carry = points.load_blocks(1 + K), points.store_blocks(1 + K)
    store_saved, store_kept = points.store_blocks(n_saved), points.store_kept(cell)
    no_p, no_saved, no_states, no_own = (
        points.zeros(count, dtype) for count in (len(definition.slots), n_saved, 1 + K, U)
    )
    product = _product_of(registers, overflows)
    element = TYPES[dtype]
    four_bases = BYTES_OF_FOUR_BASES // DTYPE_BYTES[dtype]

    def forward(
        from_x,  # [D, T, B, G*H], x W_ih^T + b_ih
        w, w_reverse,  # [Gh*H, H] each; the second is read in direction 1
        b, b_reverse,  # [Gh*H] each, b_hh
        per_unit, per_unit_reverse,  # [U*H] each
        h0, c0,  # [D, B, H] and [D, B, K*H]
        lengths,  # [B] int64, read where `ragged`
        y,  # [T, B, D*H], NOT_YET up to each sequence's end where `waits`, and written there
        h_n, c_n,  # [D, B, H] and [D, B, K*H], written
        gates,  # [D, T, B, SAVED*H], written where `saves`
        cells,  # [D, T, B, KEPT*H], the same
        carry,  # [1+K, D, B, H], the states between launches
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
        table = 4 * ((tile + 3) // 4)
        vectors = four_bases * table // 4
        partials = vectors + tile * stride
        held = partials + parts * tile * lanes + 4 * thread
        if direction == 1:
            w = w_reverse
            b = b_reverse
            per_unit = per_unit_reverse

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
        at_h = (direction * B + sequence) * H + unit
        at_c = (direction * B + sequence) * K * H + unit
        states = no_states
        of_unit = no_own
        if own:
            of_unit = load_per_unit(per_unit, unit, H)
            if first > 0:
                states = load_carry(carry, at_h, D * B * H)
            else:
                states = load_states(h0, at_h, c0, at_c, H)
        longest = 0
        for r in range(rows):
            longest = max(longest, length_of(lengths, ragged, first_row + r, T))

        whole_fours = 4 * ((rows + 3) // 4)
        n = thread
        while n < whole_fours:
            base = _state_base(n, rows, first_row, lengths, ragged, first, direction, D, T, B, H)
            store_shared(bases, (first & 1) * table + n, base)
            n += cuda.blockDim.x
        cuda.syncthreads()

        for step in range(first, min(last, longest)):
            here = step < length
            place = position(step, length, direction) * B + sequence
            place_of_direction = direction * T * B + place
            p = no_p
            if here:
                x = load_x(from_x, place_of_direction * x_blocks * H + unit, H)
                # Biases are read again each step: four registers more would be too many.
                p = preactivations(x, load_b(b, unit, H))
            after = step + 1
            n = thread
            while n < whole_fours:
                base = _state_base(
                    n, rows, first_row, lengths, ragged, after, direction, D, T, B, H
                )
                store_shared(bases, (after & 1) * table + n, base)
                n += cuda.blockDim.x
            source = h0 if step == 0 else y
            # h0 was there before the launch, and may have any bits.
            polls = waits and step > 0
            _gather(
                shared, bases, (step & 1) * table, rows, vectors, stride, source, H, aligned, polls,
                poll_limit,
            )  # fmt: skip
            cuda.syncthreads()
            for r in range(rows):
                total = product(weights, shared, vectors + r * stride + first_k, held, in_shared)
                store_shared(shared, partials + (part * tile + r) * lanes + lane, total)
            cuda.syncthreads()

            saved = no_saved
            if here:
                h = sums_of_parts(shared, at_sum, units, tile * lanes, parts)
                states, saved = next_state(with_products(p, h), states, of_unit)
                tell(y, (place * D + direction) * H + unit, states[0])
            # What only a backward needs is stored when the others know already.
            if here and saves:
                store_saved(gates, place_of_direction * n_saved * H + unit, H, saved)
                store_kept(cells, place_of_direction * n_kept * H + unit, H, states)

        if own:
            # Two registers for each must not be kept by a step.
            at_h = (direction * B + unknown(sequence)) * H + unit
            at_c = (direction * B + unknown(sequence)) * K * H + unit
            store_states(h_n, at_h, c_n, at_c, H, states)
            if last < T:
                store_carry(carry, at_h, D * B * H, states)

    return forward


@cache
def backward_kernel(cell: str, registers: int, overflows: bool, dtype: str) -> Callable[..., None]:
    """The backward of a cell; a thread has that many weights in registers, all if none overflow.

    A lane is a gate and a unit here too: it multiplies that gate's gradients of all units with the
    gate's column of W_hh for its unit, and the sum over parts also adds the gates.
    """
    definition = CELLS[cell]
    gates_of, slots = definition.h_blocks, len(definition.slots)
    K, U = definition.own_states, len(definition.per_unit)
    n_saved, n_kept = saved_values(cell), len(kept_states(cell))
    h_carries = derived(definition).carries[0]
    gradients = cell_code(cell, dtype)["gradients"]
    load_saved, tell_d_p = points.load_blocks(n_saved), points.tell_blocks(slots)
    load_per_unit, store_per_unit = points.load_blocks(U), points.store_blocks(U)
    add_per_unit = points.sums(U)
    load_states, store_states = points.load_states(cell), points.store_states(cell)
    load_carry, store_carry = points.load_blocks(1 + K), points.store_blocks(1 + K)
    with_h = points.with_h(cell)
    load_after, load_before = points.load_after(cell, dtype), points.load_before(cell, dtype)
    load_first = points.load_first(cell, dtype)
    zero = NUMBERS[dtype](0)
    no_saved, no_states, no_own = (points.zeros(count, dtype) for count in (n_saved, 1 + K, U))
    gate_base = _gate_base_of(cell)
    product = _product_of(registers, overflows)
    element = TYPES[dtype]
    four_bases = BYTES_OF_FOUR_BASES // DTYPE_BYTES[dtype]

    def backward(
        d_y,  # [T, B, D*H]
        d_h_n, d_c_n,  # [D, B, H] and [D, B, K*H]
        w, w_reverse,  # [Gh*H, H] each; the second is read in direction 1
        per_unit, per_unit_reverse,  # [U*H] each
        gates,  # [D, T, B, SAVED*H], as `forward` saved them
        cells,  # [D, T, B, KEPT*H], the same
        y,  # [T, B, D*H]
        h0, c0,  # [D, B, H] and [D, B, K*H]
        lengths,  # [B] int64, read where `ragged`
        d_gates,  # [D, T, B, SLOTS*H], NOT_YET up to each end where `waits`, and written there
        d_h0, d_c0,  # [D, B, H] and [D, B, K*H], written by the launch whose first step is -1
        d_per_unit,  # [D, B, U*H], added to
        carry,  # [1+K, D, B, H], what reaches the states without the product, between launches
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
        table = 4 * ((tile * gates_of + 3) // 4)
        vectors = four_bases * table // 4
        partials = vectors + tile * gates_of * stride
        held = partials + parts * tile * lanes + 4 * thread
        if direction == 1:
            w = w_reverse
            per_unit = per_unit_reverse

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
        at_h = (direction * B + sequence) * H + unit
        at_c = (direction * B + sequence) * K * H + unit
        at_per_unit = (direction * B + sequence) * U * H + unit
        # What reaches the states from later steps without the product; h's gradient through both;
        # the states' are replaced at a sequence's last step.
        d_states = no_states
        dh = zero
        of_unit = no_own
        d_of_unit = no_own
        if own:
            of_unit = load_per_unit(per_unit, unit, H)
            d_of_unit = load_per_unit(d_per_unit, at_per_unit, H)
            if last < T:
                d_states = load_carry(carry, at_h, D * B * H)
        longest = 0
        for r in range(rows):
            longest = max(longest, length_of(lengths, ragged, first_row + r, T))
        start = min(last, longest)
        whole_fours = 4 * ((rows * gates_of + 3) // 4)
        n = thread
        while n < whole_fours:
            base = gate_base(n, rows, first_row, lengths, ragged, start - 1, direction, T, B, H)
            store_shared(bases, (start & 1) * table + n, base)
            n += cuda.blockDim.x
        cuda.syncthreads()

        for done in range(start - first):
            step = start - 1 - done
            here = step >= 0 and step < length
            place = position(step, length, direction) * B + sequence
            place_of_direction = direction * T * B + place
            place_before = position(step - 1, length, direction) * B + sequence
            saved = no_saved
            after = no_states
            before = no_states
            dy = zero
            if here:
                at_y = (place * D + direction) * H + unit
                at_kept = place_of_direction * n_kept * H + unit
                dy = d_y[at_y]
                saved = load_saved(gates, place_of_direction * n_saved * H + unit, H)
                after = load_after(y, at_y, cells, at_kept, H)
                if step > 0:
                    at_y = (place_before * D + direction) * H + unit
                    at_kept = (direction * T * B + place_before) * n_kept * H + unit
                    before = load_before(y, at_y, cells, at_kept, H)
                else:
                    before = load_first(h0, at_h, c0, at_c, H)
            n = thread
            while n < whole_fours:
                base = gate_base(n, rows, first_row, lengths, ragged, step - 1, direction, T, B, H)
                store_shared(bases, (step & 1) * table + n, base)
                n += cuda.blockDim.x
            _gather(
                shared, bases, ((step + 1) & 1) * table, rows * gates_of, vectors, stride,
                d_gates, H, aligned, waits, poll_limit,
            )  # fmt: skip
            cuda.syncthreads()
            for r in range(rows):
                at_vector = r * gates_of * stride + vector
                total = product(weights, shared, at_vector, held, in_shared)
                store_shared(shared, partials + (part * tile + r) * lanes + lane, total)
            cuda.syncthreads()

            if own:
                if step + 1 < length:
                    dh = d_states[0] if h_carries else zero
                    for g in range(gates_of):
                        dh += sum_of_parts(shared, at_sum + g * units, tile * lanes, parts)
                else:
                    d_states = load_states(d_h_n, at_h, d_c_n, at_c, H)
                    dh = d_states[0]
            if here:
                d_after = with_h(dh + dy, d_states)
                d_p, d_states, d_own = gradients(d_after, saved, before, after, of_unit)
                d_of_unit = add_per_unit(d_of_unit, d_own)
                tell_d_p(d_gates, place_of_direction * slots * H + unit, H, d_p)

        if own:
            # Two registers for each must not be kept by a step.
            at_h = (direction * B + unknown(sequence)) * H + unit
            at_c = (direction * B + unknown(sequence)) * K * H + unit
            at_per_unit = (direction * B + unknown(sequence)) * U * H + unit
            store_per_unit(d_per_unit, at_per_unit, H, d_of_unit)
            if first < 0:
                store_states(d_h0, at_h, d_c0, at_c, H, with_h(dh, d_states))
            else:
                store_carry(carry, at_h, D * B * H, d_states)

    return backward
