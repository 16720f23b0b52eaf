"""Threads: the OpenMP pool that torch itself uses, so that no core ever has two threads to run.

A kernel is a C function of one address. `run` has every thread of a team call it at once, through
the OpenMP runtime that torch is linked with: the threads are those of torch's own products, awake
from one to the next, and `torch.set_num_threads` governs both. Inside, threads divide the work by
their numbers and `meet`. Every Python thread that calls has a team of its own, as with
torch. A forked child has none of its parent's threads, and libgomp would wait for them for ever:
there one thread does the work.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import torch
from numba import types

from lstm_kernels.backends.numba_cpu.simd import (
    inlined,
    load_acquired,
    load_word,
    pause,
    routine,
    store_released,
)

LINE_BYTES = 64

# dlsym on this handle looks into the libraries that torch is linked with.
_TORCH = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
_parallel = _TORCH.GOMP_parallel
_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_parallel.restype = None
_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_forked = False

for _name in ("omp_get_thread_num", "omp_get_num_threads"):
    _address = ctypes.cast(getattr(_TORCH, _name), ctypes.c_void_p).value
    llvm.add_symbol(_name, _address)

thread_number: Any = types.ExternalFunction("omp_get_thread_num", types.int32())
team_size: Any = types.ExternalFunction("omp_get_num_threads", types.int32())
_give_way: Any = types.ExternalFunction("sched_yield", types.int32())

# Looks at another thread's flag before the core is offered to whoever else wants it: some 2 us,
# many times what a meeting takes when every thread has a core. Two threads on one core need it.
LOOKS = 100


def threads() -> int:
    """How many threads a kernel gets: torch's, but no more than there are cores for them."""
    if _forked:
        return 1
    count = torch.get_num_threads()
    return min(count, len(os.sched_getaffinity(0))) if sys.platform == "linux" else count


def run(kernel: int, arguments: int, count: int) -> None:
    """Have a team of so many threads call the function at one address with another.

    Returns when all have. The GIL is free meanwhile, and OpenMP may give fewer threads.
    """
    if count == 1:
        _FUNCTION(kernel)(arguments)
    else:
        _parallel(kernel, arguments, count, 0)


@inlined
def share(items: int, thread: int, team: int) -> tuple[int, int]:
    """The first and the end of what this thread does of so many items."""
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
                _give_way()


@inlined
def there_and_back(begin: int, end: int, i: int, turn: int) -> int:
    """The i-th item from the begin, or from the end, turn about.

    What a turn did last the next does first: of weights that outgrow a core's cache, what is still
    there is used before it goes.
    """
    return begin + i if turn % 2 == 0 else end - 1 - i


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
