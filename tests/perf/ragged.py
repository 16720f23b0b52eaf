"""What a PackedSequence costs: a ragged batch, packed, against the same steps padded and sorted.

    python tests/perf/ragged.py [--rounds 12]

A batch of 32 sequences of 1 to 1000 steps, I = H = 128, float32, forward and backward. `numba_cpu`
in a module takes the packed batch; the same kernel takes what that packing holds, padded and sorted
by length, as `lstm_kernels.stack.run` has it. torch.nn.LSTM takes the batch packed, and padded to
the longest. All in turn, there and back, each once uncounted before it counts, for another ran
before; prints medians, and ratios with their 95% intervals over the rounds.
"""

import argparse
import sys
import time
from collections.abc import Callable
from math import exp, log
from statistics import median

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import lstm_kernels as lk
from lstm_harness.analysis.statistics import mean_interval
from lstm_kernels import registry
from lstm_kernels.problem import Problem
from lstm_kernels.stack import run

LONGEST, BATCH, SIZE = 1000, 32, 128
AT_MOST = 1.15


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args()
    ways = ways_to_run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds):
        for name in ways if number % 2 == 0 else reversed(ways):
            ways[name]()
            started = time.perf_counter()
            ways[name]()
            times[name].append(time.perf_counter() - started)
    for name, taken in times.items():
        print(f"{name:38} {median(taken) * 1e3:8.1f} ms")
    ratio = over(times, "numba_cpu, packed", "numba_cpu, padded and sorted")
    over(times, "torch.nn, packed", "torch.nn, padded to the longest")
    over(times, "torch.nn, packed", "numba_cpu, packed")
    return 0 if ratio <= AT_MOST else 1


def ways_to_run() -> dict[str, Callable[[], None]]:
    """Each runs the batch once, forward and backward."""
    torch.manual_seed(0)
    lengths = torch.randint(1, LONGEST + 1, (BATCH,)).sort(descending=True).values
    lengths[0] = LONGEST
    x = torch.randn(LONGEST, BATCH, SIZE)
    theirs, ours = torch.nn.LSTM(SIZE, SIZE), lk.LSTM(SIZE, SIZE, backend="numba_cpu")
    ours.load_state_dict(theirs.state_dict())
    packed = pack_padded_sequence(x, lengths)
    problem = Problem("lstm", LONGEST, BATCH, SIZE, SIZE, lengths=f"uniform:1:{LONGEST}")
    state = torch.zeros(1, BATCH, SIZE)
    kernel = registry.load("numba_cpu")

    def padded_and_sorted() -> None:
        y, _, _ = run(
            kernel,
            x,
            state,
            state,
            ours._weights(ours._flat_weights),
            problem=problem,
            lengths=lengths,
        )
        y.sum().backward()

    return {
        "numba_cpu, packed": lambda: ours(packed)[0].data.sum().backward(),
        "numba_cpu, padded and sorted": padded_and_sorted,
        "torch.nn, packed": lambda: theirs(packed)[0].data.sum().backward(),
        "torch.nn, padded to the longest": lambda: theirs(x)[0].sum().backward(),
    }


def over(times: dict[str, list[float]], one: str, other: str) -> float:
    """Print how many times as long one takes as the other, and return it."""
    logs = [log(a / b) for a, b in zip(times[one], times[other], strict=True)]
    ratio, low, high = (exp(value) for value in mean_interval(logs))
    print(f"{one} over {other}: {ratio:.3f}  [{low:.3f}, {high:.3f}]")
    return ratio


if __name__ == "__main__":
    sys.exit(main())
