"""The kernels that measure a device, compiled for two architectures or interpreted, as JSON."""

import json
import sys

import torch
from torch import Tensor

from lstm_harness.worker.probes import kernels
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import facts
from lstm_kernels.registry import TORCH_CELLS

EVERYWHERE = ("read L2", "ping-pong", "barriers", "lstm forward")
SWEEPS = ("forward", "backward")


def launches() -> dict[str, Launch]:
    """Every launch that a device's probes make, about, with meta tensors."""

    def words(count: int) -> Tensor:
        return torch.empty(count, dtype=torch.int32, device="meta")

    p, last = (torch.empty(4, kernels.GATE_TILE, device="meta") for _ in range(2))
    flags = words(2 * kernels.FLAG_WORDS.value)
    wide, tall = kernels.block_words(8), kernels.block_words(32)
    made = {
        "read memory": kernels.read_launch(words(1 << 28), words(1056 * wide), 1056, 1, 8),
        "read L2": kernels.read_launch(words(3 << 20), words(1056 * wide), 1056, 256, 8),
        "read by one": kernels.read_launch(words(1 << 18), words(tall), 1, 256, 32),
        "ping-pong": kernels.ping_pong_launch(flags, 2000),
        "barriers": kernels.barriers_launch(flags, 132, 2000),
    }
    for cell in TORCH_CELLS:
        for sweep in SWEEPS:
            made[f"{cell} {sweep}"] = kernels.gates_launch(p, last[0], 10_000, cell, sweep)
    return made


def compiled() -> dict[str, dict[str, dict[str, object]]]:
    """What each is made of, by architecture; for one of them the most telling alone."""
    told: dict[str, dict[str, dict[str, object]]] = {}
    for name, launch in launches().items():
        for arch in ("sm_80", "sm_90") if name in EVERYWHERE else ("sm_90",):
            image = launch.compile(arch)
            told.setdefault(name, {})[arch] = facts(image) | {"ptx": image.ptx}
    return told


def interpreted() -> dict[str, float]:
    """How far each is from what it should compute; those that wait cannot be interpreted.

    Of reading, how many words are wrong; of gates, the largest error as a share of the largest
    value, against float64.
    """
    torch.manual_seed(0)
    blocks, programs, block = 5, 3, kernels.block_words(1)
    x = torch.randint(1 << 30, (blocks * block,), dtype=torch.int32)
    told = {}
    for rounds in (1, 2, 3):
        mixed = torch.zeros(programs * block, dtype=torch.int32)
        kernels.read_launch(x, mixed, programs, rounds, 1).run()
        # Each round reads every block once, so that an even number of rounds leaves nothing.
        whole = _exclusive_or(x.view(blocks, block)) * (rounds % 2)
        parts = _exclusive_or(mixed.view(programs, block))
        told[f"read {rounds}"] = float((parts != whole).sum())
    p = torch.randn(4, kernels.GATE_TILE)
    for cell in TORCH_CELLS:
        for sweep in SWEEPS:
            last = torch.zeros(kernels.GATE_TILE)
            kernels.gates_launch(p, last, 3, cell, sweep).run()
            follow = _forward if sweep == "forward" else _backward
            expected = follow(p.double(), cell)
            told[f"{cell} {sweep}"] = float((last - expected).abs().max() / expected.abs().max())
    return told


def _exclusive_or(rows: Tensor) -> Tensor:
    result = torch.zeros_like(rows[0])
    for row in rows:
        result ^= row
    return result


def _forward(p: Tensor, cell: str) -> Tensor:
    """Three steps whose pre-activations are p plus the state."""
    h = torch.zeros_like(p[0])
    c = torch.zeros_like(h)
    for _ in range(3):
        q = p + h
        if cell == "lstm":
            i, f, g, o = q[0].sigmoid(), q[1].sigmoid(), q[2].tanh(), q[3].sigmoid()
            c = f * c + i * g
            h = o * c.tanh()
        elif cell == "gru":
            r, z = q[0].sigmoid(), q[1].sigmoid()
            n = (q[2] + r * q[3]).tanh()
            h = (1 - z) * n + z * h
        else:
            h = q[0].tanh() if cell == "rnn_tanh" else q[0].relu()
    return h


def _backward(s: Tensor, cell: str) -> Tensor:
    """Three steps whose product is a sum; the saved values are s, and stay."""
    dh, dc = s[0], torch.zeros_like(s[0])
    for _ in range(3):
        if cell == "lstm":
            t = s[2].tanh()
            dc = dc + dh * s[3] * (1 - t * t)
            parts = [
                dc * s[2] * s[0] * (1 - s[0]),
                dc * s[1] * s[1] * (1 - s[1]),
                dc * s[0] * (1 - s[2] * s[2]),
                dh * t * s[3] * (1 - s[3]),
            ]
            dc = dc * s[1]
        elif cell == "gru":
            # Saved are r, z, the part of n from h, and n.
            n = dh * (1 - s[1]) * (1 - s[3] * s[3])
            z = dh * (s[1] - s[3]) * s[1] * (1 - s[1])
            parts = [n * s[2] * s[0] * (1 - s[0]), z, n, n * s[0], dh * s[1]]
        else:
            parts = [dh * (1 - s[2] * s[2]) if cell == "rnn_tanh" else dh * (s[2] > 0)]
        dh = sum(parts, torch.zeros_like(dh))
    return dh


if __name__ == "__main__":
    json.dump(interpreted() if sys.argv[1:] == ["interpreted"] else compiled(), sys.stdout)
