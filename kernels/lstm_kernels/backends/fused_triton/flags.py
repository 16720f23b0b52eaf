"""How programs on different SMs signal that a step is done: one counter for each batch tile.

A program adds one, with release, once its slice of a step is stored; a program that needs the whole
step polls with acquire loads until all have. Only thread 0 polls, and the poll is bounded: a
program that never arrives leads to a trap, which CUDA reports as a launch failure, and not to a
hang. The interpreter runs programs one after another and never waits.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl

# Counters are this many int32 apart: one on each cache line of 128 bytes.
COUNTER_STRIDE = tl.constexpr(32)

# Polls before a wait gives up. At 0.3 to 0.7 us a poll (an L2 round trip) some 5 to 12 seconds.
POLL_LIMIT = 1 << 24

# Thread 0 polls the counter $1 until it is at least $2, $3 times at most; $0 is 0. The others wait
# at the barrier that follows. A trap, and not an assertion: a call would cost every kernel the
# registers that calls reserve.
_POLL = tl.constexpr("""{
    .reg .pred done, stop;
    .reg .u32 thread, seen, left;
    mov.u32 $0, 0;
    mov.u32 thread, %tid.x;
    mov.u32 left, $3;
    setp.ne.u32 stop, thread, 0;
    @stop bra DONE;
POLL:
    ld.acquire.gpu.global.u32 seen, [$1];
    setp.ge.u32 done, seen, $2;
    @done bra DONE;
    sub.u32 left, left, 1;
    setp.ne.u32 stop, left, 0;
    @stop bra POLL;
    trap;
DONE:
}""")


@triton.jit
def wait(counter_ptr, target, poll_limit):
    """Return once `target` arrivals are counted, everything stored before them visible."""
    tl.inline_asm_elementwise(
        _POLL,
        "=r,l,r,r",
        [counter_ptr, target, poll_limit],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
    tl.debug_barrier()


@triton.jit
def arrive(counter_ptr):
    """Count this program, after every store of its threads."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")
