"""One tiny layer, forward and backward, for compute-sanitizer to look into.

    PYTHONPATH=kernels:harness:tests/support python3 tests/gpu/small_driver.py NAME

NAME is a fused backend and a regime (triton-own, numba_cuda-held), pointwise, or a planted mistake
that a tool must find: planted-memory, planted-race.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests/support")]

import small_layers
import torch
import triton
import triton.language as tl

import lstm_kernels as lk
from lstm_kernels.backends.fused_triton import sequence

# Two directions, several programs and chunks, and batch tiles that are not full.
SIZES = {"seq_len": 4, "batch": 19, "input_size": 5, "bidirectional": True}
PROBLEMS = [
    lk.Problem("lstm", hidden_size=40, dtype="float16", lengths="uniform:0:4", **SIZES),
    lk.Problem("gru", hidden_size=30, dtype="float32", **SIZES),
    lk.Problem("rnn_tanh", hidden_size=30, dtype="float32", precision="tf32", **SIZES),
]
# A sanitized program is slower by orders of magnitude, and others wait for it.
POLLS = 1 << 30

# Every thread writes its own number to one word.
_RACE = tl.constexpr("""{
    .shared .align 4 .b32 word;
    .reg .u32 address;
    mov.u32 address, word;
    mov.u32 $0, %tid.x;
    st.shared.u32 [address], $0;
    ld.shared.u32 $0, [address];
}""")


@triton.jit
def planted_forward(numbers_ptr, N: tl.constexpr):
    """Races over a word of shared memory, and writes past `numbers` where that is short."""
    at = tl.arange(0, N)
    read = tl.inline_asm_elementwise(_RACE, "=r,r", [at], dtype=tl.int32, is_pure=False, pack=1)
    tl.store(numbers_ptr + at, read)


def main() -> None:
    """Run what is named, and fail where results are not finite."""
    name, device = sys.argv[1], torch.device("cuda")
    for backend in small_layers.REGIMES:
        small_layers.module_of(backend, "launches").POLL_LIMIT = POLLS
    # A sanitizer tells of kernels in a graph as of one thing.
    sequence.replay = launch_by_launch
    if name.startswith("planted"):
        size = 128 if name == "planted-race" else 64
        planted_forward[(1,)](torch.zeros(size, dtype=torch.int32, device=device), N=128)
    else:
        for problem in PROBLEMS:
            run(name, problem, device)
    torch.cuda.synchronize()
    print(f"{name}: done")


def run(name: str, problem: lk.Problem, device: torch.device) -> None:
    """A layer on that backend, in that regime; of a backend in what number format it has."""
    backend, _, regime = name.partition("-")
    if backend == "numba_cuda":
        problem = replace(problem, dtype="float32", precision="ieee")
    layer = small_layers.Layer.draw(problem, device, backend)
    if not regime:
        found = layer.run()
    else:
        with small_layers.only(backend, regime):
            regimes = small_layers.regimes_of(backend, problem, device)
            assert regimes == [regime] * 2, f"{problem.label()} runs {regimes}"
            found = layer.run()
    assert all(tensor.isfinite().all() for tensor in found.values()), problem.label()


def launch_by_launch(key: Any, made: Any, tensors: Any) -> None:
    """Run without a graph what would be replayed from one."""
    for launch in made(tensors):
        launch.run()


if __name__ == "__main__":
    main()
