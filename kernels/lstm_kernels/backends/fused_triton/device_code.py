"""The device code: one forward and one backward kernel, whatever the regime.

A program owns UNITS hidden units, all gates of them, for TILE sequences of one direction, so that
the cell state never leaves its registers. What differs between regimes is PRODUCT, how the
recurrent product gets its operands:

    own      the program owns all units: weights on chip, the state straight from registers
    held     weights on chip, loaded before the loop; the state gathered through L2 each step,
             after a flag (`flags.py`) where programs run at once
    streamed weights read each step; launched a step at a time

A launch runs the steps [first, last): the GPU all at once where weights are on chip; a step a
launch where they are streamed, and under the interpreter, whose programs run one after another.
What is added up, and the states carried between launches, is float64 where the tensors are, and
else float32: WIDE.

A step's number counts in the order of computing; `_position` maps it to a place in the sequence,
which for the reverse direction starts at each sequence's own end.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# mypy: disable-error-code="assignment, misc, var-annotated"

import triton
import triton.language as tl
from triton import knobs

from lstm_kernels.backends.fused_triton.flags import COUNTER_STRIDE, arrive, wait
from lstm_kernels.gpu.fused_gates import gradients, next_state, widened

# The interpreter of Triton 3.6 to 3.9 multiplies the bits of bfloat16 as integers.
WIDENS_BFLOAT16 = tl.constexpr(knobs.runtime.interpret)


@triton.jit
def _dot(a, b, total, PRECISION: tl.constexpr):
    if WIDENS_BFLOAT16 and a.dtype == tl.bfloat16:
        a, b = a.to(tl.float32), b.to(tl.float32)
    if a.dtype == tl.float64:
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=tl.float64)
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total


@triton.jit
def _position(step, length, reverse):
    return tl.where(reverse, length - 1 - step, step)


@triton.jit
def _lengths(lengths_ptr, sequence, T, B):
    """Steps of each sequence of the tile, [TILE] int64; 0 for rows beyond the batch."""
    inside = sequence < B
    if lengths_ptr is not None:
        length = tl.load(lengths_ptr + sequence, mask=inside, other=0).to(tl.int64)
    else:
        length = tl.where(inside, T.to(tl.int64), 0)
    return length


# W_hh of a cell of four gates is addressed in 32 bits up to here.
MOST_WEIGHTS_IN_32_BITS = tl.constexpr(1 << 29)


@triton.jit
def _chunk_k(CHUNK: tl.constexpr, SPLIT: tl.constexpr):
    """The k of a chunk from 0: [CHUNK], or [SPLIT, CHUNK/SPLIT] where SPLIT warps share it."""
    # Not a reshape: Triton before 3.8 forgets what is contiguous, and loads element by element.
    if SPLIT > 1:
        k = tl.arange(0, SPLIT)[:, None] * (CHUNK // SPLIT) + tl.arange(0, CHUNK // SPLIT)[None, :]
    else:
        k = tl.arange(0, CHUNK)
    return k


@triton.jit
def load_weights_forward(
    w_ptr, first_unit, first_k, CELL: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr,
    SLOTS: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr
):  # fmt: skip
    """W_hh^T for a chunk of k: [(SPLIT,) CHUNK/SPLIT, UNITS*SLOTS], a unit's gates side by side.

    A GRU's slot 2, the part of n that comes from x, has no weights here: zero.
    """
    row, used = _columns(first_unit, CELL, H, UNITS, SLOTS)
    k = tl.expand_dims(_chunk_k(CHUNK, SPLIT), -2)
    mask = used[:, None]
    if H % CHUNK:
        mask = mask & (first_k + k < H)
    if H * H >= MOST_WEIGHTS_IN_32_BITS:
        row = row.to(tl.int64)
    chunk_ptr = w_ptr + (row[:, None] * H + k)
    chunk_ptr += first_k
    # Rows are read along k, as they lie in memory, and turned on chip.
    w = tl.load(chunk_ptr, mask=mask, other=0.0)
    return tl.permute(w, (0, 2, 1)) if SPLIT > 1 else tl.trans(w)


@triton.jit
def load_weights_backward(
    w_ptr, first_unit, gate, first_k, H: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr,
    SPLIT: tl.constexpr
):  # fmt: skip
    """W_hh for a chunk of one gate's rows, the program's units: [(SPLIT,) CHUNK/SPLIT, UNITS]."""
    unit = first_unit + tl.arange(0, UNITS)
    k = tl.expand_dims(_chunk_k(CHUNK, SPLIT), -1)
    used = unit < H
    if H % CHUNK:
        used = used & (first_k + k < H)
    first_row = gate * H + first_k
    if H * H >= MOST_WEIGHTS_IN_32_BITS:
        first_row = tl.cast(first_row, tl.int64)
    chunk_ptr = w_ptr + (k * H + unit)
    chunk_ptr += first_row * H
    return tl.load(chunk_ptr, mask=used, other=0.0)


@triton.jit
def _columns(
    first_unit, CELL: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr, SLOTS: tl.constexpr
):
    """Rows of W_hh that are the product's columns, and which of those are used; [UNITS*SLOTS]."""
    column = tl.arange(0, UNITS * SLOTS)
    unit = first_unit + column // SLOTS
    gate = column % SLOTS
    used = unit < H
    if CELL == "gru":
        used = used & (gate != 2)
        gate = tl.where(gate == 3, 2, gate)
    return gate * H + unit, used


