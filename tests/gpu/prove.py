"""What `make gpu` does: know this GPU, prove every CUDA backend right on it, tune, race, report.

    python3 tests/gpu/prove.py [--out DIR] [--budget SECONDS] [--pack FILE.tar.gz] [STAGE ...]

Needs no network, and no installation beside torch, triton, numba-cuda, pytest and what the
harness imports. What is missing is told first. The stages, in this order; without any, all of them,
each within its share of the budget (600 s, or GPU_BUDGET):

    preflight a tiny layer by Triton and one by Numba, built and run: is this machine fit?
    headline  H768 B16 T1024 in float16, the shape of cuDNN's published times; its kernels first
    compile   the kernels of every suite, ahead, on all CPU cores
    verify    the suite `quick`, every backend, against float64
    limits    the device's measured ceilings
    alone     broken flags, graphs and streams, then repeats, with the device to itself
    tests     the kernels' tests on CUDA: every regime, cell, dtype and size, and torch.nn's modules
    races     compute-sanitizer's memcheck, racecheck and synccheck, where it is installed
    tune      launch parameters for this device, verified before they are kept; then tune-numba
    clock     the CUDA clock against triton.testing.do_bench
    tuned     the headline again, with what tuning found
    quick, sweep, cudnn5-ladder, cudnn-cliffs
              the suites, measured

A stage whose time is up is cut and keeps what it has, and nothing that it started outlives it, nor
this program; a second call goes on where this one ended, and does not do again what passed. What
the stages print goes to DIR/gpu.txt too, each run to a folder of DIR, ceilings and tuned parameters
to DIR/cache; DIR is results/<the GPU's name>. After every stage a page in DIR says what was seen
so far, the reports of its runs are there where their libraries are, and all of DIR is in the one
FILE of --pack too. Exits with 0 where no stage failed, 1 where one did, and 2 where there is no
CUDA device, something is missing, or DIR holds other sources' results.
"""

import argparse
import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from campaign import ON_A_LEASH, Campaign, Result, Stage
from page import pack, write_page

ROOT = Path(__file__).parents[2]
# The page is written here, not in a stage.
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "harness")]

