"""Small Triton kernels whose machine code is known in kind, as launches and as a plugin.

Run as a script it prints what their machine code tells, as JSON: by name, then by architecture.
"""

import json
import sys

import torch
import triton
import triton.language as tl

from lstm_kernels import Backend
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import facts
from lstm_kernels.stack import Unsupported

BACKENDS = [Backend("small", __name__, "kernels for tests", ("cuda",), ("triton",))]


@triton.jit
def load_inputs(x, offsets):
    return tl.load(x + offsets)


@triton.jit  # right below, for Triton 3.9 takes a load's last line of assembly to stand lower down
def load_weights(w, H: tl.constexpr):
    k = tl.arange(0, H)
    return tl.load(w + k[:, None] * H + k[None, :])


@triton.jit
def read(pointers):
    return tl.load(pointers)


@triton.jit
def load_weights_by_another(w, H: tl.constexpr):
    k = tl.arange(0, H)
    return read(w + k[:, None] * H + k[None, :])


@triton.jit
def recurrent(
    x,
    w,
    y,
    T,
    B: tl.constexpr,
    H: tl.constexpr,
    STREAMED: tl.constexpr,
    BY_ANOTHER: tl.constexpr,
    PRECISION: tl.constexpr,
):
    b = tl.arange(0, B)
    k = tl.arange(0, H)
    offsets = b[:, None] * H + k[None, :]
    h = load_inputs(x, offsets)
    if not STREAMED:
        held = load_weights_by_another(w, H) if BY_ANOTHER else load_weights(w, H)
    for t in range(T):
        if STREAMED:
            held = load_weights_by_another(w, H) if BY_ANOTHER else load_weights(w, H)
        product = tl.dot(h, held, input_precision=PRECISION)
        h = (product + load_inputs(x, t * B * H + offsets)).to(h.dtype)
        tl.store(y + t * B * H + offsets, h)


@triton.jit
def spilling(x, y, N: tl.constexpr):
    rows = tl.arange(0, N)
    offsets = rows[:, None] * N + rows[None, :]
    total = tl.load(x + offsets)
    other = tl.load(x + N * N + offsets)
    for _ in range(3):
        total = total * other + tl.trans(total)
        other = other * total + tl.trans(other)
    tl.store(y + offsets, total + other)


@triton.jit
def printing(x):
    tl.device_print("x", tl.load(x + tl.arange(0, 32)))


def meta(*shape, dtype=torch.float16):
    return torch.empty(shape, dtype=dtype, device="meta")


def recurrent_launch(dtype="float16", B=64, H=64, T=9, **constants):
    numbers = getattr(torch, dtype)
    constants = {
        "STREAMED": False,
        "BY_ANOTHER": False,
        "PRECISION": "ieee" if dtype == "float32" else None,
    } | constants
    arguments = {
        "x": meta(T, B, H, dtype=numbers),
        "w": meta(H, H, dtype=numbers),
        "y": meta(T, B, H, dtype=numbers),
        **{"T": T, "B": B, "H": H},
        **constants,
    }
    options = {"num_warps": 4, "enable_fp_fusion": True}
    regime = "streamed" if constants["STREAMED"] else "resident"
    return Launch(recurrent, (1,), arguments, options, regime, {"B": B})


def spilling_launch():
    numbers = meta(2, 64, 64, dtype=torch.float32)
    return Launch(spilling, (1,), {"x": numbers, "y": numbers, "N": 64}, {"num_warps": 1})


LAUNCHES = {
    "resident": recurrent_launch(),
    "streamed": recurrent_launch(STREAMED=True),
    "resident by another": recurrent_launch(BY_ANOTHER=True),
    "streamed by another": recurrent_launch(STREAMED=True, BY_ANOTHER=True),
    "bfloat16": recurrent_launch("bfloat16"),
    "float32": recurrent_launch("float32", B=16, H=16),
    "spilling": spilling_launch(),
    "printing": Launch(printing, (1,), {"x": meta(32, dtype=torch.float32)}, {"num_warps": 1}),
}


def launches_for(problem, arch):
    """The hook that `lstm-bench inspect` calls."""
    if problem.cell != "lstm":
        raise ValueError("a mistake in the hook\nof two lines")
    H = problem.hidden_size
    if H > 64:
        raise Unsupported(f"H={H} is above 64")
    resident, streamed = (
        recurrent_launch(problem.dtype, H=H, T=problem.seq_len, STREAMED=flag)
        for flag in (False, True)
    )
    return [resident, streamed, resident]


# The rest is compiled for one architecture, which is enough and quicker.
EVERYWHERE = ("resident", "streamed")

if __name__ == "__main__":
    kernels = {}
    for name, launch in LAUNCHES.items():
        archs = ("sm_80", "sm_90", "sm_100") if name in EVERYWHERE else ("sm_80",)
        images = {arch: launch.compile(arch) for arch in archs}
        kernels[name] = {arch: facts(image) | {"ptx": image.ptx} for arch, image in images.items()}
    json.dump(kernels, sys.stdout)
