"""Do a Triton kernel and a Numba kernel come to a right result here, each built from scratch?

    python3 tests/gpu/preflight.py [BACKEND]

The first thing to know of a machine that nobody has used: whether compiler, headers and driver fit
together. A tiny layer, forward and backward, with the fused kernels that hold their weights, on
each backend in a process of its own, both at once. Exits with 0 where both are right, else with 1.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests/support")]

# Fused backend to the dtype that it is tried in.
TRIED = {"triton": "float16", "numba_cuda": "float32"}
# Units: several programs, which have to hear of each other.
SIZE = 64


def main() -> int:
    """Try each in a process, or the one that is named in this."""
    if sys.argv[1:]:
        return _try(sys.argv[1])
    trials = [subprocess.Popen([sys.executable, __file__, backend]) for backend in TRIED]
    return max(trial.wait() != 0 for trial in trials)


def _try(backend: str) -> int:
    started = time.monotonic()
    try:
        _prove(backend)
    except Exception as failure:  # noqa: BLE001 - compilers and drivers raise what they like; it is told
        found = str(failure).strip().splitlines() or ["nothing said"]
        print(f"{backend}: FAILED, {type(failure).__name__}: {found[-1]}", flush=True)
        return 1
    print(f"{backend}: right, built and run in {time.monotonic() - started:.0f} s", flush=True)
    return 0


def _prove(backend: str) -> None:
    """A tiny layer's results and gradients are float64's within the bounds of every test."""
    import closeness
    import small_layers
    import torch

    import lstm_kernels as lk

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = lk.Problem("lstm", 3, 4, 16, SIZE, dtype=TRIED[backend])
    with small_layers.only(backend, "held"):
        found = small_layers.errors(lk.registry.load(backend), problem, device)
    closeness.assert_within(closeness.LAYER[TRIED[backend]], found, backend)


if __name__ == "__main__":
    sys.exit(main())