@triton.jit
def _load_biases(
    b_ptr, first_unit, CELL: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr,
    SLOTS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """b_hh laid out as the product's columns, [UNITS*SLOTS] WIDE; zero where there is none."""
    row, used = _columns(first_unit, CELL, H, UNITS, SLOTS)
    biases = tl.zeros((UNITS * SLOTS,), WIDE)
    if b_ptr is not None:
        biases = widened(tl.load(b_ptr + row, mask=used, other=0.0))
    return biases


@triton.jit
def _by_slot(columns, TILE: tl.constexpr, UNITS: tl.constexpr, SLOTS: tl.constexpr):
    """[TILE, UNITS*SLOTS] to four times [TILE, UNITS]."""
    if SLOTS == 1:
        slot_0, slot_1, slot_2, slot_3 = columns, columns, columns, columns
    else:
        even, odd = tl.split(tl.reshape(columns, (TILE, UNITS, 2, 2)))
        slot_0, slot_2 = tl.split(even)
        slot_1, slot_3 = tl.split(odd)
    return slot_0, slot_1, slot_2, slot_3


@triton.jit
def _gathered(
    rows_ptr, alive, block, first_k, H: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr
):
    """A chunk of each row's block of H, [TILE, CHUNK] or [SPLIT, TILE, CHUNK/SPLIT].

    L1 is passed by: other SMs wrote this.
    """
    k = tl.expand_dims(_chunk_k(CHUNK, SPLIT), -2)
    mask = alive[:, None]
    if H % CHUNK:
        mask = mask & (first_k + k < H)
    # Two additions: of a constant to a pointer the machine code makes an immediate offset.
    chunk_ptr = rows_ptr[:, None] + k
    chunk_ptr += block * H + first_k
    return tl.load(chunk_ptr, mask=mask, other=0.0, cache_modifier=".cg")


@triton.jit
def _block(gate, CELL: tl.constexpr):
    """Where a gate of W_hh stands among d_gates' blocks: a GRU's third, n from h, is the fourth."""
    if CELL == "gru":
        gate = gate + gate // 2
    return gate


@triton.jit
def _held_product(
    rows_ptr, alive, weights, CELL: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr,
    SPLIT: tl.constexpr, GATES: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Rows times the weights on chip, AHEAD chunks on their way; [TILE, COLUMNS]."""
    CHUNKS: tl.constexpr = (H + CHUNK - 1) // CHUNK
    total = _no_sum(TILE, COLUMNS, SPLIT, WIDE)
    chunks = ()
    for index in tl.static_range(0, GATES * CHUNKS + AHEAD):
        if index < GATES * CHUNKS:
            block = _block(index // CHUNKS, CELL)
            first_k = (index % CHUNKS) * CHUNK
            chunks = chunks + (_gathered(rows_ptr, alive, block, first_k, H, CHUNK, SPLIT),)
        if index >= AHEAD:
            chunk, w = chunks[index - AHEAD], weights[index - AHEAD]
            total = _dot(chunk, w, total, PRECISION)
    return _summed(total, SPLIT)


@triton.jit
def _no_sum(TILE: tl.constexpr, COLUMNS: tl.constexpr, SPLIT: tl.constexpr, WIDE: tl.constexpr):
    return tl.zeros((SPLIT, TILE, COLUMNS) if SPLIT > 1 else (TILE, COLUMNS), WIDE)


@triton.jit
def _summed(total, SPLIT: tl.constexpr):
    """The sum over the warps that shared k.

    By halves, and not by tl.sum: its result lies in every warp alike, and so would all that is
    computed from it and, a barrier each, all that is loaded for it.
    """
    if SPLIT > 1:
        TILE: tl.constexpr = total.shape[1]
        COLUMNS: tl.constexpr = total.shape[2]
        total = tl.permute(total, (1, 2, 0))
        if SPLIT > 8:
            total = _halved(tl.reshape(total, (TILE, COLUMNS, 8, 2)))
        if SPLIT > 4:
            total = _halved(tl.reshape(total, (TILE, COLUMNS, 4, 2)))
        if SPLIT > 2:
            total = _halved(tl.reshape(total, (TILE, COLUMNS, 2, 2)))
        total = _halved(total)
    return total


@triton.jit
def _halved(pairs):
    low, high = tl.split(pairs)
    return low + high


@triton.jit(do_not_specialize=["first", "last", "first_tile", "T", "B", "poll_limit"])
def forward(
    from_x_ptr,  # [D, T, B, G*H], x W_ih^T + b_ih
    w_ptr, w_reverse_ptr,  # [G*H, H] each; the second is read where D is 2
    b_ptr, b_reverse_ptr,  # [G*H] each, b_hh, or None
    h0_ptr, c0_ptr,  # [D, B, H]; c0 None where the cell has no c
    lengths_ptr,  # [B] or None
    y_ptr,  # [T, B, D*H], written up to each sequence's end
    h_n_ptr, c_n_ptr,  # [D, B, H], written; c_n None as c0
    gates_ptr,  # [D, T, B, 4*H], written, or None where no backward follows
    cells_ptr,  # [D, T, B, H], written, or None likewise
    carry_ptr,  # [2, D, B, H] WIDE, h and c between launches, or None where one launch is all
    counters_ptr,  # [D * tiles * COUNTER_STRIDE] int32, zero, or None where nobody waits
    first, last, first_tile, T, B, poll_limit,
    CELL: tl.constexpr, H: tl.constexpr, SLOTS: tl.constexpr, PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr,
    SPLIT: tl.constexpr, AHEAD: tl.constexpr
):  # fmt: skip
    """Steps [first, last) of one layer, one or both directions; the grid is groups, tiles, D."""
    CHUNKS: tl.constexpr = (H + CHUNK - 1) // CHUNK
    GATES: tl.constexpr = 4 if CELL == "lstm" else (3 if CELL == "gru" else 1)
    WIDE: tl.constexpr = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    tile, direction = first_tile + tl.program_id(1), tl.program_id(2)
    groups, D = tl.num_programs(0), tl.num_programs(2)
    reverse = direction == 1
    first_unit = tl.program_id(0) * UNITS
    if direction == 1:
        w_ptr = w_reverse_ptr
    weights = ()
    if PRODUCT != "streamed":
        for index in tl.static_range(0, CHUNKS):
            weights = weights + (
                load_weights_forward(
                    w_ptr, first_unit, index * CHUNK, CELL, H, UNITS, SLOTS, CHUNK, SPLIT
                ),
            )
    if b_ptr is not None and direction == 1:
        b_ptr = b_reverse_ptr
    biases = _load_biases(b_ptr, first_unit, CELL, H, UNITS, SLOTS, WIDE)

    sequence = (tile * TILE + tl.arange(0, TILE)).to(tl.int64)
    unit = first_unit + tl.arange(0, UNITS)
    own = (sequence < B)[:, None] & (unit < H)[None, :]
    length = _lengths(lengths_ptr, sequence, T, B)
    state = (direction * B + sequence)[:, None] * H + unit[None, :]
    carried = D * B.to(tl.int64) * H
    h = widened(tl.load(h0_ptr + state, mask=own, other=0.0))
    c = h
    if c0_ptr is not None:
        c = widened(tl.load(c0_ptr + state, mask=own, other=0.0))
    if carry_ptr is not None and first > 0:
        h = tl.load(carry_ptr + state, mask=own, other=0.0)
        c = tl.load(carry_ptr + carried + state, mask=own, other=0.0)
    if counters_ptr is not None:
        counters_ptr += (direction * tl.num_programs(1) + tl.program_id(1)) * COUNTER_STRIDE

    end = tl.minimum(last, tl.max(length).to(tl.int32))
    for step in tl.range(first, end, num_stages=1):
        alive = step < length
        here = own & alive[:, None]
        row = _position(step, length, reverse) * B + sequence
        direction_row = direction.to(tl.int64) * T * B + row
        x_ptr = from_x_ptr + direction_row[:, None] * (GATES * H) + unit[None, :]
        x_0 = widened(tl.load(x_ptr, mask=here, other=0.0))
        x_1, x_2, x_3 = x_0, x_0, x_0
        if GATES > 1:
            x_1 = widened(tl.load(x_ptr + H, mask=here, other=0.0))
            x_2 = widened(tl.load(x_ptr + 2 * H, mask=here, other=0.0))
        if GATES > 3:
            x_3 = widened(tl.load(x_ptr + 3 * H, mask=here, other=0.0))

        if PRODUCT == "own":
            operand = h.to(y_ptr.dtype.element_ty)
            total = _dot(operand, weights[0], None, PRECISION)
        else:
            if counters_ptr is not None:
                wait(counters_ptr, (step - first) * groups, poll_limit)
            before = _position(step - 1, length, reverse) * B + sequence
            # A select: of what an `if` yields Triton before 3.8 knows no alignment.
            rows_ptr = tl.where(
                step == 0,
                h0_ptr + (direction * B + sequence) * H,
                y_ptr + (before * D + direction) * H,
            )
            if PRODUCT == "held":
                total = _held_product(
                    rows_ptr, alive, weights, CELL, H, CHUNK, SPLIT, 1, AHEAD, PRECISION, TILE,
                    UNITS * SLOTS, WIDE
                )  # fmt: skip
            else:
                total = _no_sum(TILE, UNITS * SLOTS, SPLIT, WIDE)
                for first_k in tl.range(0, H, CHUNK, num_stages=AHEAD):
                    chunk = _gathered(rows_ptr, alive, 0, first_k, H, CHUNK, SPLIT)
                    w = load_weights_forward(
                        w_ptr, first_unit, first_k, CELL, H, UNITS, SLOTS, CHUNK, SPLIT
                    )
                    total = _dot(chunk, w, total, PRECISION)
                total = _summed(total, SPLIT)

        total += biases[None, :]
        h_0, h_1, h_2, h_3 = _by_slot(total, TILE, UNITS, SLOTS)
        if CELL == "gru":
            new = next_state(x_0 + h_0, x_1 + h_1, x_2, h_3, h, c, CELL)
        else:
            new = next_state(x_0 + h_0, x_1 + h_1, x_2 + h_2, x_3 + h_3, h, c, CELL)
        new_h, new_c, s_0, s_1, s_2, s_3 = new
        tl.store(
            y_ptr + ((row * D + direction) * H)[:, None] + unit[None, :],
            new_h.to(y_ptr.dtype.element_ty),
            mask=here,
        )
        if counters_ptr is not None:
            arrive(counters_ptr)
        if gates_ptr is not None:
            saved_ptr = gates_ptr + direction_row[:, None] * (4 * H) + unit[None, :]
            tl.store(saved_ptr, s_0.to(gates_ptr.dtype.element_ty), mask=here)
            tl.store(saved_ptr + H, s_1.to(gates_ptr.dtype.element_ty), mask=here)
            tl.store(saved_ptr + 2 * H, s_2.to(gates_ptr.dtype.element_ty), mask=here)
            tl.store(saved_ptr + 3 * H, s_3.to(gates_ptr.dtype.element_ty), mask=here)
        if cells_ptr is not None:
            saved_ptr = cells_ptr + direction_row[:, None] * H + unit[None, :]
            tl.store(saved_ptr, new_c.to(cells_ptr.dtype.element_ty), mask=here)
        h = tl.where(alive[:, None], new_h, h)
        c = tl.where(alive[:, None], new_c, c)

    tl.store(h_n_ptr + state, h.to(h_n_ptr.dtype.element_ty), mask=own)
    if c0_ptr is not None:
        tl.store(c_n_ptr + state, c.to(c_n_ptr.dtype.element_ty), mask=own)
    if carry_ptr is not None:
        tl.store(carry_ptr + state, h, mask=own)
        tl.store(carry_ptr + carried + state, c, mask=own)


@triton.jit(do_not_specialize=["first", "last", "first_tile", "T", "B", "poll_limit"])
def backward(
    d_y_ptr,  # [T, B, D*H]
    d_h_n_ptr, d_c_n_ptr,  # [D, B, H]; d_c_n None where the cell has no c
    w_ptr, w_reverse_ptr,  # [G*H, H] each; the second is read where D is 2
    gates_ptr,  # [D, T, B, 4*H], as `forward` saved them; None for a plain cell
    cells_ptr,  # [D, T, B, H], likewise; None where the cell has no c
    y_ptr,  # [T, B, D*H]
    h0_ptr, c0_ptr,  # [D, B, H]
    lengths_ptr,  # [B] or None
    d_gates_ptr,  # [D, T, B, SLOTS*H], written up to each sequence's end
    d_h0_ptr, d_c0_ptr,  # [D, B, H], written by the launch whose first step is -1
    carry_ptr,  # [2, D, B, H] WIDE between launches, or None where one launch is all
    counters_ptr,  # [D * tiles * COUNTER_STRIDE] int32, zero, or None where nobody waits
    first, last, first_tile, T, B, poll_limit,
    CELL: tl.constexpr, H: tl.constexpr, SLOTS: tl.constexpr, PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr, TILE: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr,
    SPLIT: tl.constexpr, AHEAD: tl.constexpr, PREACTIVATED: tl.constexpr
):  # fmt: skip
    """Steps last-1 down to first of one layer's backward; the grid is groups, tiles, D.

    Each step first takes h's gradient through the step after it, and so the last one, step -1,
    makes nothing but the gradients of the initial states. With PREACTIVATED `gates_ptr` holds
    p0..p3 of `lstm_kernels.gpu.fused_gates`, not activated yet.
    """
    CHUNKS: tl.constexpr = (H + CHUNK - 1) // CHUNK
    GATES: tl.constexpr = 4 if CELL == "lstm" else (3 if CELL == "gru" else 1)
    WIDE: tl.constexpr = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    tile, direction = first_tile + tl.program_id(1), tl.program_id(2)
    groups, D = tl.num_programs(0), tl.num_programs(2)
    reverse = direction == 1
    first_unit = tl.program_id(0) * UNITS
    if direction == 1:
        w_ptr = w_reverse_ptr
    weights = ()
    if PRODUCT != "streamed":
        for index in tl.static_range(0, GATES * CHUNKS):
            weights = weights + (
                load_weights_backward(
                    w_ptr, first_unit, index // CHUNKS, index % CHUNKS * CHUNK, H, UNITS, CHUNK,
                    SPLIT
                ),
            )  # fmt: skip

    sequence = (tile * TILE + tl.arange(0, TILE)).to(tl.int64)
    unit = first_unit + tl.arange(0, UNITS)
    own = (sequence < B)[:, None] & (unit < H)[None, :]
    length = _lengths(lengths_ptr, sequence, T, B)
    state = (direction * B + sequence)[:, None] * H + unit[None, :]
    carried = D * B.to(tl.int64) * H
    d_h_n = widened(tl.load(d_h_n_ptr + state, mask=own, other=0.0))
    d_c_n = d_h_n
    if c0_ptr is not None:
        d_c_n = widened(tl.load(d_c_n_ptr + state, mask=own, other=0.0))
    # What reaches h(step) from later steps beside the product, and c(step); both are replaced at
    # a sequence's last step.
    dh = d_h_n
    d_direct = tl.zeros((TILE, UNITS), WIDE)
    dc = d_c_n
    if carry_ptr is not None and last < T:
        d_direct = tl.load(carry_ptr + state, mask=own, other=0.0)
        dc = tl.load(carry_ptr + carried + state, mask=own, other=0.0)
    if counters_ptr is not None:
        counters_ptr += (direction * tl.num_programs(1) + tl.program_id(1)) * COUNTER_STRIDE
    g_0, g_1, g_2, g_3 = d_direct, d_direct, d_direct, d_direct

    start = tl.minimum(last, tl.max(length).to(tl.int32))
    for done in tl.range(0, start - first, num_stages=1):
        step = start - 1 - done
        # A row's own number: the interpreter mistakes a block's `and` with a scalar.
        steps = step + tl.zeros_like(length)
        alive = (steps >= 0) & (steps < length)
        alive_after = step + 1 < length
        here = own & alive[:, None]
        at_first = here & (steps == 0)[:, None]
        past_first = here & (steps > 0)[:, None]
        row = _position(step, length, reverse) * B + sequence
        direction_row = direction.to(tl.int64) * T * B + row
        row_before = _position(step - 1, length, reverse) * B + sequence
        s_0, s_1, s_2, s_3 = dh, dh, dh, dh
        h, h_before, c, c_before = dh, dh, dh, dh
        if CELL == "lstm" or CELL == "gru":
            saved_ptr = gates_ptr + direction_row[:, None] * (4 * H) + unit[None, :]
            s_0 = widened(tl.load(saved_ptr, mask=here, other=0.0))
            s_1 = widened(tl.load(saved_ptr + H, mask=here, other=0.0))
            s_2 = widened(tl.load(saved_ptr + 2 * H, mask=here, other=0.0))
            s_3 = widened(tl.load(saved_ptr + 3 * H, mask=here, other=0.0))
        else:
            h_ptr = y_ptr + ((row * D + direction) * H)[:, None] + unit[None, :]
            h = widened(tl.load(h_ptr, mask=here, other=0.0))
        if CELL == "lstm":
            c_ptr = cells_ptr + direction_row[:, None] * H + unit[None, :]
            c = widened(tl.load(c_ptr, mask=here, other=0.0))
            c_ptr = cells_ptr + (direction.to(tl.int64) * T * B + row_before)[:, None] * H
            c_before = tl.load(c_ptr + unit[None, :], mask=past_first, other=0.0)
            c_first = tl.load(c0_ptr + state, mask=at_first, other=0.0)
            c_before = widened(tl.where(step == 0, c_first, c_before))
        if CELL == "gru":
            h_ptr = y_ptr + ((row_before * D + direction) * H)[:, None] + unit[None, :]
            h_before = tl.load(h_ptr, mask=past_first, other=0.0)
            h_first = tl.load(h0_ptr + state, mask=at_first, other=0.0)
            h_before = widened(tl.where(step == 0, h_first, h_before))
        d_y_row = ((row * D + direction) * H)[:, None] + unit[None, :]
        dy = widened(tl.load(d_y_ptr + d_y_row, mask=here, other=0.0))
        if PREACTIVATED:
            states = next_state(s_0, s_1, s_2, s_3, h_before, c_before, CELL)
            _, _, s_0, s_1, s_2, s_3 = states

        if PRODUCT == "own":
            if CELL == "lstm":
                operands = (g_0, g_1, g_2, g_3)
            elif CELL == "gru":
                operands = (g_0, g_1, g_3)
            else:
                operands = (g_0,)
            total = _no_sum(TILE, UNITS, SPLIT, WIDE)
            for gate in tl.static_range(0, GATES):
                operand = operands[gate].to(d_gates_ptr.dtype.element_ty)
                if SPLIT > 1:
                    operand = tl.reshape(operand, (TILE, SPLIT, UNITS // SPLIT))
                    operand = tl.permute(operand, (1, 0, 2))
                total = _dot(operand, weights[gate], total, PRECISION)
            total = _summed(total, SPLIT)
        else:
            if counters_ptr is not None:
                wait(counters_ptr, done * groups, poll_limit)
            row_after = _position(step + 1, length, reverse) * B + sequence
            rows_ptr = d_gates_ptr + (direction.to(tl.int64) * T * B + row_after) * (SLOTS * H)
            if PRODUCT == "held":
                total = _held_product(
                    rows_ptr, alive_after, weights, CELL, H, CHUNK, SPLIT, GATES, AHEAD,
                    PRECISION, TILE, UNITS, WIDE
                )  # fmt: skip
            else:
                total = _no_sum(TILE, UNITS, SPLIT, WIDE)
                for index in tl.range(0, GATES * CHUNKS, num_stages=AHEAD):
                    gate = index // CHUNKS
                    first_k = index % CHUNKS * CHUNK
                    block = _block(gate, CELL)
                    chunk = _gathered(rows_ptr, alive_after, block, first_k, H, CHUNK, SPLIT)
                    w = load_weights_backward(
                        w_ptr, first_unit, gate, first_k, H, UNITS, CHUNK, SPLIT
                    )
                    total = _dot(chunk, w, total, PRECISION)
                total = _summed(total, SPLIT)

        dh = tl.where(alive_after[:, None], total + d_direct, d_h_n)
        dc = tl.where(alive_after[:, None], dc, d_c_n)
        found = gradients(dh + dy, dc, s_0, s_1, s_2, s_3, c_before, c, h_before, h, CELL)
        g_0, g_1, g_2, g_3, new_direct, new_dc = found
        d_ptr = d_gates_ptr + direction_row[:, None] * (SLOTS * H) + unit[None, :]
        tl.store(d_ptr, g_0.to(d_gates_ptr.dtype.element_ty), mask=here)
        if SLOTS > 1:
            tl.store(d_ptr + H, g_1.to(d_gates_ptr.dtype.element_ty), mask=here)
            tl.store(d_ptr + 2 * H, g_2.to(d_gates_ptr.dtype.element_ty), mask=here)
            tl.store(d_ptr + 3 * H, g_3.to(d_gates_ptr.dtype.element_ty), mask=here)
        if counters_ptr is not None:
            arrive(counters_ptr)
        d_direct = tl.where(alive[:, None], new_direct, d_direct)
        dc = tl.where(alive[:, None], new_dc, dc)

    tl.store(d_h0_ptr + state, dh.to(d_h0_ptr.dtype.element_ty), mask=own)
    if c0_ptr is not None:
        tl.store(d_c0_ptr + state, dc.to(d_c0_ptr.dtype.element_ty), mask=own)
    if carry_ptr is not None:
        tl.store(carry_ptr + state, d_direct, mask=own)
        tl.store(carry_ptr + carried + state, dc, mask=own)
