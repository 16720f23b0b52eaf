"""What asking does to a time: samples that are asked for, over samples of a loop in the worker.

    python tests/perf/asked_samples.py [--pairs 30] [--threads N] [--backends naive,aten]

In one worker of each backend, for every case: some samples as the harness takes them,
each asked for, the worker stopped in between; then as many one after the other, as the worker took
them when it held the clock itself; and so on, in turn. Prints how many times as long the former are
told to take, by backend and pass: the geometric mean, with its 95% interval over all pairs.
"""

import argparse
import os
import sys
import tempfile
from math import exp, log
from pathlib import Path
from statistics import median

from looping import COUNTED, NAMES, UNCOUNTED

from lstm_harness.analysis.statistics import mean_interval
from lstm_harness.model.case import Case
from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.protocol import LoadBackend
from lstm_harness.race.oracle import Oracle
from lstm_harness.race.process import WorkerProcess, WorkerSettings
from lstm_harness.race.sampler import StopRule
from lstm_harness.race.visit import Job, Visit
from lstm_kernels import Problem

PASSES = ("inference", "forward", "backward")
PROBLEMS = [Problem("lstm", t, b, 128, 128) for t in (32, 128) for b in (1, 16)]
RULE = StopRule(min_samples=10, rel_ci=0.01, budget_s=1.0)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backends", default=",".join(NAMES))
    given = parser.parse_args()
    all_logs = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["LSTM_BENCH_LOOP"] = str(Path(name) / "loop")
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        settings = WorkerSettings("cpu", Path(name), given.threads)
        oracle = Oracle(settings, 0)
        for backend in (f"looping_{name}" for name in given.backends.split(",")):
            worker = WorkerProcess(settings, backend, held=True)
            worker.ask(LoadBackend(backend, str(Path(__file__).parent / "looping.py")))
            for pass_name in PASSES:
                logs = []
                for problem in PROBLEMS:
                    oracle.know(problem)
                    cell = PlannedCell(0, 0, backend, Case(problem, pass_name), None)
                    job = Job(0, RULE, given.threads, True, False, False, ())
                    visit = Visit(cell, job, worker, oracle, 600.0, {})
                    visit.open()
                    logs += [pair(visit, number) for number in range(given.pairs)]
                    visit.end()
                tell(f"{backend.removeprefix('looping_')} {pass_name}", logs)
                all_logs += logs
            worker.close()
        oracle.close()
    tell("all", all_logs)
    return 0


def pair(visit: Visit, number: int) -> float:
    """The logarithm of the asked samples' median over the loop's; which comes first alternates."""
    place = Path(os.environ["LSTM_BENCH_LOOP"])
    repeats = visit._sampler._repeats
    asked_ns = 0.0
    for loops in (number % 2 == 0, number % 2 != 0):
        if loops:
            place.touch()
            visit._track.take(repeats)
            looped_ns = float(place.read_text())
            place.unlink()
        else:
            taken = [visit._track.take(repeats) for _ in range(UNCOUNTED + COUNTED)]
            asked_ns = median(each.elapsed_ns / repeats for each in taken[UNCOUNTED:])
    return log(asked_ns / looped_ns)


def tell(what: str, logs: list[float]) -> None:
    """Print the geometric mean of ratios and its interval."""
    mean, low, high = (exp(value) for value in mean_interval(logs))
    print(f"{what:16} {mean:.3f}  [{low:.3f}, {high:.3f}]  {len(logs)} pairs", flush=True)


if __name__ == "__main__":
    sys.exit(main())
