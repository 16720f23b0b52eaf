"""Inference of `numba_cpu` over few steps: weights packed, and multiplied as they are.

    python tests/perf/few_steps.py [THREADS]

Prints the median of the calls' times in us, and that of `aten`; the three in turn, float32, I=H.
`chosen` says what `numba_cpu` does by itself.
"""

import sys
from functools import partial
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch

import lstm_kernels as lk
from lstm_kernels.backends.numba_cpu import sequence

HIDDEN = (64, 128, 256, 512, 1024, 2048)
# T, B
PAIRS = ((1, 1), (1, 4), (1, 16), (4, 1), (4, 4), (16, 1), (16, 4), (32, 1), (64, 1), (128, 1))
TURNS_S, FEWEST = 0.5, 7


def main() -> None:
    """Print a line a case."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    chooses = sequence.is_unpacked
    print("   H    T   B    packed  as they are    ratio  chosen           aten")
    for H in HIDDEN:
        layer, other = lk.LSTM(H, H, backend="numba_cpu"), lk.LSTM(H, H, backend="aten")
        for T, B in PAIRS:
            x = torch.randn(T, B, H)
            calls = {"packed": partial(infer, layer, x, unpacked=False)}
            calls["unpacked"] = partial(infer, layer, x, unpacked=True)
            calls["aten"] = partial(infer, other, x, unpacked=False)
            times = in_turn(calls)
            problem = lk.Problem("lstm", T, B, H, H)
            chosen = "as they are" if chooses(problem, T * B) else "packed     "
            ratio = times["unpacked"] / times["packed"]
            print(
                f"{H:4} {T:4} {B:3} {times['packed']:9.1f} {times['unpacked']:12.1f} {ratio:8.3f}"
                f"  {chosen} {times['aten']:9.1f}",
                flush=True,
            )


def in_turn(calls: dict[str, partial[float]]) -> dict[str, float]:
    """The median time in us of each, after two that do not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(), call()
    end = perf_counter() + TURNS_S
    while perf_counter() < end or len(times["packed"]) < FEWEST:
        for name, call in calls.items():
            times[name].append(call())
    return {name: 1e6 * median(taken) for name, taken in times.items()}


def infer(layer: torch.nn.Module, x: torch.Tensor, *, unpacked: bool) -> float:
    """The seconds of an inference."""
    with patch.object(sequence, "is_unpacked", lambda *_: unpacked), torch.inference_mode():
        begin = perf_counter()
        layer(x)
        return perf_counter() - begin


if __name__ == "__main__":
    main()
