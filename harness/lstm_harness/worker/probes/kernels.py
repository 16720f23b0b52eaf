"""The Triton kernels that measure a CUDA device: reading, signalling, and the gates' own work.

Each function ending in `_launch` gives one launch as data, to run or to compile with no GPU. Those
whose programs wait for each other need all of them resident, so they launch cooperatively; their
waits are bounded (see `fused_triton.flags`).
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from lstm_kernels.backends.fused_triton.flags import COUNTER_STRIDE, POLL_LIMIT, arrive, wait
from lstm_kernels.gpu.fused_gates import gradients, next_state
from lstm_kernels.gpu.launching import Launch

# Words of 4 bytes that a program reads at once: 16 a thread, in four vector loads.
WORDS_PER_THREAD = 16
GATE_TILE = 32
COUNTER_BYTES = 4 * COUNTER_STRIDE.value


@triton.jit
def read(x_ptr, found_ptr, blocks, rounds, BLOCK: tl.constexpr):
    """Read `blocks` blocks so many times, past L1; in each round a program reads other blocks.

    x: int32 [blocks * BLOCK], below 2^31 words. found: int32 [programs, BLOCK], which keeps the
    loads from being idle.
    """
    program = tl.program_id(0)
    programs = tl.num_programs(0)
    words = tl.arange(0, BLOCK)
    found = tl.zeros([BLOCK], dtype=tl.int32)
    for turn in range(rounds):
        for block in range((program + turn) % programs, blocks, programs):
            found ^= tl.load(x_ptr + block * BLOCK + words, cache_modifier=".cg")
    tl.store(found_ptr + program * BLOCK + words, found)


@triton.jit
def ping_pong(counters_ptr, turns, poll_limit):
    """Two programs signal each other in turn. counters: two of flags' counters, zero."""
    me = tl.program_id(0)
    mine = counters_ptr + me * COUNTER_STRIDE
    other = counters_ptr + (1 - me) * COUNTER_STRIDE
    for turn in range(turns):
        if me == 0:
            arrive(mine)
            wait(other, turn + 1, poll_limit)
        else:
            wait(other, turn + 1, poll_limit)
            arrive(mine)


@triton.jit
def barriers(counter_ptr, turns, poll_limit):
    """All programs wait for all, so many times. counter: one of flags' counters, zero."""
    programs = tl.num_programs(0)
    for turn in range(turns):
        arrive(counter_ptr)
        wait(counter_ptr, (turn + 1) * programs, poll_limit)


@triton.jit
def forward_gates(p_ptr, found_ptr, steps, CELL: tl.constexpr, TILE: tl.constexpr):
    """Steps of the gates alone: the state is added to pre-activations that stay the same.

    p: float32 [4, TILE]. found: float32 [TILE], the last state.
    """
    k = tl.arange(0, TILE)
    p0 = tl.load(p_ptr + k)
    p1 = tl.load(p_ptr + TILE + k)
    p2 = tl.load(p_ptr + 2 * TILE + k)
    p3 = tl.load(p_ptr + 3 * TILE + k)
    h = tl.zeros([TILE], dtype=tl.float32)
    c = tl.zeros([TILE], dtype=tl.float32)
    for _ in range(steps):
        h, c, _0, _1, _2, _3 = next_state(p0 + h, p1 + h, p2 + h, p3 + h, h, c, CELL)
    tl.store(found_ptr + k, h)


@triton.jit
def backward_gates(p_ptr, found_ptr, steps, CELL: tl.constexpr, TILE: tl.constexpr):
    """Steps of the gates' gradients alone; a product's part is the pre-activations' gradients' sum.

    p: float32 [4, TILE], what a forward saved. found: float32 [TILE], the last gradient.
    """
    k = tl.arange(0, TILE)
    s0 = tl.load(p_ptr + k)
    s1 = tl.load(p_ptr + TILE + k)
    s2 = tl.load(p_ptr + 2 * TILE + k)
    s3 = tl.load(p_ptr + 3 * TILE + k)
    dh = s0
    dc = tl.zeros([TILE], dtype=tl.float32)
    for _ in range(steps):
        g0, g1, g2, g3, carry, dc = gradients(dh, dc, s0, s1, s2, s3, s1, s2, s1, s2, CELL)
        dh = g0 + g1 + g2 + g3 + carry
    tl.store(found_ptr + k, dh)


def block_words(warps: int) -> int:
    """Words that a program of so many warps reads at once."""
    return WORDS_PER_THREAD * 32 * warps


def read_launch(x: Tensor, found: Tensor, programs: int, rounds: int, warps: int) -> Launch:
    """Have programs read all of x, int32, so many times."""
    block = block_words(warps)
    arguments = {
        "x_ptr": x,
        "found_ptr": found,
        "blocks": x.numel() // block,
        "rounds": rounds,
        "BLOCK": block,
    }
    return Launch(read, (programs,), arguments, _options(warps))


def ping_pong_launch(counters: Tensor, turns: int) -> Launch:
    """Two programs that signal each other; counters: int32 [2 * COUNTER_STRIDE]."""
    arguments = {"counters_ptr": counters, "turns": turns, "poll_limit": POLL_LIMIT}
    return Launch(ping_pong, (2,), arguments, _options(1, launch_cooperative_grid=True))


def barriers_launch(counter: Tensor, programs: int, turns: int) -> Launch:
    """Programs that all wait for each other; counter: int32 [COUNTER_STRIDE]."""
    arguments = {"counter_ptr": counter, "turns": turns, "poll_limit": POLL_LIMIT}
    return Launch(barriers, (programs,), arguments, _options(4, launch_cooperative_grid=True))


def gates_launch(p: Tensor, found: Tensor, steps: int, cell: str, sweep: str) -> Launch:
    """One warp that does nothing but a cell's gates; p: float32 [4, GATE_TILE]."""
    kernel = forward_gates if sweep == "forward" else backward_gates
    arguments = {"p_ptr": p, "found_ptr": found, "steps": steps, "CELL": cell, "TILE": GATE_TILE}
    return Launch(kernel, (1,), arguments, _options(1))


def _options(warps: int, **more: Any) -> dict[str, Any]:
    return {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": True} | more
