"""Are the kernels clean under compute-sanitizer? Every regime, tiny layers, forward and backward.

    python3 tests/gpu/race_checks.py

Each tool must first find a mistake that was planted for it, so that silence means something. Exits
with 0 where all is clean, 1 where a tool found something or did not find what was planted, and 2
where there is no CUDA device or no compute-sanitizer.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "tests/gpu/small_driver.py"
TRITON = ("triton-own", "triton-held", "triton-streamed", "pointwise")
NUMBA_CUDA = ("numba_cuda-held", "numba_cuda-streamed")
NAMES = (*TRITON, *NUMBA_CUDA)
# The tools, each with the mistake that it has to find; none is planted for synccheck.
TOOLS = {"memcheck": "planted-memory", "racecheck": "planted-race", "synccheck": None}
# Of all the kernels that torch launches, those of ours: *forward* and *backward*, in Numba's long
# names too.
OURS = ("--kernel-regex", "kns=ward")
FOUND = 99
SECONDS = 240.0


def main() -> int:
    """Run every tool on everything and return the exit code."""
    if not torch.cuda.is_available():
        print(f"race checks need a CUDA device, and torch {torch.__version__} finds none")
        return 2
    tool_path = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    if tool_path is None:
        print("compute-sanitizer is not installed: install the CUDA toolkit, or add it to PATH")
        return 2
    clean = True
    for name in NAMES:
        # Without a tool first: it compiles, and a wrong driver is no finding.
        clean &= says(f"{name} without a tool", [], name, 0)
    for tool, planted in TOOLS.items():
        command = [tool_path, "--tool", tool, "--error-exitcode", str(FOUND), *OURS]
        if planted:
            clean &= says(f"{tool} finds what was planted", command, planted, FOUND)
        for name in NAMES:
            clean &= says(f"{tool} {name}", command, name, 0)
    print("clean" if clean else "NOT clean")
    return 0 if clean else 1


def says(title: str, command: list[str], name: str, expected: int) -> bool:
    """Whether the driver under that command ends as expected; all it printed, where not."""
    # One allocation a tensor, so that a tool sees where each ends.
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for interpreter in ("TRITON_INTERPRET", "NUMBA_ENABLE_CUDASIM"):
        environment.pop(interpreter, None)
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, sys.executable, str(DRIVER), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
        status = str(process.returncode)
    except subprocess.TimeoutExpired:
        # The tool and the process under it, which would go on to hold the GPU.
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = f"none after {SECONDS:.0f} s"
    right = status == str(expected)
    seconds = time.monotonic() - started
    verdict = "ok" if right else f"FAILED: exit status {status}, expected {expected}"
    print(f"{title}: {verdict} ({seconds:.0f} s)", flush=True)
    if not right:
        print("\n".join(output.splitlines()[-60:]), flush=True)
    return right


if __name__ == "__main__":
    sys.exit(main())
