"""Where the time of `numba_cpu` goes, told apart from outside: by what a pass does without a part.

    python tests/perf/numba_cpu_phases.py [THREADS]

Prints milliseconds of a layer's phases, T=128 and I=H, float32: the best of many runs, since what
others do on the machine only adds. `steps` is the slope over T where I is one vector, so that x
W_ih^T costs next to nothing; `fixed` is what is left at T=0: the call, the weights' packing, the
threads' start. Of the backward, dx and dW are what asking for them adds. Last, what each part costs
a step at B=1, H=256.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from lstm_kernels import Problem
from lstm_kernels.backends.numba_cpu.sequence import run_backward, run_forward
from lstm_kernels.stack import Weights

T = 128
NARROW = 16
SECONDS = 1.0
SIZES = ((1, 128), (1, 256), (16, 128), (64, 128), (16, 256), (16, 512))


def main() -> None:
    """Print a line a size."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    torch.manual_seed(0)
    print(f"threads {torch.get_num_threads()}, T={T}, ms; GFLOP of one product of all steps beside")
    print("  B    H | fwd: fixed  x W_ih^T   steps    sum |  bwd: steps      dx      dW | GFLOP")
    for B, H in SIZES:
        half, narrow = forward_ms(T // 2, B, NARROW, H), forward_ms(T, B, NARROW, H)
        whole = forward_ms(T, B, H, H)
        steps = 2 * (narrow - half)
        fixed = narrow - steps
        plain, with_dx, with_all = (backward_ms(B, H, dx, dw) for dx, dw in ASKED)
        figures = (fixed, whole - narrow, steps, whole, plain, with_dx - plain, with_all - with_dx)
        shown = "  ".join(f"{figure:7.3f}" for figure in figures)
        print(f"{B:3} {H:4} | {shown} | {8e-9 * T * B * H * H:.3f}", flush=True)
    B, H = 1, 256
    call = forward_ms(1, 1, NARROW, NARROW)
    print(f"B={B}, H={H}, us a step of {T}: whole {1e3 * forward_ms(T, B, H, H) / T:.2f}, of which")
    print(f"the call {1e3 * call / T:.2f} (T=1, H=I={NARROW})")


ASKED = ((False, False), (True, False), (True, True))


def forward_ms(T: int, B: int, inputs: int, H: int) -> float:
    """The time of an inference."""
    problem, tensors = setting(T, B, inputs, H)
    return best_ms(partial(run_forward, problem, *tensors, None, saves=False))


def backward_ms(B: int, H: int, dx: bool, dw: bool) -> float:
    """The time of a backward that is asked for dx, and for the weights' gradients."""
    problem, (x, h0, c0, weights) = setting(T, B, H, H)
    y, h_n, _, saved = run_forward(problem, x, h0, c0, weights, None, saves=True)
    needed = (dx, False, False, dw, dw, dw, dw, False)
    d_y, d_h_n = torch.randn_like(y), torch.randn_like(h_n)
    given = (problem, d_y, d_h_n, torch.randn_like(h_n), x, h0, c0, y, saved, weights, None, needed)
    return best_ms(partial(run_backward, *given))


def setting(T: int, B: int, inputs: int, H: int) -> tuple[Problem, tuple[Any, ...]]:
    """A problem and its x, h0, c0 and weights."""
    problem = Problem("lstm", seq_len=T, batch=B, input_size=inputs, hidden_size=H)
    shapes = ((4 * H, inputs), (4 * H, H), (4 * H,), (4 * H,))
    weights = Weights(*(torch.randn(shape) / H**0.5 for shape in shapes), None)
    state = torch.randn(1, B, H)
    return problem, (torch.randn(T, B, inputs), state, state.clone(), (weights,))


def best_ms(run: Callable[[], object]) -> float:
    """The least time of a call, in SECONDS of calls."""
    run()  # compiles, or reads from the disk
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter_ns()
        run()
        best = min(best, time.perf_counter_ns() - started)
    return best / 1e6


if __name__ == "__main__":
    main()
