"""Does our clock agree with torch.utils.benchmark.Timer? Same callable, same process, in turn.

    python tests/perf/clock_agreement.py [THREADS]

Prints both medians with intervals over rounds, their ratio, and this machine's own noise: the
ratio of our clock's rounds to the rounds before. Exits 1 if a ratio is off by more than 2%.
"""

import sys
from functools import partial
from math import exp, log
from statistics import mean, median, stdev

import torch
from torch.utils.benchmark import Timer

from lstm_harness.race.sampler import StopRule, collect
from lstm_harness.worker.clock import CpuClock
from lstm_harness.worker.inputs import make_inputs
from lstm_kernels import Problem, registry
from lstm_kernels.stack import run

PROBLEM = Problem("lstm", seq_len=64, batch=16, input_size=128, hidden_size=128)
ROUNDS = 15
SECONDS = 0.4
AGREEMENT = 0.02
T_95_14 = 2.145  # Student's t, 95%, 14 degrees of freedom


def main() -> int:
    """Compare both clocks on `naive` and `aten` and return the exit code."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    print(f"{PROBLEM.label()} inference, {threads} threads, {ROUNDS} rounds of {SECONDS} s each")
    agreed = [compare(backend, threads) for backend in ("naive", "aten")]
    return 0 if all(agreed) else 1


def compare(backend: str, threads: int) -> bool:
    """Time one backend with both clocks in turn and print what they say."""
    execute = callable_of(backend)
    timer = Timer("execute()", globals={"execute": execute}, num_threads=threads)
    ours, theirs = [], []
    for round_number in range(ROUNDS):
        clocks = [partial(our_median_ns, execute), partial(timer_median_ns, timer)]
        figures = [ours, theirs]
        for which in (0, 1) if round_number % 2 else (1, 0):
            figures[which].append(clocks[which]())
    ratio, low, high = interval([o / t for o, t in zip(ours, theirs, strict=True)])
    noise, noise_low, noise_high = interval([a / b for a, b in zip(ours[1:], ours, strict=False)])
    print(f"{backend:6} ours {shown(ours)}   torch Timer {shown(theirs)}")
    print(f"       ours / Timer {ratio:.4f} ({low:.4f} to {high:.4f})")
    print(
        f"       machine noise: ours / ours a round before {noise:.4f} "
        f"({noise_low:.4f} to {noise_high:.4f}), spread {spread(ours):.1%}"
    )
    return abs(ratio - 1) <= AGREEMENT


def callable_of(backend: str) -> partial[object]:
    """One inference of a backend, its outputs freed by whoever calls it."""
    inputs = make_inputs(PROBLEM, seed=0, index=0, device="cpu")
    execute = partial(
        run, registry.load(backend), inputs.x, inputs.h0, inputs.c0, inputs.weights, problem=PROBLEM
    )
    return torch.no_grad()(execute)


def our_median_ns(execute: partial[object]) -> float:
    """The median as a record would have it."""
    clock = CpuClock()
    rule = StopRule(min_samples=10, rel_ci=1e-6, budget_s=SECONDS)
    samples = collect(lambda repeats: clock.measure([execute] * repeats), rule)
    return median(samples.per_execution_ns())


def timer_median_ns(timer: Timer) -> float:
    """The median of torch's own timer."""
    return timer.blocked_autorange(min_run_time=SECONDS).median * 1e9


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95% interval."""
    logs = [log(ratio) for ratio in ratios]
    half = T_95_14 * stdev(logs) / len(logs) ** 0.5
    return exp(mean(logs)), exp(mean(logs) - half), exp(mean(logs) + half)


def shown(rounds_ns: list[float]) -> str:
    """A median over rounds with the interval of their mean, in microseconds."""
    _, low, high = interval(rounds_ns)
    return f"{median(rounds_ns) / 1e3:.1f} µs ({low / 1e3:.1f} to {high / 1e3:.1f})"


def spread(rounds_ns: list[float]) -> float:
    """Standard deviation over mean."""
    return stdev(rounds_ns) / mean(rounds_ns)


if __name__ == "__main__":
    sys.exit(main())
