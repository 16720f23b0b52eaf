"""The device code: one forward and one backward kernel, whatever the regime and the cell.

A program owns UNITS hidden units, all gates of them, for TILE sequences of one direction, so that
a unit's own states never leave its registers. CELL is a `fused_gates.DeviceCell`. What differs
between regimes is PRODUCT, how the recurrent product gets its operands:

    own      the program owns all units: weights on chip, the state straight from registers
    held     weights on chip, loaded before the loop; the state gathered through L2 each step,
             after a flag (`flags.py`) where programs run at once
    streamed weights read each step; launched a step at a time
    alone    there is none: a unit sees its own states alone, and no program waits

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
from lstm_kernels.gpu.fused_gates import widened

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
    CHUNK: tl.constexpr, SPLIT: tl.constexpr
):  # fmt: skip
    """W_hh^T for a chunk of k: [(SPLIT,) CHUNK/SPLIT, UNITS*WIDTH], a unit's slots side by side.

    A slot that h has no part in, as GRU's of n from x, has no weights here: zero.
    """
    row, used = _columns(first_unit, CELL, H, UNITS)
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
    w_ptr, first_unit, part, first_k, from_k, ROWS: tl.constexpr, H: tl.constexpr,
    UNITS: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr
):  # fmt: skip
    """W_hh for a chunk of a part's ROWS, the program's units: [(SPLIT,) CHUNK/SPLIT, UNITS].

    Zero before from_k, which another chunk has.
    """
    unit = first_unit + tl.arange(0, UNITS)
    k = tl.expand_dims(_chunk_k(CHUNK, SPLIT), -1)
    used = unit < H
    if ROWS % CHUNK:
        used = used & (first_k + k < ROWS) & (first_k + k >= from_k)
    first_row = part * ROWS + first_k
    if H * H >= MOST_WEIGHTS_IN_32_BITS:
        first_row = tl.cast(first_row, tl.int64)
    chunk_ptr = w_ptr + (k * H + unit)
    chunk_ptr += first_row * H
    return tl.load(chunk_ptr, mask=used, other=0.0)


@triton.jit
def _columns(first_unit, CELL: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr):
    """Rows of W_hh that are the product's columns, and which of those are used; [UNITS*WIDTH]."""
    WIDTH: tl.constexpr = CELL.width
    column = tl.arange(0, UNITS * WIDTH)
    unit = first_unit + column // WIDTH
    slot = column % WIDTH
    block = slot
    used = unit < H
    for at in tl.static_range(0, WIDTH):
        if CELL.column_block[at] is None:
            used = used & (slot != at)
        elif CELL.column_block[at] != at:
            block = tl.where(slot == at, CELL.column_block[at], block)
    return block * H + unit, used


@triton.jit
def _load_biases(
    b_ptr, first_unit, CELL: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr,
    WIDE: tl.constexpr
):  # fmt: skip
    """b_hh laid out as the product's columns, [UNITS*WIDTH] WIDE; zero where there is none."""
    row, used = _columns(first_unit, CELL, H, UNITS)
    biases = tl.zeros((UNITS * CELL.width,), WIDE)
    if b_ptr is not None:
        biases = widened(tl.load(b_ptr + row, mask=used, other=0.0))
    return biases


@triton.jit
def _by_slot(columns, TILE: tl.constexpr, UNITS: tl.constexpr, WIDTH: tl.constexpr):
    """[TILE, UNITS*WIDTH] to WIDTH times [TILE, UNITS]."""
    if WIDTH == 1:
        slots = (columns,)
    elif WIDTH == 2:
        slots = tl.split(tl.reshape(columns, (TILE, UNITS, 2)))
    else:
        even, odd = tl.split(tl.reshape(columns, (TILE, UNITS, 2, 2)))
        slot_0, slot_2 = tl.split(even)
        slot_1, slot_3 = tl.split(odd)
        slots = (slot_0, slot_1, slot_2, slot_3)
    return slots


