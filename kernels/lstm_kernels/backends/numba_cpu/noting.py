"""The phases of a layer, from kernels with time stamps: `lstm_kernels.phases` for this backend.

Such a kernel is compiled apart from the one that runs otherwise, of the same source.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch

from lstm_kernels.backends.numba_cpu import team
from lstm_kernels.backends.numba_cpu.sequence import Rows, Run, run_kernel
from lstm_kernels.backends.numba_cpu.stamp_lines import LINE_WORDS, NAMES
from lstm_kernels.phases import Note
from lstm_kernels.problem import Problem

Lines = Sequence[Sequence[int]]


def noted(note: Note) -> Run:
    """What runs kernels that have stamps, and notes their phases."""
    # The first kernel's line: the longer ago it began, the better it is known how long a tick is.
    first: Sequence[int] = ()

    def run(
        pass_name: str,
        problem: Problem,
        rows: Rows,
        chunk: int,
        values: dict[str, Any],
        scratch: dict[str, int],
    ) -> None:
        nonlocal first
        memory = torch.zeros(team.threads(), LINE_WORDS, dtype=torch.int64, device="cpu")
        stamped = values | {"stamps": memory}
        run_kernel(f"noted_{pass_name}", problem, rows, chunk, stamped, scratch)
        now_ns, lines = time.monotonic_ns(), memory.tolist()
        first = first or lines[0]
        prefix = "backward: " if pass_name == "backward" else ""
        for phase, ns in phases_of(lines, tick_ns(first, lines[0], now_ns)).items():
            note(prefix + phase, ns)

    return run


def tick_ns(first: Sequence[int], line: Sequence[int], now_ns: int) -> float:
    """How long a tick of the CPU's counter is, from the beginning of a kernel and the end of one.

    Args:
        first, line: what the calling thread wrote in each, see `stamp_lines`.
        now_ns: the host's clock right after the second.
    """
    began_ns, began = first[:2]
    return (now_ns - began_ns) / max(line[2] - began, 1)


def phases_of(lines: Lines, ns_a_tick: float) -> dict[str, float]:
    """How long each phase of a kernel took in ns, as a mean over the threads that ran.

    Args:
        lines: what each thread wrote, see `stamp_lines`; zeros of one that did not run.
    """
    sums = [line[3:] for line in lines if line[0]]
    means = (sum(ticks) / len(sums) * ns_a_tick for ticks in zip(*sums, strict=True))
    return {phase: ns for phase, ns in zip(NAMES, means, strict=False) if ns > 0}
