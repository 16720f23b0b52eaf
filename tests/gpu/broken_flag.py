"""Does a flag that is never raised end in a CUDA error, and not in a hang? A process of its own.

    PYTHONPATH=kernels:harness:tests/support python3 tests/gpu/broken_flag.py [POLL_LIMIT]

A trap ends every kernel of the process's context, so no test could go on in it. The first program
of every batch tile never arrives, and the others wait in vain. Exits with 0 where that ended in an
error within a minute, with 1 where it did not.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests/support")]

import small_layers
import torch
import triton
import triton.language as tl

import lstm_kernels as lk
from lstm_kernels.backends import fused_triton
from lstm_kernels.backends.fused_triton import device_code, launches

SECONDS = 60.0
# What CUDA calls it; which of the two depends on the driver.
OF_A_TRAP = ("unspecified launch failure", "illegal instruction")
PROBLEM = lk.Problem("lstm", 8, 16, 16, 300, dtype="float16", bidirectional=True)


@triton.jit
def arrive_but_the_first(counter_ptr):
    """`flags.arrive`, broken."""
    tl.debug_barrier()
    if tl.program_id(0) > 0:
        tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")


def main() -> int:
    """Run a layer whose flag is broken and return the exit code."""
    if len(sys.argv) > 1:
        launches.POLL_LIMIT = int(sys.argv[1])
    # Before the first kernel is compiled, which reads it from here.
    device_code.arrive = arrive_but_the_first
    with small_layers.only("held"), torch.no_grad():
        layer = small_layers.Layer.draw(PROBLEM, torch.device("cuda"))
        torch.cuda.synchronize()
        started = time.monotonic()
        try:
            fused_triton.layer(**layer.arguments, problem=PROBLEM)
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
