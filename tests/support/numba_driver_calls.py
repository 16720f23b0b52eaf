"""What launching a Numba CUDA kernel asks of the driver, as JSON: the driver itself is played.

Kernels are compiled for real. Run where NUMBA_ENABLE_CUDASIM is not set; needs no GPU.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from cuda.bindings import driver

from lstm_kernels import Problem
from lstm_kernels.backends.fused_numba_cuda import launches, parameters, sequence
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.stack import Weights

FACTS = SimpleNamespace(major=9, minor=0, shared_memory_per_block_optin=227 * 1024)
calls: list[tuple[str, Any]] = []


def played(name: str, *gives: Any) -> Any:
    """A driver call that notes its arguments and succeeds."""

    def call(*arguments: Any) -> tuple[Any, ...]:
        calls.append((name, arguments))
        return (driver.CUresult.CUDA_SUCCESS, *gives)

    return patch.object(driver, name, call)


def main() -> None:
    """Launch the same layer twice, then print what the driver was asked."""
    T, B, H = 3, 2, 1024
    problem = Problem("lstm", T, B, 5, H)
    w = Weights(torch.ones(4 * H, 5), torch.ones(4 * H, H), None, None)
    x, h0, c0 = torch.ones(T, B, 5), torch.ones(1, B, H), torch.ones(1, B, H)
    to = sequence.new_forward(problem, x, h0, c0, (w,), None, saves=False)
    on = ARCHITECTURES["sm_90"]
    chosen = parameters.choose(problem, "forward", on)
    stream = SimpleNamespace(cuda_stream=7)
    plays = [
        played("cuCtxGetCurrent", 0),
        played("cuDeviceGet", 11),
        played("cuDevicePrimaryCtxRetain", 12),
        played("cuCtxSetCurrent"),
        played("cuModuleLoadData", 13),
        played("cuModuleGetFunction", 14),
        played("cuFuncSetAttribute"),
        played("cuLaunchCooperativeKernel"),
        patch("torch.cuda.current_device", lambda: 0),
        patch("torch.cuda.current_stream", lambda _: stream),
        patch("torch.cuda.get_device_properties", lambda _: FACTS),
    ]
    for play in plays:
        play.start()
    for _ in range(2):
        for launch in launches.held_forward(problem, chosen, to, on, saves=False):
            launch.run()
    names = [name for name, _ in calls]
    _, (function, *shape, shared_bytes, stream_handle, given) = calls[-1]
    # The bindings' own packing takes these.
    driver._HelperKernelParams(given)
    driver._HelperInputVoidPtr(next(a for name, a in calls if name == "cuModuleLoadData")[0])
    values, kinds = given
    addresses = dict(zip(launch.arguments, values, strict=True))
    told = {
        "calls": names,
        "function": function,
        "shape": shape,
        "shared_bytes": shared_bytes,
        "stream": stream_handle,
        "kinds": sorted({kind.__name__ for kind in kinds}),
        "y is where the tensor is": addresses["y"] == to.y.data_ptr(),
        "grid": launch.grid,
        "threads": launch.threads,
        "entry": [bytes(a[1]).decode() for name, a in calls if name == "cuModuleGetFunction"],
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
