"""The Triton kernels that measure a CUDA device: reading, signalling, and the gates' own work.

Each function ending in `_launch` gives one launch as data, to run or to compile with no GPU. Those
whose programs wait for each other need all of them resident, so they launch cooperatively. They
signal by the minimum that CUDA's memory model allows: one number in global memory, added to with
release and read with acquire. They use no backend's flags, so that no change of a backend
moves a ceiling.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from lstm_kernels.cells import CELLS
from lstm_kernels.gpu.fused_gates import device_cell
from lstm_kernels.gpu.launching import Launch

# Words of 4 bytes that a program reads at once: 16 a thread, in four vector loads.
WORDS_PER_THREAD = 16
GATE_TILE = 32

# Two flags on one cache line of 128 bytes would disturb each other.
FLAG_BYTES = 128
FLAG_WORDS = tl.constexpr(FLAG_BYTES // 4)
# Looks at a flag before the kernel is ended: a look goes to L2 and back, which takes 0.3 to 0.7 us,
# so that this is 5 to 12 seconds.
MOST_LOOKS = 1 << 24

# One thread looks at the flag $1 until it counts $2 signals, $3 times at most; $0 gets 0. A flag
# that is never raised ends in a trap, which CUDA reports as a failed launch, instead of a hang.
_LOOK = tl.constexpr("""{
    .reg .pred leaves, again;
    .reg .u32 rank, signals, looks;
    mov.u32 $0, 0;
    mov.u32 rank, %tid.x;
    setp.ne.u32 leaves, rank, 0;
    @leaves bra RAISED;
    mov.u32 looks, 0;
LOOK:
    ld.acquire.gpu.global.u32 signals, [$1];
    setp.ge.u32 leaves, signals, $2;
    @leaves bra RAISED;
    add.u32 looks, looks, 1;
    setp.lt.u32 again, looks, $3;
    @again bra LOOK;
    trap;
RAISED:
}""")


@triton.jit
def signal(flag_ptr):
    """Count one signal, once every thread of this program has stored what it had to."""
    tl.debug_barrier()
    tl.atomic_add(flag_ptr, 1, sem="release", scope="gpu")


@triton.jit
def await_signals(flag_ptr, signals, most_looks):
    """Hold every thread until so many signals were counted; what was stored before them is seen."""
    tl.inline_asm_elementwise(
        _LOOK, "=r,l,r,r", [flag_ptr, signals, most_looks], dtype=tl.int32, is_pure=False, pack=1
    )
    tl.debug_barrier()


@triton.jit
def read(x_ptr, mixed_ptr, blocks, rounds, BLOCK: tl.constexpr):
    """Read `blocks` blocks so many times, past L1; in each round a program reads other blocks.

    x: int32 [blocks * BLOCK], below 2^31 words. mixed: int32 [programs, BLOCK], the
    exclusive or of what each program read, which keeps the loads from being idle.
    """
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    words = tl.arange(0, BLOCK)
    mixed = tl.zeros([BLOCK], dtype=tl.int32)
    for turn in range(rounds):
        for block in range((program + turn) % programs, blocks, programs):
            mixed ^= tl.load(x_ptr + block * BLOCK + words, cache_modifier=".cg")
    tl.store(mixed_ptr + program * BLOCK + words, mixed)


@triton.jit
def ping_pong(flags_ptr, turns, most_looks):
    """Two programs signal each other in turn. flags: int32 [2, FLAG_WORDS], zero."""
    me = tl.program_id(0)
    mine = flags_ptr + me * FLAG_WORDS
    other = flags_ptr + (1 - me) * FLAG_WORDS
    for turn in range(turns):
        if me == 0:
            signal(mine)
            await_signals(other, turn + 1, most_looks)
        else:
            await_signals(other, turn + 1, most_looks)
            signal(mine)


@triton.jit
def barriers(flag_ptr, turns, most_looks):
    """All programs wait for all, so many times. flag: int32 [FLAG_WORDS], zero."""
    programs = tl.num_programs(0)
    for turn in range(turns):
        signal(flag_ptr)
        await_signals(flag_ptr, (turn + 1) * programs, most_looks)


@triton.jit
def _rows(p_ptr, k, added, COUNT: tl.constexpr, TILE: tl.constexpr):
    """So many rows of p, something added to each."""
    rows = ()
    for row in tl.static_range(0, COUNT):
        rows = rows + (tl.load(p_ptr + row * TILE + k) + added,)
    return rows


@triton.jit
def _alike(value, COUNT: tl.constexpr):
    """A tuple of the same value, so many times."""
    values = ()
    for _ in tl.static_range(0, COUNT):
        values = values + (value,)
    return values


@triton.jit
def forward_gates(p_ptr, last_ptr, steps, CELL: tl.constexpr, TILE: tl.constexpr):
    """Steps of the gates alone: the state is added to pre-activations that stay the same.

    p: float32 [4, TILE]. last: float32 [TILE], the last state. CELL has no parameters a unit.
    """
    SLOTS: tl.constexpr = CELL.slots
    k = tl.arange(0, TILE)
    zeros = tl.zeros([TILE], dtype=tl.float32)
    rows = _rows(p_ptr, k, zeros, SLOTS, TILE)
    states = _alike(zeros, CELL.states)
    for _ in range(steps):
        p = ()
        for slot in tl.static_range(0, SLOTS):
            p = p + (rows[slot] + states[0],)
        states, _0 = CELL.next_state(p, states, ())
    tl.store(last_ptr + k, states[0])


@triton.jit
def backward_gates(p_ptr, last_ptr, steps, CELL: tl.constexpr, TILE: tl.constexpr):
    """Steps of the gates' gradients alone; a product's part is the pre-activations' gradients' sum.

    p: float32 [4, TILE]: what a forward saved, of which rows 1 and 2 stand for the states before
    and after a step too. last: float32 [TILE], the last gradient. CELL as in `forward_gates`.
    """
    SLOTS: tl.constexpr = CELL.slots
    STATES: tl.constexpr = CELL.states
    k = tl.arange(0, TILE)
    zeros = tl.zeros([TILE], dtype=tl.float32)
    saved = _rows(p_ptr, k, zeros, CELL.saved, TILE)
    before = _alike(tl.load(p_ptr + TILE + k), STATES)
    after = _alike(tl.load(p_ptr + 2 * TILE + k), STATES)
    d_states = _alike(zeros, STATES)
    dh = tl.load(p_ptr + k)
    for _ in range(steps):
        d_after = (dh,)
        for state in tl.static_range(1, STATES):
            d_after = d_after + (d_states[state],)
        d_p, d_states, _0 = CELL.gradients(d_after, saved, before, after, ())
        dh = d_states[0]
        for slot in tl.static_range(0, SLOTS):
            dh = dh + d_p[slot]
    tl.store(last_ptr + k, dh)


def block_words(warps: int) -> int:
    """Words that a program of this many warps reads at once."""
    return WORDS_PER_THREAD * 32 * warps


def read_launch(x: Tensor, mixed: Tensor, programs: int, rounds: int, warps: int) -> Launch:
    """Have programs read all of x, int32, this many times."""
    block = block_words(warps)
    arguments = {
        "x_ptr": x,
        "mixed_ptr": mixed,
        "blocks": x.numel() // block,
        "rounds": rounds,
        "BLOCK": block,
    }
    return Launch(read, (programs,), arguments, _options(warps))


def ping_pong_launch(flags: Tensor, turns: int) -> Launch:
    """Two programs that signal each other; flags: int32 [2 * FLAG_WORDS], zero."""
    arguments = {"flags_ptr": flags, "turns": turns, "most_looks": MOST_LOOKS}
    return Launch(ping_pong, (2,), arguments, _options(1, launch_cooperative_grid=True))


def barriers_launch(flag: Tensor, programs: int, turns: int) -> Launch:
    """Programs that all wait for each other; flag: int32 [FLAG_WORDS], zero."""
    arguments = {"flag_ptr": flag, "turns": turns, "most_looks": MOST_LOOKS}
    return Launch(barriers, (programs,), arguments, _options(4, launch_cooperative_grid=True))


def gates_launch(p: Tensor, last: Tensor, steps: int, cell: str, sweep: str) -> Launch:
    """One warp that does nothing but a cell's gates; p: float32 [4, GATE_TILE]."""
    kernel = forward_gates if sweep == "forward" else backward_gates
    arguments = {
        "p_ptr": p,
        "last_ptr": last,
        "steps": steps,
        "CELL": device_cell(CELLS[cell]),
        "TILE": GATE_TILE,
    }
    return Launch(kernel, (1,), arguments, _options(1))


def _options(warps: int, **more: Any) -> dict[str, Any]:
    return {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": True} | more
