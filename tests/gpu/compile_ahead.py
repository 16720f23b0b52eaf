"""Compile the Triton kernels that runs will need, on all CPU cores at once, into Triton's cache.

    python3 tests/gpu/compile_ahead.py

Inside a run kernels compile one after another, while the GPU waits. Exits with 0 where everything
compiled, 1 where something did not, and 2 where the device's architecture is not known.
"""

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "harness")]

from lstm_harness.model.spec import build, named_suite
from lstm_kernels import registry
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Unsupported

SUITES = ("quick", "flashrnn", "sweep", "cudnn5-ladder", "cudnn-cliffs")
BACKENDS = ("triton", "pointwise")


def main() -> int:
    """Compile everything and return the exit code."""
    import torch

    capability = "".join(map(str, torch.cuda.get_device_capability()))
    arch = f"sm_{capability}"
    if arch not in ARCHITECTURES:
        print(f"nothing compiled ahead: {arch} is not in {', '.join(ARCHITECTURES)}")
        return 2
    problems = what_to_compile()
    # A process that forked after CUDA was initialised could not use it; a fresh one does not try.
    workers = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))
    with workers as pool:
        jobs = [
            pool.submit(compile_all, backend, p, arch) for p in problems for backend in BACKENDS
        ]
        failed = [reason for job in jobs if (reason := job.result())]
    print(f"{len(jobs)} layers for {arch}, {len(failed)} failed")
    print("\n".join(dict.fromkeys(failed)))
    return 1 if failed else 0


def what_to_compile() -> list[Problem]:
    """Every layer of every suite, once; code knows neither T nor which lengths, only that some."""
    found: dict[Problem, None] = {}
    for name in SUITES:
        for case in build(named_suite(name), {}, {}).cases("cuda"):
            lengths = "full" if case.problem.lengths == "full" else "uniform:1:32"
            network = replace(case.problem, seq_len=32, lengths=lengths)
            found |= dict.fromkeys(map(network.layer, range(network.num_layers)))
    return list(found)


def compile_all(backend: str, problem: Problem, arch: str) -> str:
    """Compile what a layer launches; returns what went wrong, or nothing."""
    try:
        for launch in registry.load(backend).launches_for(problem, arch):
            launch.compile(arch)
    except Unsupported:
        return ""
    except Exception as error:  # noqa: BLE001 - compilers raise what they like; it is printed
        return f"{backend} {problem.label()}: {type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
