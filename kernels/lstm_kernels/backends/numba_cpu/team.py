"""Threads: the OpenMP pool that torch itself uses, so that no core ever has two threads to run.

A kernel is a C function of one address. `run` makes every thread of a team call it, through
the OpenMP runtime that torch is linked with: the threads are those of torch's own products, awake
from one to the next, and `torch.set_num_threads` governs both. What they do there is in `meeting`.
Every Python thread that calls has a team of its own, as with torch. A forked child has none of its
parent's threads, and libgomp would wait for them forever: there one thread does the work.
"""

import ctypes
import os
import sys
from pathlib import Path

import torch

LINE_BYTES = 64

# dlsym on this handle looks into the libraries that torch is linked with.
_TORCH = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
_parallel = _TORCH.GOMP_parallel
_parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_parallel.restype = None
_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_forked = False

# Functions that kernels call, by name, and where they are.
TOLD_BY_OPENMP: dict[str, int] = {
    name: ctypes.cast(getattr(_TORCH, name), ctypes.c_void_p).value or 0
    for name in ("omp_get_thread_num", "omp_get_num_threads", "omp_get_wtime")
}


def threads() -> int:
    """How many threads a kernel gets: torch's, but no more than there are cores for them."""
    if _forked:
        return 1
    count = torch.get_num_threads()
    return min(count, len(os.sched_getaffinity(0))) if sys.platform == "linux" else count


def run(kernel: int, arguments: int, count: int) -> None:
    """Make a team of this many threads call the function at one address with another address.

    Returns when all have. The GIL is free meanwhile, and OpenMP may give fewer threads.
    """
    if count == 1:
        _FUNCTION(kernel)(arguments)
    else:
        _parallel(kernel, arguments, count, 0)


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
