"""One side of modules_in_turn.py: times `lk.LSTM` of the kernels that are on its import path.

It imports nothing of the harness, whose kernels may be others.
"""

import json
import sys
from collections.abc import Callable
from time import perf_counter_ns

import torch

import lstm_kernels as lk

TURN_S, UNCOUNTED, FEWEST = 0.15, 1, 3


def serve(backend: str, threads: int) -> int:
    """Answer each case on stdin with the median of a turn."""
    if threads:
        torch.set_num_threads(threads)
    ready: dict[str, Callable[[], int]] = {}
    for line in sys.stdin:
        if line not in ready:
            ready = {line: sampler(backend, **json.loads(line))}
        print(turn(ready[line]), flush=True)
    return 0


def sampler(backend: str, **case) -> Callable[[], int]:
    """A function that executes a case once and returns its time in ns."""
    torch.manual_seed(0)
    hidden, pass_name = case["H"], case["pass"]
    layer = lk.LSTM(hidden, hidden, backend=backend)
    learns = pass_name != "inference"
    x = torch.randn(case["T"], case["B"], hidden, requires_grad=learns)
    gradient = torch.randn(case["T"], case["B"], hidden)

    def once() -> int:
        layer.zero_grad()
        x.grad = None
        with torch.set_grad_enabled(learns):
            before = perf_counter_ns()
            y, _ = layer(x)
            if pass_name == "backward":
                before = perf_counter_ns()
                y.backward(gradient)
            return perf_counter_ns() - before

    return once


def turn(once: Callable[[], int]) -> float:
    """The median of samples of some time, the first ones left out."""
    times, end = [], perf_counter_ns() + 1e9 * TURN_S
    while len(times) < UNCOUNTED + FEWEST or perf_counter_ns() < end:
        times.append(once())
    counted = sorted(times[UNCOUNTED:])
    return counted[len(counted) // 2]


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], int(sys.argv[2])))
