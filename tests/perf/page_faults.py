"""Page faults and time of a call, of `numba_cpu` and `aten`: large layers in float32.

    python tests/perf/page_faults.py [THREADS]

Prints, for an inference and for a train step (forward and backward), the median of the calls' times
in ms and the mean of their page faults; the two backends in turn, five turns.
"""

import sys
from collections.abc import Callable
from functools import partial
from resource import RUSAGE_SELF, getrusage
from statistics import mean, median
from time import perf_counter

import torch

import lstm_kernels as lk

# H, T, B
CASES = (
    (128, 128, 64),
    (256, 128, 64),
    (512, 32, 1),
    (512, 128, 16),
    (1024, 32, 1),
    (1024, 32, 8),
    (1024, 128, 1),
    (1024, 128, 16),
    (2048, 32, 1),
)
BACKENDS = ("numba_cpu", "aten")
TURNS, TURN_S, FEWEST = 5, 0.4, 3


def main() -> None:
    """Print a line a case and pass."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    for H, T, B in CASES:
        layers = {name: lk.LSTM(H, H, backend=name) for name in BACKENDS}
        x = torch.randn(T, B, H)
        for what, call in (("inference", infer), ("train", train)):
            times: dict[str, list[float]] = {name: [] for name in BACKENDS}
            faults: dict[str, list[float]] = {name: [] for name in BACKENDS}
            for _ in range(TURNS):
                for name, layer in layers.items():
                    taken, faulted = turn(partial(call, layer, x))
                    times[name] += taken
                    faults[name].append(faulted)
            told = "   ".join(
                f"{name} {median(times[name]):8.2f} ms {mean(faults[name]):7.0f} faults"
                for name in BACKENDS
            )
            print(f"H{H} T{T} B{B} {what:9}  {told}", flush=True)


def turn(call: Callable[[], float]) -> tuple[list[float], float]:
    """Times in ms of some calls after two that do not count, and the faults of one."""
    call(), call()
    before, end, taken = getrusage(RUSAGE_SELF).ru_minflt, perf_counter() + TURN_S, []
    while len(taken) < FEWEST or perf_counter() < end:
        taken.append(1e3 * call())
    return taken, (getrusage(RUSAGE_SELF).ru_minflt - before) / len(taken)


@torch.no_grad()
def infer(layer: torch.nn.Module, x: torch.Tensor) -> float:
    """The time of an inference in s."""
    started = perf_counter()
    layer(x)
    return perf_counter() - started


def train(layer: torch.nn.Module, x: torch.Tensor) -> float:
    """The time of a forward and a backward in s; all gradients are fresh."""
    layer.zero_grad()
    given = x.clone().requires_grad_()
    started = perf_counter()
    layer(given)[0].backward(x)
    return perf_counter() - started


if __name__ == "__main__":
    main()
