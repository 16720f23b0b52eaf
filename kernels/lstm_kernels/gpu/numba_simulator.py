"""Numba's CUDA simulator, its blocks' barriers made by `threading`: to check kernels on a CPU.

The simulator runs a block as one Python thread for each of its own, and its main thread asks them
all in turn whether they reached the barrier, which took four fifths of the time of the small blocks
here. A thread that waits longer than BARRIER_S for another is stuck, and that is an error. Shared
memory starts as NaN, as a GPU's may.
"""

import threading
from typing import Any
from unittest.mock import patch

import numpy as np
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
from torch import Tensor

BARRIER_S = 60.0


def simulate(
    kernel: Any,
    grid: tuple[int, int, int],
    threads: int,
    shared_bytes: int,
    arguments: list[Tensor | int],
) -> None:
    """Run a kernel that `cuda.jit` made, over the tensors' own memory."""
    given = [_view(each) if isinstance(each, Tensor) else each for each in arguments]
    with (
        patch.object(simulator, "BlockManager", _Block),
        patch.object(simulator, "FakeCUDAModule", _Module),
    ):
        kernel[grid, threads, 0, shared_bytes](*given)


def _view(tensor: Tensor) -> FakeCUDAArray:
    """The same memory as the simulator's own array, which it does not copy to and fro."""
    assert tensor.is_contiguous()
    return FakeCUDAArray(tensor.detach().view(-1).numpy())


class _Module(simulator.FakeCUDAModule):  # type: ignore[misc] # Numba ships no types
    """What `cuda` is within a kernel."""

    def __init__(self, *configuration: Any) -> None:
        super().__init__(*configuration)
        # Four bytes of it are a NaN, and eight too.
        self.shared._dynshared.fill(-1)


class _Block(simulator.BlockManager):  # type: ignore[misc] # Numba ships no types
    """One block, run to its end."""

    def run(self, grid_point: tuple[int, ...], *arguments: Any) -> None:
        """Run every thread; the first error ends them all and is raised."""
        self.barrier = threading.Barrier(int(np.prod(self._block_dim)), timeout=BARRIER_S)

        def target() -> None:
            try:
                self._f(*arguments)
            except BaseException:
                self.barrier.abort()
                raise

        block = [
            _Thread(target, self, grid_point, point, self._debug)
            for point in np.ndindex(*self._block_dim)
        ]
        for thread in block:
            thread.start()
        for thread in block:
            thread.join()
        errors = [thread.exception for thread in block if thread.exception]
        # Not counting the one that ended the others at the barrier.
        errors.sort(key=lambda error: isinstance(error[0], threading.BrokenBarrierError))
        for error, trace in errors:
            raise error.with_traceback(trace)


class _Thread(simulator.BlockThread):  # type: ignore[misc] # Numba ships no types
    def syncthreads(self) -> None:
        self._manager.barrier.wait()
