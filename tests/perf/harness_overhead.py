"""What a run's wall time goes into: at least 40% of it should be spent inside samples.

    python tests/perf/harness_overhead.py [RUN | OPTIONS]

Runs the `quick` suite with these options of `lstm-bench run`, and tells what each kind of request
took and how much memory the process that judges came to; or reads a run that is there already.
"""

import sys
import tempfile
import time
from collections import defaultdict
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path

from lstm_harness.__main__ import run as bench
from lstm_harness.race.process import WorkerProcess
from lstm_harness.store import run_folder

AT_LEAST = 0.40
TOLD_S = 0.5


class Requests:
    """Reads replies as `WorkerProcess` does, and remembers how long each kind of request took."""

    def __init__(self) -> None:
        self.took_s: defaultdict[str, float] = defaultdict(float)
        self.judge_bytes = 0
        self._understood = WorkerProcess._understood

    def listen(self) -> None:
        """Be in the way of every reply from here on."""

        def understood(worker, request, arrived):
            self.took_s[type(request).__name__] += arrived.spent.wall_ns / 1e9
            if worker.name == "oracle":
                self.judge_bytes = max(self.judge_bytes, peak_bytes(worker.pid))
            return self._understood(worker, request, arrived)

        WorkerProcess._understood = understood

    def tell(self, wall_s: float) -> None:
        """Print the kinds that took longest, and what is none."""
        for name, took_s in sorted(self.took_s.items(), key=lambda each: -each[1]):
            if took_s >= TOLD_S:
                print(f"  {name:15} {took_s:6.1f} s")
        print(f"  {'no request':15} {wall_s - sum(self.took_s.values()):6.1f} s")
        print(f"  the process that judges came to {self.judge_bytes / 2**20:.0f} MiB")


def peak_bytes(pid: int) -> int:
    """The largest resident set of a process so far; see proc(5), status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main() -> int:
    """Print the share of time inside samples and return the exit code."""
    given = sys.argv[1:]
    if given and not given[0].startswith("--"):
        run = run_folder.load(Path(given[0]))
        wall_s = between(run.manifest["start"], run.manifest["end"])
        return judge(run, wall_s, "from its manifest's start to its end")
    requests = Requests()
    requests.listen()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        started = time.monotonic()
        with redirect_stdout(StringIO()):
            bench(["run", "quick", "--out", str(out), "--quiet", *given])
        wall_s = time.monotonic() - started
        requests.tell(wall_s)
        return judge(run_folder.load(out), wall_s, "whole command")


def judge(run: run_folder.Run, wall_s: float, what: str) -> int:
    """Print one run's figures."""
    inside_s = sum(sum(r.samples_ns) * r.inner_repeats for r in run.records) / 1e9
    share = inside_s / wall_s
    print(f"{len(run.records)} records, {wall_s:.1f} s wall ({what}), {inside_s:.1f} s in samples")
    print(f"share inside samples {share:.1%}, at least {AT_LEAST:.0%} expected")
    return 0 if share >= AT_LEAST else 1


def between(start: str, end: str) -> float:
    """Seconds between two times of a manifest."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


if __name__ == "__main__":
    sys.exit(main())
