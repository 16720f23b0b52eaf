"""What the Triton backend's candidates compile to: how many, and which of them spill.

    PYTHONPATH=kernels:harness python tests/support/triton_candidates.py [ARCH]

One kernel a candidate (a forward that saves, a backward), LSTM, two processes; some minutes.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from typing import Any

from lstm_kernels import Problem
from lstm_kernels.backends import fused_triton
from lstm_kernels.backends.fused_triton.tuning import candidates_on
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import architecture, facts

HIDDEN = (64, 512, 1024, 2048)
DTYPES = ("float16", "float32")
BATCHES = (16, 64)
PASSES = ("forward", "backward")

Job = tuple[str, Problem, str, dict[str, Any]]


def jobs(arch: str) -> list[Job]:
    """Every candidate of the sizes above."""
    made = []
    for H, dtype, B, pass_name in product(HIDDEN, DTYPES, BATCHES, PASSES):
        problem = Problem("lstm", 64, B, H, H, dtype=dtype)
        choices = candidates_on(problem, pass_name, architecture(arch))
        made += [(arch, problem, pass_name, choice) for choice in choices]
    return made


def compiled(job: Job) -> dict[str, Any]:
    """The facts of one candidate's kernel."""
    arch, problem, pass_name, choice = job
    key = fused_triton.tuning_key(problem, pass_name, "cuda")
    with fused_triton.using(key, choice):
        launches = fused_triton.launches_for(problem, arch)
    return facts(next(filter(trains, named(launches, pass_name))).compile(arch))


def named(launches: list[Launch], name: str) -> list[Launch]:
    """The launches of one of the two kernels."""
    return [launch for launch in launches if launch.kernel.__name__ == name]


def trains(launch: Launch) -> bool:
    """Whether it is what training launches, gates saved."""
    return launch.arguments["gates_ptr"] is not None and not launch.arguments.get("PREACTIVATED")


def main() -> None:
    """Print those that spill, and how many there are."""
    arch = sys.argv[1] if len(sys.argv) > 1 else "sm_90"
    every, spilling = jobs(arch), 0
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for (_, problem, pass_name, choice), kernel in zip(
            every, pool.map(compiled, every), strict=True
        ):
            if kernel["spill_bytes"] or kernel["stack_bytes"]:
                spilling += 1
                shown = " ".join(f"{name}={value}" for name, value in choice.items())
                sys.stdout.write(
                    f"{problem.label()} {pass_name}: {shown}: {kernel['spill_bytes']} bytes\n"
                )
    sys.stdout.write(f"{arch}: {len(every)} candidates compile, {spilling} spill\n")


if __name__ == "__main__":
    main()