TESTS = "tests/kernels"
AT_ONCE = 8
BUDGET_S = 600.0
DRIVER = "libcuda.so.1"
# Of the budget, for the page and the reports after the last stage.
REPORTS_S = 20.0
# How long one report may take, and the least time in which one is begun.
REPORT_S, LEAST_REPORT_S = 30.0, 5.0
# What these have whatever the others' shares.
PREFLIGHT_S, HEADLINE_S = 40.0, 90.0
NEEDED = ("torch", "triton", "numba", "numpy", "pandas", "scipy", "typer", "rich", "pytest")
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
    started_s = time.monotonic()
    asked = arguments()
    ends_s = started_s + asked.budget
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return refuse(f"this python has no {', '.join(missing)}; the extra dev brings all")
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return refuse(f"needs a CUDA device, and there is no NVIDIA driver ({DRIVER}) here")
    lacks = list(lacking())
    for line in lacks:
        print(line, flush=True)
    import torch

    if not torch.cuda.is_available():
        return refuse(f"needs a CUDA device, and torch {torch.__version__} finds none here")
    name = torch.cuda.get_device_name()
    machine = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    out = (asked.out or ROOT / "results" / machine).absolute()
    stages = {stage.name: stage for stage in stages_into(out)}
    unknown = set(asked.stages) - set(stages)
    if unknown:
        return refuse(f"unknown stage {unknown.pop()!r}; known: {', '.join(stages)}")
    out.mkdir(parents=True, exist_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    asked_for = " ".join(sys.argv).replace(str(asked.out), "DIR")
    facts = [f"torch {torch.__version__}, {now}: `{asked_for}`", *lacks]
    with (out / "gpu.txt").open("a") as log:

        def tell(line: str) -> None:
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()

        runs = [stage.run for stage in stages.values() if stage.run]
        campaign = Campaign(
            out,
            asked.budget - REPORTS_S,
            sources(),
            tell,
            environment(out),
            cwd=ROOT,
            ended=partial(show, tell, out, name, facts, Reports(runs, ends_s), asked.pack),
            started_s=started_s,
        )
        if campaign.is_foreign:
            return refuse(f"{out} holds results of other sources; move it, or give --out DIR")
        tell(f"{name}, {facts[0]}")
        chosen = [stage for stage in stages.values() if stage.name in (asked.stages or stages)]
        results = campaign.run(chosen)
        tell("")
        for stage, result in results.items():
            tell(f"{stage}: {result.status}, {result.seconds:.0f} s")
    return 1 if any(result.status == "failed" for result in results.values()) else 0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--out", type=Path)
    budget = float(os.environ.get("GPU_BUDGET") or BUDGET_S)
    parser.add_argument("--budget", type=float, default=budget)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    return parser.parse_args()


def show(
    tell: Callable[[str], None],
    out: Path,
    name: str,
    facts: list[str],
    reports: "Reports",
    file: Path | None,
    results: Mapping[str, Result],
) -> None:
    """Write what is known so far: the page, then reports, and all of it in one file.

    Reports take longest. The file is written before them too, in case this program is killed.
    """
    try:
        write_page(out, name, facts, results, reports.runs)
        if file:
            pack(out, file)
        if reports.make(out, tell) and file:
            pack(out, file)
    except Exception as error:  # noqa: BLE001 - what was measured is there, and the next stage is to run
        tell(f"no page of what was seen: {type(error).__name__}: {error}")


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

    headline = run("headline", 60, *shape, "--backend", "cudnn,triton,graphed")
    return [
        Stage("preflight", ("tests/gpu/preflight.py",), 15, least_s=PREFLIGHT_S),
        replace(headline, least_s=HEADLINE_S, before=("tests/gpu/compile_ahead.py", *shape)),
        Stage("compile", ("tests/gpu/compile_ahead.py",), 60),
        Stage("verify", (*harness, "verify", "quick", "--device", "cuda"), 45),
        Stage("limits", (*harness, "limits", "--device", "cuda"), 40),
        Stage("alone", (*pytest, on_gpu, "-k", "not equals_torch_nn"), 40),
        Stage("tests", (*pytest, *at_once, *modules, f"{on_gpu}::test_equals_torch_nn"), 70),
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


def lacking() -> Iterator[str]:
    """What is not here and what is lost by that, a line each; told without importing anything."""
    if not shutil.which(os.environ.get("CC", "")) and not any(map(shutil.which, ("gcc", "clang"))):
        yield "no gcc and no clang here: Triton launches nothing; install one, or set CC"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        yield f"no {header} here: Triton launches nothing; install python3-dev"
    for name, lost in WISHED.items():
        if importlib.util.find_spec(name) is None:
            yield f"no {name} here: {lost}"
    if not races():
        yield "no compute-sanitizer here: races are not checked"


@dataclass(frozen=True)
class Reports:
    """The reports of runs: each once for the same records, and none after `ends_s`.

    `tried` is when the records were written that a report was made of, by run.
    """

    runs: list[Path]
    ends_s: float
    tried: dict[Path, int] = field(default_factory=dict)

    def make(self, out: Path, tell: Callable[[str], None]) -> bool:
        """Make those of runs with new records, where their libraries are; whether there were any.

        One that failed or took too long is not tried again: the stages need the time.
        """
        if not all(map(importlib.util.find_spec, ("jinja2", "plotly"))):
            return False
        made = False
        for run in self.runs:
            written = _time_of(run / "records.jsonl")
            is_new = written > max(_time_of(run / "report.html"), self.tried.get(run, 0))
            limit_s = min(REPORT_S, self.ends_s - time.monotonic())
            if is_new and limit_s >= LEAST_REPORT_S:
                self.tried[run] = written
                tell(_report(run, out, limit_s))
                made = True
        return made


def _report(run: Path, out: Path, limit_s: float) -> str:
    """Make one report and return a line about it."""
    command = [*ON_A_LEASH, "-m", "lstm_harness", "report", str(run)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(out), stdin=subprocess.PIPE) as made:
        try:
            return f"report of {run.name}: exit status {made.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            # Its leash ends it with the pipe.
            return f"no report of {run.name}: it took over {limit_s:.0f} s"


def _time_of(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


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
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml"):
                digest.update(path.read_bytes())
    return digest.hexdigest()


def refuse(reason: str) -> int:
    """Say on one line why nothing runs."""
    print(f"gpu checks: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
