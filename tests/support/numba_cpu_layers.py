"""Layers of numba_cpu against float64, in a process that compiles for another CPU than its tests'.

    python numba_cpu_layers.py CASES

CASES is a JSON list of `Problem`'s fields. Prints, as JSON, what kernels are compiled for and how
they multiply, and of every case the relative error of each output and gradient, and whether all
repeats on one thread and on two gave the same bits. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are
Numba's.
"""

import json
import sys
from typing import Any

import torch
from closeness import relative_errors
from small_layers import results

import lstm_kernels as lk
from lstm_kernels import registry

REPEATS = 20


def answers(cases: list[dict[str, Any]], repeats: int = REPEATS) -> dict[str, Any]:
    """What is printed."""
    from lstm_kernels.backends.numba_cpu import pairing, simd, target
    from lstm_kernels.backends.numba_cpu.registers import registers

    return {
        "target": target.compiled_for(),
        "vector_bytes": simd.VECTOR_BYTES,
        "registers": simd.REGISTERS,
        "bfloat16": pairing.product_of("bfloat16").name,
        "int8": registers().int8,
        "layers": [_layer(lk.Problem(**case), repeats) for case in cases],
    }


def _layer(problem: lk.Problem, repeats: int) -> dict[str, Any]:
    from lstm_kernels.backends.numba_cpu import sequence, team

    # Threads meet however little they have to do.
    sequence.WORTH_MEETING = 0
    dtype, cpu = getattr(torch, problem.dtype), torch.device("cpu")
    want = results(registry.load("reference"), problem, dtype=torch.float64, device=cpu)
    runs = []
    for threads in (1, 2):
        # Two even where there is one core.
        team.threads = lambda threads=threads: threads
        backend = registry.load("numba_cpu")
        runs += [results(backend, problem, dtype=dtype, device=cpu) for _ in range(repeats)]
    first, *others = runs
    return {
        "errors": relative_errors(first, want),
        "same_bits": all(torch.equal(run[name], first[name]) for run in others for name in first),
    }


if __name__ == "__main__":
    json.dump(answers(json.loads(sys.argv[1])), sys.stdout)
