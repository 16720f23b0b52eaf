"""Is a summary of 100,000 records made in 10 s and 1 GB? Exits with 1 where it is not.

PYTHONPATH=kernels:harness:tests/support python tests/perf/summary_scale.py
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import synthetic_runs

from lstm_harness.analysis.summary import summarise
from lstm_harness.store import run_folder

SECONDS = 10.0
BYTES = 1_000_000_000
BLOCKS = 10
AXES = {
    "seq_len": (16, 32, 64, 128, 256, 512, 1024, 2048),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "hidden_size": (64, 128, 256, 512, 1024, 2048),
    "dtype": ("float32", "float16", "bfloat16"),
}


def make(folder: Path, count: int, samples: int) -> None:
    """Write a run of `count` records."""
    records = synthetic_runs.grid(block_count=BLOCKS, sample_count=samples, **AXES)
    first = []
    run_folder.create(folder)
    with (folder / run_folder.RECORDS).open("w") as file:
        for record in itertools.islice(records, count):
            file.write(json.dumps(record.to_dict()) + "\n")
            if record.block == 0:
                first.append(record)
    plan = {"blocks": BLOCKS, "planned_records": count}
    run_folder.write_manifest(folder, synthetic_runs.manifest(first, plan=plan))


def measure(folder: Path) -> int:
    """Load and summarise in this process, print what it took; the exit code."""
    before = time.perf_counter()
    run = run_folder.load(folder)
    loaded = time.perf_counter()
    summary = summarise(run.records)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{len(run.records)} records, {len(summary)} rows")
    print(
        f"load {loaded - before:.1f} s, summarise {done - loaded:.1f} s, "
        f"together {done - before:.1f} s (limit {SECONDS:g}); "
        f"peak {peak / 1e9:.2f} GB (limit {BYTES / 1e9:g})"
    )
    return int(done - before > SECONDS or peak > BYTES)


def main() -> int:
    """Make the run, then measure in a fresh process, whose peak is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=20, help="samples a record")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        make(folder, options.records, options.samples)
        command = [sys.executable, __file__, "--measure", str(folder)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
