"""What `make gpu` does: know this GPU, prove every CUDA backend right on it, tune, race, report.

    python3 tests/gpu/prove.py [--out DIR] [--budget SECONDS] [STAGE ...]

Needs no network, and no installation beside torch, triton, numba-cuda, pytest and what the
harness imports. The stages, in this order; without any, all of them, each within its share of the
budget (600 s, or GPU_BUDGET):

    compile   the kernels of every suite, ahead, on all CPU cores
    verify    the suite `quick`, every backend, against float64
    limits    the device's measured ceilings
    headline  H768 B16 T1024 in float16, the shape of cuDNN's published times
    tests     the kernels' tests on CUDA: every regime, cell, dtype and size, and torch.nn's modules
    alone     repeats, broken flags, graphs and streams, with the device to itself
    races     compute-sanitizer's memcheck, racecheck and synccheck, where it is installed
    tune      launch parameters for this device, verified before they are kept; then tune-numba
    clock     the CUDA clock against triton.testing.do_bench
    tuned     the headline again, with what tuning found
    quick, sweep, cudnn5-ladder, cudnn-cliffs
              the suites, measured

A stage whose time is up is cut and keeps what it has; a second call goes on where this one ended,
and does not do again what passed. What the stages print goes to DIR/gpu.txt too, each run to a
folder of DIR, ceilings and tuned parameters to DIR/cache; DIR is results/<the GPU's name>. Exits
with 0 where no stage failed, 1 where one did, and 2 where there is no CUDA device, something is
missing, or DIR holds other sources' results.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from campaign import Campaign, Stage

ROOT = Path(__file__).parents[2]
TESTS = "tests/kernels"
AT_ONCE = 8
BUDGET_S = 600.0
# Left of the budget for the reports at the end.
REPORTS_S = 20.0
NEEDED = ("triton", "numba", "numpy", "pandas", "scipy", "typer", "rich", "pytest")
# Good to have, and what is lost without.
WISHED = {
    "numba_cuda": "numba_cuda is not raced",
    "pynvml": "clocks, throttling and energy are not recorded",
    "jinja2": "no report is made here",
    "plotly": "no report is made here",
    "xdist": "the tests run one after another",
}


def main() -> int:
    """Run the stages and return the exit code."""
    try:
        import torch
    except ModuleNotFoundError:
        return refuse("this python has no torch; use `make gpu`, or a GPU image's python3")
    if not torch.cuda.is_available():
        return refuse(f"needs a CUDA device, and torch {torch.__version__} finds none here")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return refuse(f"this python has no {', '.join(missing)}; the extra dev brings all")
    name = torch.cuda.get_device_name()
    asked = arguments(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))
    stages = {stage.name: stage for stage in stages_into(asked.out)}
    unknown = set(asked.stages) - set(stages)
    if unknown:
        return refuse(f"unknown stage {unknown.pop()!r}; known: {', '.join(stages)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "gpu.txt").open("a") as log:

        def tell(line: str) -> None:
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()

        budget_s = asked.budget - REPORTS_S
        campaign = Campaign(asked.out, budget_s, sources(), tell, environment(asked.out), cwd=ROOT)
        if campaign.is_foreign:
            return refuse(f"{asked.out} holds results of other sources; move it, or give --out DIR")
        now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        tell(f"{name}, torch {torch.__version__}, {now}: {' '.join(sys.argv)}")
        for line in lacking():
            tell(line)
        results = campaign.run(
            [s for s in stages.values() if not asked.stages or s.name in asked.stages]
        )
        reports(asked.out, [stage.run for stage in stages.values() if stage.run], tell)
        tell("")
        for stage, result in results.items():
            tell(f"{stage}: {result.status}, {result.seconds:.0f} s")
    return 1 if any(result.status == "failed" for result in results.values()) else 0


def arguments(machine: str) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / machine)
    budget = float(os.environ.get("GPU_BUDGET") or BUDGET_S)
    parser.add_argument("--budget", type=float, default=budget)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    asked = parser.parse_args()
    asked.out = asked.out.absolute()
    return asked


def stages_into(out: Path) -> list[Stage]:
    """Every stage, those first that the others need, then the most telling ones."""
    at_once = []
    if importlib.util.find_spec("xdist"):
        at_once = ["-n", str(min(AT_ONCE, os.cpu_count() or 1)), "--dist", "loadgroup"]
    pytest = ("-m", "pytest", "-rs", "--durations", "5")
    backends = ("fused_triton", "fused_numba_cuda", "pointwise")
    modules = [f"{TESTS}/backends/test_{name}.py" for name in backends]
    modules += [f"{TESTS}/gpu/test_fused_gates.py"]
    on_gpu = f"{TESTS}/test_on_gpu.py"
    harness = ("-m", "lstm_harness")
    shape = ("flashrnn", "--batch", "16", "--seq-len", "1024", "--dtype", "float16")
    shape += ("--pass", "inference,forward,backward,train")

    def run(name: str, share: float, *what: str) -> Stage:
        folder = out / name
        command = (*harness, "run", *what, "--device", "cuda", "--out", str(folder))
        return Stage(name, (*command, "--time-budget", "{seconds}"), share, folder)

    def tune(name: str, share: float, *what: str) -> Stage:
        command = (*harness, "tune", *what, "--device", "cuda", "--time-budget", "{seconds}")
        return Stage(name, command, share)

    return [
        Stage("compile", ("tests/gpu/compile_ahead.py",), 60),
        Stage("verify", (*harness, "verify", "quick", "--device", "cuda"), 45),
        Stage("limits", (*harness, "limits", "--device", "cuda"), 40),
        run("headline", 30, *shape, "--backend", "cudnn,triton,graphed"),
        Stage("tests", (*pytest, *at_once, *modules, f"{on_gpu}::test_equals_torch_nn"), 70),
        Stage("alone", (*pytest, on_gpu, "-k", "not equals_torch_nn"), 40),
        *races(),
        tune("tune", 70, "triton"),
        tune(
            "tune-numba",
            20,
            "numba_cuda",
            "--hidden",
            "512",
            "--batch",
            "1,8",
            "--dtype",
            "float32",
        ),
        Stage("clock", ("tests/gpu/clock_agreement.py",), 20),
        run("tuned", 25, *shape, "--backend", "cudnn,triton"),
        run("quick", 40, "quick"),
        run("sweep", 90, "sweep", "--backend", "cudnn,triton"),
        run("cudnn5-ladder", 25, "cudnn5-ladder"),
        run("cudnn-cliffs", 30, "cudnn-cliffs", "--backend", "cudnn,triton"),
    ]


def races() -> list[Stage]:
    """The race checks, where their tool is installed."""
    found = shutil.which("compute-sanitizer", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
    return [Stage("races", ("tests/gpu/race_checks.py",), 50)] if found else []


def lacking() -> list[str]:
    """What is not here and what is lost by that, a line each."""
    lines = [
        f"no {name} here: {lost}"
        for name, lost in WISHED.items()
        if importlib.util.find_spec(name) is None
    ]
    return lines if races() else [*lines, "no compute-sanitizer here: races are not checked"]


def reports(out: Path, runs: list[Path], tell: Callable[[str], None]) -> None:
    """Make the report of every run that has none yet or was cut, where its libraries are."""
    if not all(map(importlib.util.find_spec, ("jinja2", "plotly"))):
        return
    for run in runs:
        if (run / "records.jsonl").exists():
            command = [sys.executable, "-m", "lstm_harness", "report", str(run)]
            done = subprocess.run(
                command, cwd=ROOT, env=environment(out), capture_output=True, text=True, check=False
            )
            tell(done.stdout.strip() or done.stderr.strip())


def environment(out: Path) -> dict[str, str]:
    """What every stage is started with; ceilings and tuned parameters are kept in DIR/cache."""
    paths = ["kernels", "harness", "tests/support", os.environ.get("PYTHONPATH", "")]
    made = os.environ | {"PYTHONPATH": ":".join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    # One cache for all stages, which is Triton's usual place: runs would each have their own.
    made.setdefault("TRITON_CACHE_DIR", str(Path.home() / ".triton" / "cache"))
    made["XDG_CACHE_HOME"] = str(out / "cache")
    for interpreter in ("TRITON_INTERPRET", "NUMBA_ENABLE_CUDASIM"):
        made.pop(interpreter, None)
    return made


def sources() -> str:
    """A digest of what is measured and of what measures it."""
    digest = hashlib.sha256()
    for folder in ("kernels", "harness"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def refuse(reason: str) -> int:
    """Say on one line why nothing runs."""
    print(f"gpu checks: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
