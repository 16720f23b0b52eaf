"""Does a wait for what never comes end in a CUDA error, and not in a hang? A process of its own.

    PYTHONPATH=kernels:harness:tests/support python3 tests/gpu/broken_flag.py BACKEND [POLL_LIMIT]

BACKEND is triton or numba_cuda. A trap ends every kernel of the process's context, so no test could
go on in it. The first program of every batch tile never arrives, or the first block never tells
what it has, and the others wait in vain. Exits with 0 where that ended in an error within a minute,
with 1 where it did not.
"""

import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests/support")]

import small_layers
import torch

import lstm_kernels as lk

SECONDS = 60.0
# What CUDA calls it; which of the two depends on the driver.
OF_A_TRAP = ("unspecified launch failure", "illegal instruction")
SIZES = {"seq_len": 8, "batch": 16, "input_size": 16, "hidden_size": 300, "bidirectional": True}


def broken_triton() -> tuple[str, Any]:
    """The Triton backend's `flags.arrive`, broken."""
    import triton
    import triton.language as tl

    @triton.jit
    def arrive_but_the_first(counter_ptr):
        tl.debug_barrier()
        if tl.program_id(0) > 0:
            tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")

    return "arrive", arrive_but_the_first


def broken_numba_cuda() -> tuple[str, Any]:
    """The Numba CUDA backend's `exchange.tell`, broken."""
    from numba import cuda

    from lstm_kernels.backends.fused_numba_cuda.memory import store_relaxed

    @cuda.jit(device=True)
    def tell_but_the_first(array, at, value):
        if cuda.blockIdx.x > 0:
            store_relaxed(array, at, value)

    return "tell", tell_but_the_first


BROKEN = {"triton": ("float16", broken_triton), "numba_cuda": ("float32", broken_numba_cuda)}


def main() -> int:
    """Run a layer that waits in vain and return the exit code."""
    backend, *limit = sys.argv[1:]
    dtype, broken = BROKEN[backend]
    if limit:
        small_layers.module_of(backend, "launches").POLL_LIMIT = int(limit[0])
    # Before the first kernel is compiled, which reads it from here.
    setattr(small_layers.module_of(backend, "device_code"), *broken())
    problem = lk.Problem("lstm", dtype=dtype, **SIZES)
    with small_layers.only(backend, "held"), torch.no_grad():
        layer = small_layers.Layer.draw(problem, torch.device("cuda"), backend)
        torch.cuda.synchronize()
        started = time.monotonic()
        try:
            lk.registry.load(backend).layer(**layer.arguments, problem=problem)
            torch.cuda.synchronize()
        except RuntimeError as error:
            seconds = time.monotonic() - started
            print(f"ended in an error after {seconds:.1f} s, compiling included: {error}")
            trapped = any(text in str(error) for text in OF_A_TRAP)
            return 0 if trapped and seconds < SECONDS else 1
    print("ended well, though programs waited for one that never arrived")
    return 1


if __name__ == "__main__":
    sys.exit(main())
