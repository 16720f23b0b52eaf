"""Threads inside a kernel: they divide the work by their numbers, and wait for each other.

`team` starts them, as those of torch's own OpenMP pool.
"""

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import types

from lstm_kernels.backends.numba_cpu.simd import (
    inlined,
    load_acquired,
    load_word,
    pause,
    routine,
    store_released,
)
from lstm_kernels.backends.numba_cpu.team import LINE_BYTES, TOLD_BY_OPENMP

for _name, _address in TOLD_BY_OPENMP.items():
    llvm.add_symbol(_name, _address)

thread_number: Any = types.ExternalFunction("omp_get_thread_num", types.int32())
team_size: Any = types.ExternalFunction("omp_get_num_threads", types.int32())
_sleep_us: Any = types.ExternalFunction("usleep", types.int32(types.uint32))

# Looks at another thread's flag before a thread sleeps: some 50 ms. One that sleeps or yields gives
# its core to any other program for a whole turn, a few ms, even to one of the lowest priority:
# then a step of a microsecond takes as long (docs/numba-cpu-tried.md, While other jobs run).
LOOKS = 2_500_000


@inlined
def share(items: int, thread: int, team: int) -> tuple[int, int]:
    """The first and the end of this thread's part of this many items."""
    if team == 1:
        return 0, items
    return items * thread // team, items * (thread + 1) // team


@routine
def meet(flags: int, thread: int, team: int) -> None:
    """Wait until every thread has come here; then each sees what any had written before.

    Each thread counts its meetings in a cache line of its own at `flags`, zero at first. OpenMP's
    own barrier takes several times as long, and milliseconds when a thread has lost its core.
    """
    count = load_word(flags + LINE_BYTES * thread) + 1
    store_released(flags + LINE_BYTES * thread, count)
    for other in range(team):
        looks = 0
        while load_acquired(flags + LINE_BYTES * other) < count:
            looks += 1
            if looks < LOOKS:
                pause()
            else:
                _sleep_us(np.uint32(1))


@inlined
def there_and_back(begin: int, end: int, i: int, turn: int) -> int:
    """The i-th item from the begin, or from the end, turn about.

    What a turn did last the next does first: if weights exceed a core's cache, the part that is
    still there is used before it is evicted.
    """
    return begin + i if turn % 2 == 0 else end - 1 - i