@triton.jit
def _preactivations(from_x, from_h, CELL: tl.constexpr):
    """Every slot, from the blocks of the one product and the slots of the other."""
    SLOTS: tl.constexpr = CELL.slots
    p = ()
    for slot in tl.static_range(0, SLOTS):
        if CELL.h_block[slot] is None:
            part = from_x[CELL.x_block[slot]]
        elif CELL.x_block[slot] is None:
            part = from_h[slot]
        else:
            part = from_x[CELL.x_block[slot]] + from_h[slot]
        p = p + (part,)
    return p


@triton.jit
def _load_blocks(row_ptr, mask, COUNT: tl.constexpr, H: tl.constexpr):
    """So many blocks of H, side by side in each row."""
    blocks = ()
    for at in tl.static_range(0, COUNT):
        blocks = blocks + (widened(tl.load(row_ptr + at * H, mask=mask, other=0.0)),)
    return blocks


@triton.jit
def _store_blocks(row_ptr, blocks, mask, FIRST: tl.constexpr, H: tl.constexpr):
    """Those from the FIRST on, side by side in each row."""
    COUNT: tl.constexpr = len(blocks) - FIRST
    for at in tl.static_range(0, COUNT):
        value = blocks[FIRST + at].to(row_ptr.dtype.element_ty)
        tl.store(row_ptr + at * H, value, mask=mask)


@triton.jit
def _load_states(h_ptr, c_ptr, of_h, of_c, mask, CELL: tl.constexpr, H: tl.constexpr):
    """Every state of [.., H] and [.., K*H], where h and the first of the others lie there."""
    OWN: tl.constexpr = CELL.states - 1
    states = (widened(tl.load(h_ptr + of_h, mask=mask, other=0.0)),)
    for at in tl.static_range(0, OWN):
        state = tl.load(c_ptr + of_c + at * H, mask=mask, other=CELL.absent[at + 1])
        states = states + (widened(state),)
    return states


@triton.jit
def _store_states(h_ptr, c_ptr, states, of_h, of_c, mask, CELL: tl.constexpr, H: tl.constexpr):
    """The same, stored."""
    OWN: tl.constexpr = CELL.states - 1
    tl.store(h_ptr + of_h, states[0].to(h_ptr.dtype.element_ty), mask=mask)
    if OWN > 0:
        _store_blocks(c_ptr + of_c, states, mask, 1, H)


@triton.jit
def _load_carried(carry_ptr, apart, mask, CELL: tl.constexpr):
    """A value of every state, each so far from the one before."""
    STATES: tl.constexpr = CELL.states
    states = ()
    for at in tl.static_range(0, STATES):
        state = tl.load(carry_ptr + at * apart, mask=mask, other=CELL.absent[at])
        states = states + (state,)
    return states


@triton.jit
def _store_carried(carry_ptr, apart, states, mask, CELL: tl.constexpr):
    STATES: tl.constexpr = CELL.states
    for at in tl.static_range(0, STATES):
        tl.store(carry_ptr + at * apart, states[at], mask=mask)


