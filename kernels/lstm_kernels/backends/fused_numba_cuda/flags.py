"""How blocks on different SMs tell each other that a step is done: one counter a batch tile.

A block adds one, with release, once its slice of a step is stored; whoever needs the whole step
polls with acquire loads until all have. Only thread 0 polls, and the poll is bounded: a block that
never arrives ends in a trap, which CUDA reports as a launch failure, and not in a hang. The
simulator runs blocks one after another and never waits.

What order is relied upon (PTX memory model, "causality order"): a thread's stores come before its
block's barrier; the barrier before thread 0's `red.release.gpu`, which is cumulative: what thread
0 has seen, its block's stores among it, comes before the count; the count before the
`ld.acquire.gpu` that reads it; that before the reading block's barrier, and the barrier before
every load of the block's threads. No address is stored twice in a launch, so nothing that is
still read is overwritten. The loads of what others stored pass L1 by (`ld.global.cg`) besides.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from numba import cuda

from lstm_kernels.backends.fused_numba_cuda.memory import add_release, load_acquire, trap

# Counters stand this many int32 apart: one a cache line of 128 bytes.
COUNTER_STRIDE = 32

# Polls before a wait gives up. At 0.3 to 0.7 us a poll (an L2 round trip) some 5 to 12 seconds.
POLL_LIMIT = 1 << 24


@cuda.jit(device=True)
def wait(counters, at, target, poll_limit):
    """Return once `target` arrivals are counted, everything stored before them visible."""
    if cuda.threadIdx.x == 0:
        left = poll_limit
        while load_acquire(counters, at) < target:
            left -= 1
            if left == 0:
                trap()
    cuda.syncthreads()


@cuda.jit(device=True)
def arrive(counters, at):
    """Count this block, after every store of its threads."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        add_release(counters, at)
