"""Build the Triton kernels that runs will need, on all CPU cores at once, into Triton's cache.

    python3 tests/gpu/compile_ahead.py [SUITE [--AXIS LIST ...]]

Inside a run kernels are built one after another, while the GPU waits. With a suite its own, which
axes may narrow as they do in a run; else those of every suite that `make gpu` runs. What two layers
share is built once, with what launches it. Exits with 0 where everything was built, 1 where
something was not, and 2 where the device's architecture is not known.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product, repeat
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "harness")]

from lstm_harness.model.spec import build as build_spec
from lstm_harness.model.spec import named_suite
from lstm_kernels import registry
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Unsupported

SUITES = ("quick", "flashrnn", "sweep", "cudnn5-ladder", "cudnn-cliffs")
BACKENDS = ("triton", "pointwise")


class Kernel(NamedTuple):
    """One of the launches that a backend makes for a layer; kernels themselves cross no process."""

    backend: str
    problem: Problem
    place: int


def main() -> int:
    """Build everything and return the exit code."""
    import torch

    capability = "".join(map(str, torch.cuda.get_device_capability()))
    arch = f"sm_{capability}"
    if arch not in ARCHITECTURES:
        print(f"nothing compiled ahead: {arch} is not in {', '.join(ARCHITECTURES)}")
        return 2
    suite, *axes = sys.argv[1:] or [""]
    given = {
        name.removeprefix("--"): value for name, value in zip(axes[::2], axes[1::2], strict=True)
    }
    kernels = kernels_of(what_to_compile([suite] if suite else SUITES, given), arch)
    # A process that forked after CUDA was initialised could not use it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        failed = list(filter(None, pool.map(build, kernels.values(), repeat(arch))))
    print(f"{len(kernels)} kernels for {arch}, {len(failed)} failed")
    print("\n".join(failed))
    return 1 if failed else 0


def what_to_compile(suites: Sequence[str], axes: dict[str, str]) -> list[Problem]:
    """Every layer of these suites, once; code knows neither T nor which lengths, only that some."""
    found: dict[Problem, None] = {}
    for name in suites:
        for case in build_spec(named_suite(name), axes, {}).cases("cuda"):
            lengths = "full" if case.problem.lengths == "full" else "uniform:1:32"
            network = replace(case.problem, seq_len=32, lengths=lengths)
            found |= dict.fromkeys(map(network.layer, range(network.num_layers)))
    return list(found)


def kernels_of(problems: Iterable[Problem], arch: str) -> dict[str, Kernel]:
    """One launch of every kernel that layers need, by what tells kernels apart."""
    found: dict[str, Kernel] = {}
    for problem, backend in product(problems, BACKENDS):
        for place, launch in enumerate(launches_of(backend, problem, arch)):
            found.setdefault(launch.key(arch), Kernel(backend, problem, place))
    return found


def launches_of(backend: str, problem: Problem, arch: str) -> list[Launch]:
    """What a layer launches; nothing where the backend refuses it."""
    try:
        return registry.load(backend).launches_for(problem, arch)  # type: ignore[no-any-return] # a module's
    except Unsupported:
        return []


def build(kernel: Kernel, arch: str) -> str:
    """Compile a kernel and what launches it, and load it; what went wrong, or nothing."""
    try:
        launch = launches_of(kernel.backend, kernel.problem, arch)[kernel.place]
        made = launch.kernel.run(
            grid=launch.grid, warmup=True, **launch.arguments, **launch.options
        )
        _ = made.run  # its launcher is built, and it is loaded, when that is first asked for
    except Exception as error:  # noqa: BLE001 - compilers raise what they like; it is printed
        return f"{kernel.backend} {kernel.problem.label()}: {type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
