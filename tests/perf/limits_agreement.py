"""Does the product rate of `lstm-bench limits` agree with an independent timing of torch.mm?

    python tests/perf/limits_agreement.py [THREADS]

The probe that `limits` runs and torch.utils.benchmark.Timer take turns in one process, on products
of the same size and dtype. Prints both medians, their ratio with its 95% interval, and this
machine's own noise; then what an L1 read's repeats cost, which a compiler could drop. Exits 1 if
the ratio is off by more than 5%, or repeats are not paid for.
"""

import sys
from functools import partial
from math import exp, log
from statistics import mean, median, stdev
from time import perf_counter

import torch
from torch.utils.benchmark import Timer

from lstm_harness.worker.probes import cpu
from lstm_harness.worker.probes.probe import sampled

DTYPE = "float32"
ROUNDS = 31
SECONDS = 0.15
AGREEMENT = 0.05
T_95_30 = 2.042  # Student's t, 95%, 30 degrees of freedom
REPEATS = 1000


def main() -> int:
    """Compare both, and return the exit code."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    size = cpu.product_size(DTYPE)
    (probe,) = (
        each
        for each in cpu.bench(threads).probes
        if (each.of, each.by) == (f"{DTYPE} ieee", "torch.mm")
    )
    take = probe.make()
    multiply = cpu.torch_mm(DTYPE, size)
    timer = Timer("multiply()", globals={"multiply": multiply}, num_threads=threads)
    ours, theirs = [], []
    for number in range(ROUNDS):
        turns = [partial(our_rate, take, ours), partial(their_rate, timer, size, theirs)]
        for turn in turns if number % 2 else turns[::-1]:
            turn()
    ratio, low, high = interval([o / t for o, t in zip(ours, theirs, strict=True)])
    noise, noise_low, noise_high = interval([a / b for a, b in zip(ours[1:], ours, strict=False)])
    print(f"{DTYPE} product, {size} cubed, {threads} threads, {ROUNDS} rounds in turn")
    print(
        f"limits {median(ours) / 1e9:.1f} GFLOP/s, torch Timer {median(theirs) / 1e9:.1f} GFLOP/s"
    )
    print(f"limits / Timer {ratio:.4f} ({low:.4f} to {high:.4f})")
    print(
        f"machine noise: limits / limits a round before {noise:.4f} "
        f"({noise_low:.4f} to {noise_high:.4f}), spread {stdev(ours) / mean(ours):.1%}"
    )
    paid = repeats_paid()
    print(f"{REPEATS} reads of an array in L1 take {paid:.0f} times as long as {REPEATS // 10}")
    return 0 if abs(ratio - 1) <= AGREEMENT and paid > 5 else 1


def our_rate(take: cpu.Take, rates: list[float]) -> None:
    """A round of the probe, as `limits` takes it."""
    rates.append(median(sample.value for sample in sampled(take)))


def their_rate(timer: Timer, size: int, rates: list[float]) -> None:
    """The median of torch's own timer, as a rate."""
    rates.append(2 * size**3 / timer.blocked_autorange(min_run_time=SECONDS).median)


def repeats_paid() -> float:
    """How many times longer ten times as many repeats take."""
    words = cpu.aligned_words(24 << 10)

    def best_s(repeats: int) -> float:
        times = []
        for _ in range(9):
            start = perf_counter()
            cpu._read(words, repeats)
            times.append(perf_counter() - start)
        return min(times)

    return best_s(REPEATS) / best_s(REPEATS // 10)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95% interval."""
    logs = [log(ratio) for ratio in ratios]
    half = T_95_30 * stdev(logs) / len(logs) ** 0.5
    return exp(mean(logs)), exp(mean(logs) - half), exp(mean(logs) + half)


if __name__ == "__main__":
    sys.exit(main())
