"""What `make gpu` does: everything that needs a CUDA device, from right to fast, with its evidence.

    python3 tests/gpu/prove.py [--out DIR] [STAGE ...]

Needs no installation beside torch, triton, numba-cuda, pytest and what the harness imports, and no
network. The stages, in this order; without any, all of them:

    verify   the suite `quick`, every backend, against float64
    tests    the kernels' tests on CUDA: every regime, cell, dtype and size, and torch.nn's modules
    alone    repeats, broken flags, graphs and streams, with the device to itself
    races    compute-sanitizer's memcheck, racecheck and synccheck
    quick    the suite `quick`, measured

What they print goes to DIR/gpu.txt too, and what `quick` measures to DIR/quick; DIR is
results/<the GPU's name>. Exits with 0 where every stage did, 1 where one did not, and 2 where there
is no CUDA device or DIR/quick is there already.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[2]
TESTS = "tests/kernels"
AT_ONCE = 8


def main() -> int:
    """Run the stages and return the exit code."""
    try:
        import torch
    except ModuleNotFoundError:
        return refuse("this python has no torch; use `make gpu`, or a GPU image's python3")
    if not torch.cuda.is_available():
        return refuse(f"needs a CUDA device, and torch {torch.__version__} finds none here")
    name = torch.cuda.get_device_name()
    machine = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=ROOT / "results" / machine)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    asked = parser.parse_args()
    asked.out = asked.out.absolute()
    stages = stages_into(asked.out)
    unknown = set(asked.stages) - set(stages)
    if unknown:
        return refuse(f"unknown stage {unknown.pop()!r}; known: {', '.join(stages)}")
    wanted = [stage for stage in stages if not asked.stages or stage in asked.stages]
    if "quick" in wanted and (asked.out / "quick").exists():
        return refuse(f"{asked.out / 'quick'} is there already; remove it, or give --out DIR")
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "gpu.txt").open("a") as log:
        now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        tell(log, f"{name}, torch {torch.__version__}, {now}: {' '.join(sys.argv)}")
        passed = {stage: run(stage, stages[stage], log) for stage in wanted}
        for stage, well in passed.items():
            tell(log, f"{stage}: {'passed' if well else 'FAILED'}")
    return 0 if all(passed.values()) else 1


def stages_into(out: Path) -> dict[str, list[str]]:
    """The command of every stage."""
    pytest = ["-m", "pytest", "-rs", "--durations", "5"]
    at_once = []
    if importlib.util.find_spec("xdist"):
        at_once = ["-n", str(min(AT_ONCE, os.cpu_count() or 1)), "--dist", "loadgroup"]
    names = ("fused_triton", "fused_numba_cuda", "pointwise", "fused_gates")
    modules = [f"{TESTS}/test_{name}.py" for name in names]
    on_gpu = f"{TESTS}/test_on_gpu.py"
    harness = ["-m", "lstm_harness"]
    return {
        "verify": [*harness, "verify", "quick", "--device", "cuda"],
        "tests": [*pytest, *at_once, *modules, f"{on_gpu}::test_equals_torch_nn"],
        "alone": [*pytest, on_gpu, "-k", "not equals_torch_nn"],
        "races": ["tests/gpu/race_checks.py"],
        "quick": [*harness, "run", "quick", "--device", "cuda", "--out", str(out / "quick")],
    }


def run(stage: str, command: list[str], log: TextIO) -> bool:
    """Whether it ended well; what it prints is shown and kept."""
    tell(log, f"\n== {stage}: python {' '.join(command)}")
    started = time.monotonic()
    paths = ["kernels", "harness", "tests/support", os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": ":".join(filter(None, paths))}
    environment |= {"PYTHONUNBUFFERED": "1"}
    for interpreter in ("TRITON_INTERPRET", "NUMBA_ENABLE_CUDASIM"):
        environment.pop(interpreter, None)
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tell(log, line.rstrip("\n"))
    tell(log, f"== {stage}: exit status {process.returncode}, {time.monotonic() - started:.0f} s")
    return process.returncode == 0


def tell(log: TextIO, line: str) -> None:
    """Print a line and keep it."""
    print(line, flush=True)
    log.write(line + "\n")
    log.flush()


def refuse(reason: str) -> int:
    """Say on one line why nothing runs."""
    print(f"gpu checks: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