@triton.jit
def _load_units(
    per_unit_ptr, unit, CELL: tl.constexpr, H: tl.constexpr, TILE: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """The parameters of each unit, the same in every row: [TILE, UNITS] each."""
    COUNT: tl.constexpr = CELL.per_unit
    units = ()
    for at in tl.static_range(0, COUNT):
        of_unit = widened(tl.load(per_unit_ptr + at * H + unit, mask=unit < H, other=0.0))
        units = units + (of_unit[None, :] + tl.zeros((TILE, 1), WIDE),)
    return units


@triton.jit
def _chosen(condition, ones, others):
    """Of each pair in two tuples one, by rows."""
    COUNT: tl.constexpr = len(ones)
    values = ()
    for at in tl.static_range(0, COUNT):
        values = values + (tl.where(condition, ones[at], others[at]),)
    return values


@triton.jit
def _added(totals, parts, mask):
    """Sums so far, and those parts that exist."""
    COUNT: tl.constexpr = len(totals)
    values = ()
    for at in tl.static_range(0, COUNT):
        values = values + (totals[at] + tl.where(mask, parts[at], 0.0),)
    return values


@triton.jit
def _alike(value, COUNT: tl.constexpr):
    """A tuple of the same value, so many times."""
    values = ()
    for _ in tl.static_range(0, COUNT):
        values = values + (value,)
    return values


@triton.jit
def _operand(tile, unit, dtype: tl.constexpr, H: tl.constexpr, UNITS: tl.constexpr):
    """A factor of a product over units: what stands for no unit may be NaN, and counts as 0."""
    if H % UNITS:
        tile = tl.where((unit < H)[None, :], tile, 0.0)
    return tile.to(dtype)


@triton.jit
def _first_k(index, LENGTH: tl.constexpr, CHUNK: tl.constexpr):
    """Where a backward's chunk of k begins: the last one ends where k does, and needs no mask.

    What it has in common with the one before has weights of zero there. A forward has the mask:
    Triton 3.7.1 leaves out what is beyond H, up to 3 of 21 loads a step (LSTM, float16, sm_90).
    """
    return min(index * CHUNK, max(0, LENGTH - CHUNK))


@triton.jit
def _gathered(
    rows_ptr, alive, apart, first_k, H: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    MASKED: tl.constexpr
):  # fmt: skip
    """A chunk of H elements of each row, [TILE, CHUNK] or [SPLIT, TILE, CHUNK/SPLIT].

    Each k lies further along the row by what is `apart`. L1 is passed by: other SMs wrote this.
    """
    k = tl.expand_dims(_chunk_k(CHUNK, SPLIT), -2)
    mask = alive[:, None]
    if MASKED:
        mask = mask & (first_k + k < H)
    # Two additions: of a constant to a pointer the machine code makes an immediate offset.
    chunk_ptr = rows_ptr[:, None] + k
    chunk_ptr += apart + first_k
    return tl.load(chunk_ptr, mask=mask, other=0.0, cache_modifier=".cg")


@triton.jit
def _slot(block, CELL: tl.constexpr):
    """Where a block of W_hh stands among d_gates': a GRU's third, n from h, is the fourth."""
    BLOCKS: tl.constexpr = CELL.h_blocks
    slot = block
    for at in tl.static_range(0, BLOCKS):
        if CELL.h_slot[at] != at:
            slot = tl.where(block == at, CELL.h_slot[at], slot)
    return slot


@triton.jit
def _slots_apart(
    FIRST: tl.constexpr, CELL: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr,
    SPLIT: tl.constexpr
):  # fmt: skip
    """How much further a chunk of k lies in d_gates' slots than in W_hh's blocks.

    A number where all of the chunk lies as far, else by k.
    """
    BLOCKS: tl.constexpr = CELL.h_blocks
    apart = 0
    for at in tl.static_range(1, BLOCKS):
        if at * H <= FIRST:
            apart += (CELL.h_slot[at] - CELL.h_slot[at - 1] - 1) * H
        elif at * H < FIRST + CHUNK and CELL.h_slot[at] != CELL.h_slot[at - 1] + 1:
            k = FIRST + tl.expand_dims(_chunk_k(CHUNK, SPLIT), -2)
            apart += tl.where(k < at * H, 0, (CELL.h_slot[at] - CELL.h_slot[at - 1] - 1) * H)
    return apart


@triton.jit
def _held_product(
    rows_ptr, alive, weights, CELL: tl.constexpr, H: tl.constexpr, CHUNK: tl.constexpr,
    SPLIT: tl.constexpr, OF_GATES: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Rows times the weights on chip, AHEAD chunks on their way; [TILE, COLUMNS].

    A row is a state, or OF_GATES the gradients of all slots, of which some are multiplied. They are
    one long k, so that only the last chunk may be longer than what is left.
    """
    LENGTH: tl.constexpr = CELL.h_blocks * H if OF_GATES else H
    COUNT: tl.constexpr = (LENGTH + CHUNK - 1) // CHUNK
    # Where the last chunk of a backward begins.
    LAST: tl.constexpr = max(0, LENGTH - CHUNK)
    MASKED: tl.constexpr = LENGTH < CHUNK if OF_GATES else LENGTH % CHUNK != 0
    total = _no_sum(TILE, COLUMNS, SPLIT, WIDE)
    chunks = ()
    for index in tl.static_range(0, COUNT + AHEAD):
        if index < COUNT:
            if not OF_GATES:
                chunk = _gathered(rows_ptr, alive, 0, index * CHUNK, H, CHUNK, SPLIT, MASKED)
            elif index * CHUNK < LAST:
                apart = _slots_apart(index * CHUNK, CELL, H, CHUNK, SPLIT)
                chunk = _gathered(
                    rows_ptr, alive, apart, index * CHUNK, LENGTH, CHUNK, SPLIT, MASKED
                )
            else:
                apart = _slots_apart(LAST, CELL, H, CHUNK, SPLIT)
                chunk = _gathered(rows_ptr, alive, apart, LAST, LENGTH, CHUNK, SPLIT, MASKED)
            chunks = chunks + (chunk,)
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


@triton.jit
def _load_used(
    h_ptr, c_ptr, other, mask, CELL: tl.constexpr, H: tl.constexpr
):  # fmt: skip
    """The states after a step that a backward looks at, `other` in the place of the rest."""
    OWN: tl.constexpr = CELL.states - 1
    states = (other,)
    if CELL.uses_after[0]:
        states = _load_blocks(h_ptr, mask, 1, H)
    for at in tl.static_range(0, OWN):
        state = other
        if CELL.uses_after[at + 1]:
            state = tl.load(c_ptr + at * H, mask=mask, other=CELL.absent[at + 1])
            state = widened(state)
        states = states + (state,)
    return states


@triton.jit
def _load_before(
    h_ptr, c_ptr, h0_ptr, c0_ptr, other, past_first, at_first, is_first,
    PREACTIVATED: tl.constexpr, CELL: tl.constexpr, H: tl.constexpr
):  # fmt: skip
    """Likewise before it: of the first step the initial ones."""
    OWN: tl.constexpr = CELL.states - 1
    states = (other,)
    if CELL.uses_before[0] or (PREACTIVATED and CELL.saves_with[0]):
        states = (_before(h_ptr, h0_ptr, past_first, at_first, is_first, CELL.absent[0]),)
    for at in tl.static_range(0, OWN):
        state = other
        if CELL.uses_before[at + 1] or (PREACTIVATED and CELL.saves_with[at + 1]):
            state = _before(
                c_ptr + at * H, c0_ptr + at * H, past_first, at_first, is_first,
                CELL.absent[at + 1]
            )  # fmt: skip
        states = states + (state,)
    return states


@triton.jit
def _before(before_ptr, first_ptr, past_first, at_first, is_first, absent):
    before = tl.load(before_ptr, mask=past_first, other=absent)
    first = tl.load(first_ptr, mask=at_first, other=absent)
    return widened(tl.where(is_first, first, before))


@triton.jit(do_not_specialize=["first", "last", "first_tile", "T", "B", "poll_limit"])
def forward(
    from_x_ptr,  # [D, T, B, G*H], x W_ih^T + b_ih
    w_ptr, w_reverse_ptr,  # [Gh*H, H] each, or None; the second is read where D is 2
    b_ptr, b_reverse_ptr,  # [Gh*H] each, b_hh, or None
    per_unit_ptr, per_unit_reverse_ptr,  # [U*H] each, or None
    h0_ptr, c0_ptr,  # [D, B, H] and [D, B, K*H]; c0 None where a unit has no own states
    lengths_ptr,  # [B] or None
    y_ptr,  # [T, B, D*H], written up to each sequence's end
    h_n_ptr, c_n_ptr,  # as h0 and c0, written
    gates_ptr,  # [D, T, B, S*H], what is saved, written; None where no backward wants it
    cells_ptr,  # [D, T, B, K*H], own states, written; None likewise
    carry_ptr,  # [1+K, D, B, H] WIDE, states between launches, or None where one launch is all
    counters_ptr,  # [D * tiles * COUNTER_STRIDE] int32, zero, or None where nobody waits
    first, last, first_tile, T, B, poll_limit,
    CELL: tl.constexpr, H: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    AHEAD: tl.constexpr
):  # fmt: skip
    """Steps [first, last) of one layer, one or both directions; the grid is groups, tiles, D."""
    CHUNKS: tl.constexpr = (H + CHUNK - 1) // CHUNK
    COLUMNS: tl.constexpr = UNITS * CELL.width
    OWN: tl.constexpr = CELL.states - 1
    WIDE: tl.constexpr = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    tile, direction = first_tile + tl.program_id(1), tl.program_id(2)
    groups, D = tl.num_programs(0), tl.num_programs(2)
    reverse = direction == 1
    first_unit = tl.program_id(0) * UNITS
    if w_ptr is not None and direction == 1:
        w_ptr = w_reverse_ptr
    weights = ()
    if PRODUCT == "own" or PRODUCT == "held":
        for index in tl.static_range(0, CHUNKS):
            weights = weights + (
                load_weights_forward(
                    w_ptr, first_unit, index * CHUNK, CELL, H, UNITS, CHUNK, SPLIT
                ),
            )
    if b_ptr is not None and direction == 1:
        b_ptr = b_reverse_ptr
    biases = _load_biases(b_ptr, first_unit, CELL, H, UNITS, WIDE)
    if per_unit_ptr is not None and direction == 1:
        per_unit_ptr = per_unit_reverse_ptr

    sequence = (tile * TILE + tl.arange(0, TILE)).to(tl.int64)
    unit = first_unit + tl.arange(0, UNITS)
    units = _load_units(per_unit_ptr, unit, CELL, H, TILE, WIDE)
    own = (sequence < B)[:, None] & (unit < H)[None, :]
    length = _lengths(lengths_ptr, sequence, T, B)
    first_row = direction * B + sequence
    state = first_row[:, None] * H + unit[None, :]
    own_state = first_row[:, None] * (OWN * H) + unit[None, :]
    carried = D * B.to(tl.int64) * H
    states = _load_states(h0_ptr, c0_ptr, state, own_state, own, CELL, H)
    if carry_ptr is not None and first > 0:
        states = _load_carried(carry_ptr + state, carried, own, CELL)
    if counters_ptr is not None:
        counters_ptr += (direction * tl.num_programs(1) + tl.program_id(1)) * COUNTER_STRIDE

    end = tl.minimum(last, tl.max(length).to(tl.int32))
    for step in tl.range(first, end, num_stages=1):
        alive = step < length
        here = own & alive[:, None]
        row = _position(step, length, reverse) * B + sequence
        direction_row = direction.to(tl.int64) * T * B + row
        x_ptr = from_x_ptr + direction_row[:, None] * (CELL.x_blocks * H) + unit[None, :]
        from_x = _load_blocks(x_ptr, here, CELL.x_blocks, H)
        from_h = ()

        if PRODUCT == "own":
            operand = _operand(states[0], unit, y_ptr.dtype.element_ty, H, UNITS)
            total = _dot(operand, weights[0], None, PRECISION)
        elif PRODUCT != "alone":
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
                    rows_ptr, alive, weights, CELL, H, CHUNK, SPLIT, False, AHEAD, PRECISION, TILE,
                    COLUMNS, WIDE
                )  # fmt: skip
            else:
                total = _no_sum(TILE, COLUMNS, SPLIT, WIDE)
                for first_k in tl.range(0, H, CHUNK, num_stages=AHEAD):
                    chunk = _gathered(rows_ptr, alive, 0, first_k, H, CHUNK, SPLIT, H % CHUNK != 0)
                    w = load_weights_forward(
                        w_ptr, first_unit, first_k, CELL, H, UNITS, CHUNK, SPLIT
                    )
                    total = _dot(chunk, w, total, PRECISION)
                total = _summed(total, SPLIT)
        if PRODUCT != "alone":
            from_h = _by_slot(total + biases[None, :], TILE, UNITS, CELL.width)

        after, saved = CELL.next_state(_preactivations(from_x, from_h, CELL), states, units)
        tl.store(
            y_ptr + ((row * D + direction) * H)[:, None] + unit[None, :],
            after[0].to(y_ptr.dtype.element_ty),
            mask=here,
        )
        if counters_ptr is not None:
            arrive(counters_ptr)
        if gates_ptr is not None:
            saved_ptr = gates_ptr + direction_row[:, None] * (CELL.saved * H) + unit[None, :]
            _store_blocks(saved_ptr, saved, here, 0, H)
        if cells_ptr is not None:
            saved_ptr = cells_ptr + direction_row[:, None] * (OWN * H) + unit[None, :]
            _store_blocks(saved_ptr, after, here, 1, H)
        states = _chosen(alive[:, None], after, states)

    _store_states(h_n_ptr, c_n_ptr, states, state, own_state, own, CELL, H)
    if carry_ptr is not None:
        _store_carried(carry_ptr + state, carried, states, own, CELL)


@triton.jit(do_not_specialize=["first", "last", "first_tile", "T", "B", "poll_limit"])
def backward(
    d_y_ptr,  # [T, B, D*H]
    d_h_n_ptr, d_c_n_ptr,  # [D, B, H] and [D, B, K*H]; d_c_n None where there are no own states
    w_ptr, w_reverse_ptr,  # [Gh*H, H] each, or None; the second is read where D is 2
    per_unit_ptr, per_unit_reverse_ptr,  # [U*H] each, or None
    gates_ptr,  # [D, T, B, S*H], as `forward` saved them; None where it saves nothing
    cells_ptr,  # [D, T, B, K*H], likewise
    y_ptr,  # [T, B, D*H]
    h0_ptr, c0_ptr,  # as d_h_n and d_c_n
    lengths_ptr,  # [B] or None
    d_gates_ptr,  # [D, T, B, slots*H], written up to each sequence's end
    d_h0_ptr, d_c0_ptr,  # as h0 and c0, written by the launch whose first step is -1
    d_per_unit_ptr,  # [D, B, U*H] WIDE, written: a sequence's part; or None
    carry_ptr,  # [1+K, D, B, H] WIDE between launches, or None where one launch is all
    counters_ptr,  # [D * tiles * COUNTER_STRIDE] int32, zero, or None where nobody waits
    first, last, first_tile, T, B, poll_limit,
    CELL: tl.constexpr, H: tl.constexpr, PRODUCT: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, UNITS: tl.constexpr, CHUNK: tl.constexpr, SPLIT: tl.constexpr,
    AHEAD: tl.constexpr, PREACTIVATED: tl.constexpr
):  # fmt: skip
    """Steps last-1 down to first of one layer's backward; the grid is groups, tiles, D.

    Each step first takes h's gradient through the step after it, and so the last one, step -1,
    makes nothing but the gradients of the initial states. With PREACTIVATED `gates_ptr` holds the
    pre-activations, [D, T, B, slots*H], and what is saved is made of them again.
    """
    CHUNKS: tl.constexpr = (H + CHUNK - 1) // CHUNK
    SLOTS: tl.constexpr = CELL.slots
    STATES: tl.constexpr = CELL.states
    OWN: tl.constexpr = STATES - 1
    BLOCKS: tl.constexpr = CELL.h_blocks
    COUNT: tl.constexpr = CELL.per_unit
    WIDE: tl.constexpr = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    tile, direction = first_tile + tl.program_id(1), tl.program_id(2)
    groups, D = tl.num_programs(0), tl.num_programs(2)
    reverse = direction == 1
    first_unit = tl.program_id(0) * UNITS
    if w_ptr is not None and direction == 1:
        w_ptr = w_reverse_ptr
    weights = ()
    if PRODUCT == "own" or PRODUCT == "held":
        JOINED: tl.constexpr = BLOCKS if PRODUCT == "held" else 1
        ROWS: tl.constexpr = JOINED * H
        OF_PART: tl.constexpr = (ROWS + CHUNK - 1) // CHUNK
        for index in tl.static_range(0, BLOCKS // JOINED * OF_PART):
            weights = weights + (
                load_weights_backward(
                    w_ptr, first_unit, index // OF_PART, _first_k(index % OF_PART, ROWS, CHUNK),
                    index % OF_PART * CHUNK, ROWS, H, UNITS, CHUNK, SPLIT
                ),
            )  # fmt: skip
    if per_unit_ptr is not None and direction == 1:
        per_unit_ptr = per_unit_reverse_ptr

    sequence = (tile * TILE + tl.arange(0, TILE)).to(tl.int64)
    unit = first_unit + tl.arange(0, UNITS)
    units = _load_units(per_unit_ptr, unit, CELL, H, TILE, WIDE)
    own = (sequence < B)[:, None] & (unit < H)[None, :]
    length = _lengths(lengths_ptr, sequence, T, B)
    first_row = direction * B + sequence
    state = first_row[:, None] * H + unit[None, :]
    own_state = first_row[:, None] * (OWN * H) + unit[None, :]
    carried = D * B.to(tl.int64) * H
    zeros = tl.zeros((TILE, UNITS), WIDE)
    d_last = _load_states(d_h_n_ptr, d_c_n_ptr, state, own_state, own, CELL, H)
    # What reaches h(step) from later steps beside the product, and its other states; all are
    # replaced at a sequence's last step.
    dh = d_last[0]
    d_states = (zeros,)
    for at in tl.static_range(1, STATES):
        d_states = d_states + (d_last[at],)
    d_units = _alike(zeros, COUNT)
    d_units_ptr = d_per_unit_ptr
    if COUNT > 0:
        d_units_ptr = d_per_unit_ptr + first_row[:, None] * (COUNT * H) + unit[None, :]
    if carry_ptr is not None and last < T:
        d_states = _load_carried(carry_ptr + state, carried, own, CELL)
        d_units = _load_blocks(d_units_ptr, own, COUNT, H)
    if counters_ptr is not None:
        counters_ptr += (direction * tl.num_programs(1) + tl.program_id(1)) * COUNTER_STRIDE
    d_p = _alike(zeros, SLOTS)

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
        saved = ()
        if PREACTIVATED:
            saved_ptr = gates_ptr + direction_row[:, None] * (SLOTS * H) + unit[None, :]
            saved = _load_blocks(saved_ptr, here, SLOTS, H)
        elif gates_ptr is not None:
            saved_ptr = gates_ptr + direction_row[:, None] * (CELL.saved * H) + unit[None, :]
            saved = _load_blocks(saved_ptr, here, CELL.saved, H)
        y_row = ((row * D + direction) * H)[:, None] + unit[None, :]
        y_row_before = ((row_before * D + direction) * H)[:, None] + unit[None, :]
        c_ptr, c_before_ptr, c_first_ptr = cells_ptr, cells_ptr, c0_ptr
        if OWN > 0:
            c_ptr = cells_ptr + direction_row[:, None] * (OWN * H) + unit[None, :]
            direction_row_before = direction.to(tl.int64) * T * B + row_before
            c_before_ptr = cells_ptr + direction_row_before[:, None] * (OWN * H) + unit[None, :]
            c_first_ptr = c0_ptr + own_state
        after = _load_used(y_ptr + y_row, c_ptr, dh, here, CELL, H)
        before = _load_before(
            y_ptr + y_row_before, c_before_ptr, h0_ptr + state, c_first_ptr, dh, past_first,
            at_first, step == 0, PREACTIVATED, CELL, H
        )  # fmt: skip
        dy = widened(tl.load(d_y_ptr + y_row, mask=here, other=0.0))
        if PREACTIVATED:
            _, saved = CELL.next_state(saved, before, units)

        total = zeros
        if PRODUCT == "own":
            total = _no_sum(TILE, UNITS, SPLIT, WIDE)
            for block in tl.static_range(0, BLOCKS):
                operand = d_p[CELL.h_slot[block]]
                operand = _operand(operand, unit, d_gates_ptr.dtype.element_ty, H, UNITS)
                if SPLIT > 1:
                    operand = tl.reshape(operand, (TILE, SPLIT, UNITS // SPLIT))
                    operand = tl.permute(operand, (1, 0, 2))
                total = _dot(operand, weights[block], total, PRECISION)
            total = _summed(total, SPLIT)
        elif PRODUCT != "alone":
            if counters_ptr is not None:
                wait(counters_ptr, done * groups, poll_limit)
            row_after = _position(step + 1, length, reverse) * B + sequence
            rows_ptr = d_gates_ptr + (direction.to(tl.int64) * T * B + row_after) * (SLOTS * H)
            if PRODUCT == "held":
                total = _held_product(
                    rows_ptr, alive_after, weights, CELL, H, CHUNK, SPLIT, True, AHEAD,
                    PRECISION, TILE, UNITS, WIDE
                )  # fmt: skip
            else:
                total = _no_sum(TILE, UNITS, SPLIT, WIDE)
                for index in tl.range(0, BLOCKS * CHUNKS, num_stages=AHEAD):
                    block = index // CHUNKS
                    first_k = index % CHUNKS * CHUNK
                    slot = _slot(block, CELL)
                    chunk = _gathered(
                        rows_ptr, alive_after, slot * H, first_k, H, CHUNK, SPLIT, H % CHUNK != 0
                    )
                    w = load_weights_backward(
                        w_ptr, first_unit, block, first_k, first_k, H, H, UNITS, CHUNK, SPLIT
                    )
                    total = _dot(chunk, w, total, PRECISION)
                total = _summed(total, SPLIT)

        if CELL.carries[0]:
            total += d_states[0]
        dh = tl.where(alive_after[:, None], total, d_last[0])
        d_after = (dh + dy,)
        for at in tl.static_range(1, STATES):
            d_after = d_after + (tl.where(alive_after[:, None], d_states[at], d_last[at]),)
        new_d_p, d_before, of_units = CELL.gradients(d_after, saved, before, after, units)
        d_ptr = d_gates_ptr + direction_row[:, None] * (SLOTS * H) + unit[None, :]
        _store_blocks(d_ptr, new_d_p, here, 0, H)
        if counters_ptr is not None:
            arrive(counters_ptr)
        if PRODUCT == "own":
            d_p = new_d_p
        new_d_states = (d_states[0],)
        if CELL.carries[0]:
            new_d_states = (tl.where(alive[:, None], d_before[0], d_states[0]),)
        for at in tl.static_range(1, STATES):
            kept = tl.where(alive[:, None], d_before[at], d_after[at])
            new_d_states = new_d_states + (kept,)
        d_states = new_d_states
        if COUNT > 0:
            d_units = _added(d_units, of_units, here)

    d_results = (dh,)
    for at in tl.static_range(1, STATES):
        d_results = d_results + (d_states[at],)
    _store_states(d_h0_ptr, d_c0_ptr, d_results, state, own_state, own, CELL, H)
    if COUNT > 0:
        _store_blocks(d_units_ptr, d_units, own, 0, H)
    if carry_ptr is not None:
        _store_carried(carry_ptr + state, carried, d_states, own, CELL)
