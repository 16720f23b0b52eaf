"""How much of a run's wall time is spent inside samples: at least 40% of `make bench`.

    python tests/perf/harness_overhead.py [RUN]

Runs the `quick` suite, or reads a run that is there already. Wall time is that of the whole
command, from the shell's point of view, where it runs one itself.
"""

import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from lstm_harness.store import run_folder

AT_LEAST = 0.40


def main() -> int:
    """Print the share of time inside samples and return the exit code."""
    if len(sys.argv) > 1:
        run = run_folder.load(Path(sys.argv[1]))
        wall_s = between(run.manifest["start"], run.manifest["end"])
        return judge(run, wall_s, "from its manifest's start to its end")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "lstm_harness", "run", "quick", "--out", str(out)]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return judge(run_folder.load(out), time.monotonic() - started, "whole command")


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
