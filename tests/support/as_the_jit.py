"""Whether `Launch.compile` makes what Triton's JIT makes of the same call, as JSON.

The JIT runs as on a GPU, but for a driver that says "sm_90" and a launch that is left out.
"""

import json
import sys

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from lstm_kernels.gpu.launching import Launch


@triton.jit
def plain(x, y, n, scale, N: tl.constexpr, NAME: tl.constexpr):
    k = tl.arange(0, N)
    value = tl.load(x + k * n, mask=k < n, other=0).to(tl.float32) * scale
    if y is not None:
        value += tl.load(y + k)
    if NAME == "twice":
        value *= 2
    tl.store(x + k, value.to(x.dtype.element_ty), mask=k < n)


@triton.jit(do_not_specialize=["n"], do_not_specialize_on_alignment=["x"])
def unspecialised(x, n, m: tl.int64, flag: tl.int1, N: tl.constexpr = 64):
    k = tl.arange(0, N)
    value = tl.load(x + k * n + m, mask=k < n, other=0)
    if flag:
        value += 1
    tl.store(x + k, value, mask=k < n)


class Driver:
    """A CUDA driver with an H100 that can do nothing."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def numbers(dtype, device):
    return torch.empty(1024, dtype=getattr(torch, dtype), device=device)


def plain_call(device, dtype="float16", y=True, n=64, scale=1.5, name="once", **options):
    other = numbers("float32", device) if y else None
    arguments = {"x": numbers(dtype, device), "y": other, "n": n, "scale": scale}
    return Launch(plain, (1,), arguments | {"N": 64, "NAME": name}, options)


def unspecialised_call(device, n=16, m=16, flag=True, **more):
    arguments = {"x": numbers("int32", device), "n": n, "m": m, "flag": flag}
    return Launch(unspecialised, (1,), arguments | more, {"num_warps": 2})


CALLS = {
    "float16": lambda device: plain_call(device),
    "bfloat16": lambda device: plain_call(device, "bfloat16"),
    "float32": lambda device: plain_call(device, "float32"),
    "int64": lambda device: plain_call(device, "int64"),
    "no tensor": lambda device: plain_call(device, y=False),
    "one": lambda device: plain_call(device, n=1),
    "odd": lambda device: plain_call(device, n=17),
    "more than 32 bits": lambda device: plain_call(device, n=2**40),
    "whole scale": lambda device: plain_call(device, scale=3),
    "text": lambda device: plain_call(device, name="twice"),
    "options": lambda device: plain_call(device, num_warps=8, num_stages=2, maxnreg=64),
    "debug": lambda device: plain_call(device, debug=True),
    "cooperative": lambda device: plain_call(device, launch_cooperative_grid=True),
    "unspecialised": lambda device: unspecialised_call(device),
    "unspecialised one": lambda device: unspecialised_call(device, n=1, m=1, flag=False),
    "default overridden": lambda device: unspecialised_call(device, N=32),
}

if __name__ == "__main__":
    driver.set_active(Driver())
    answers = {}
    for name, call in CALLS.items():
        real, planned = call("cpu"), call("meta")
        compiled = real.kernel.run(grid=real.grid, warmup=True, **real.arguments, **real.options)
        image = planned.compile("sm_90")
        answers[name] = {
            "cached": image.cached,
            "same": image.cubin == compiled.asm["cubin"],
            "key": planned.key("sm_90"),
        }
    json.dump(answers, sys.stdout)
