"""Does the CUDA clock agree with triton.testing.do_bench? Same callable, same process, in turn.

    python3 tests/gpu/clock_agreement.py

Cold: both flush the L2 cache before each execution. Warm: neither does; do_bench's flush is then
replaced by nothing, the rest of it is as it is. Prints both medians, their ratio with its interval
over rounds, and exits with 1 where a ratio is off by more than 2%, with 2 where there is no CUDA
device.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import exp, log
from pathlib import Path
from statistics import mean, median, stdev
from unittest import mock

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "harness")]

import torch
import triton

from lstm_harness.model.protocol import Reading
from lstm_harness.race.sampler import StopRule, collect
from lstm_harness.worker.clock import make_clock
from lstm_harness.worker.inputs import make_inputs
from lstm_kernels import Problem, registry
from lstm_kernels.stack import run

ROUNDS = 9
SECONDS = 0.2
AGREEMENT = 0.02
T_95_8 = 2.306  # Student's t, 95%, 8 degrees of freedom
LAYER = Problem("lstm", seq_len=128, batch=64, input_size=512, hidden_size=512, dtype="float16")

Execute = Callable[[], object]


def main() -> int:
    """Compare both clocks on every callable and return the exit code."""
    if not torch.cuda.is_available():
        print(f"needs a CUDA device, and torch {torch.__version__} finds none here")
        return 2
    print(f"{torch.cuda.get_device_name()}, {ROUNDS} rounds of {SECONDS} s each")
    agreed = [
        compare(name, execute, cache)
        for name, execute in callables().items()
        for cache in ("cold", "warm")
    ]
    return 0 if all(agreed) else 1


def callables() -> dict[str, Execute]:
    """A product, a copy that fits in L2, and a recurrent layer of one kernel after another."""
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    small = torch.randn(1 << 21, device="cuda")
    copy = torch.empty_like(small)

    def copies() -> None:
        # One alone is near the resolution of events.
        for _ in range(16):
            copy.copy_(small)

    inputs = make_inputs(LAYER, seed=0, index=0, device="cuda")
    layer = partial(
        run, registry.load("cudnn"), inputs.x, inputs.h0, inputs.c0, inputs.weights, problem=LAYER
    )
    return {
        "product 4096^3 float16": partial(torch.mm, a, a),
        "16 copies of 8 MiB": copies,
        f"cudnn inference {LAYER.label()}": torch.no_grad()(layer),
    }


def compare(name: str, execute: Execute, cache: str) -> bool:
    """Time one callable with both clocks in turn and print what they say."""
    clocks = [partial(our_median_ms, execute, cache), partial(do_bench_median_ms, execute, cache)]
    figures: list[list[float]] = [[], []]
    for round_number in range(ROUNDS):
        for which in (0, 1) if round_number % 2 else (1, 0):
            figures[which].append(clocks[which]())
    logs = [log(ours / theirs) for ours, theirs in zip(*figures, strict=True)]
    half = T_95_8 * stdev(logs) / len(logs) ** 0.5
    ratio, low, high = (exp(mean(logs) + side) for side in (0.0, -half, half))
    ours, theirs = (median(figure) * 1e3 for figure in figures)
    print(
        f"{name}, {cache}: ours {ours:.1f} µs, do_bench {theirs:.1f} µs, "
        f"ratio {ratio:.4f} ({low:.4f} to {high:.4f})"
    )
    return abs(ratio - 1) <= AGREEMENT


def our_median_ms(execute: Execute, cache: str) -> float:
    """The median as a record would have it."""
    clock = make_clock("cuda", cache)
    rule = StopRule(min_samples=10, rel_ci=1e-6, budget_s=SECONDS, fixed_repeats=1)

    def take(repeats: int) -> Reading:
        clock.ready()
        return clock.measure([execute] * repeats)

    samples = collect(take, rule)
    return median(samples.per_execution_ns()) / 1e6


def do_bench_median_ms(execute: Execute, cache: str) -> float:
    """The median of Triton's own benchmark."""
    driver = triton.runtime.driver.active
    unflushed = mock.patch.object(driver, "clear_cache")
    with unflushed if cache == "warm" else nullcontext():
        found = triton.testing.do_bench(execute, rep=SECONDS * 1e3, return_mode="median")
    return float(found)


if __name__ == "__main__":
    sys.exit(main())
