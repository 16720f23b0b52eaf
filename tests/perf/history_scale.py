"""Is the history of 5,000 runs of 200 cases told in time? Exits with 1 where it is not.

PYTHONPATH=kernels:harness:tests/support python tests/perf/history_scale.py --runs 5000

Makes a synthetic store, 3 blocks of 10 samples a case, in which one case in ten becomes 10% slower
at two thirds of the runs, then tells its history by the command line in fresh processes: with no
index, then, with it, for one case and for all. With 500 runs, the default, the limits are a tenth,
but for what starting takes. The full store takes 4 GB in TMPDIR, and some five minutes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import synthetic_runs

from lstm_harness.store import run_folder

FULL_RUNS = 5_000
ONE_CASE_SECONDS = 5.0
ALL_SECONDS = 60.0
BYTES = 2_000_000_000
BLOCKS, SAMPLES = 3, 10
BETWEEN_RUNS, WITHIN_RUN = 0.02, 0.005
SLOWER, ONE_CASE_IN = 1.10, 10
AXES = {
    "seq_len": (16, 32, 64, 128, 256),
    "batch": (1, 2, 4, 8, 16),
    "hidden_size": (64, 128, 256, 512),
}
PLACEHOLDER = "[1000, 1001]"
# With the index a history is told so many times, and the fastest counts.
TIMES = 3


def make(folder: Path, runs: int, cases: int) -> None:
    """Write the runs: every record of one, its times replaced."""
    passes = ("forward", "backward")
    records = synthetic_runs.grid(("aten",), block_count=1, passes=passes, sample_count=2, **AXES)
    template = list(records)[:cases]
    shapes = [_parts(record, block) for block in range(BLOCKS) for record in template]
    centres = np.tile([np.median(record.samples_ns) for record in template], BLOCKS)
    steps = np.tile(np.arange(cases) % ONE_CASE_IN == 0, BLOCKS)
    rng = np.random.default_rng(0)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    for run in range(runs):
        level = np.tile(rng.lognormal(0, BETWEEN_RUNS, cases), BLOCKS) * centres
        level = np.where(steps & (run >= runs * 2 // 3), SLOWER * level, level)
        noise = rng.lognormal(0, WITHIN_RUN, (SAMPLES, len(level)))
        times = (level * noise).astype(np.int64).T.tolist()
        lines = [str(own).join(parts) for own, parts in zip(times, shapes, strict=True)]
        place = folder / f"{began + timedelta(hours=run):%Y%m}" / f"run-{run:05}"
        run_folder.create(place)
        _write_manifest(place, template, (began + timedelta(hours=run)).isoformat())
        (place / run_folder.RECORDS).write_text("".join(lines))


def _parts(record, block: int) -> list[str]:
    """A record's line, cut where its times go: samples and CPU time."""
    zeros = {"steal_ms": [0.0] * SAMPLES, "involuntary_switches": [0] * SAMPLES}
    times = {"samples_ns": [1000, 1001], "cpu_ns": [1000, 1001]}
    line = json.dumps(record.to_dict() | times | zeros | {"block": block}) + "\n"
    return line.split(PLACEHOLDER)


def _write_manifest(place: Path, template, start: str) -> None:
    plan = {"blocks": BLOCKS, "planned_records": BLOCKS * len(template)}
    manifest = synthetic_runs.manifest(template, plan=plan, id=place.name, start=start)
    # Without the store's wait for the disk, which thousands of runs are not worth here.
    (place / run_folder.MANIFEST).write_text(json.dumps(manifest, indent=1))


def tell(folder: Path, what: str, *options: str) -> tuple[float, float, dict]:
    """Run the command once; its seconds, the bytes of its processes together and its document."""
    command = [sys.executable, "-m", "lstm_harness", "history", str(folder), "--json", *options]
    started, cpu_before = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        out.seek(0)
        document = json.load(out)
    cpu = cpu_seconds() - cpu_before
    print(
        f"{what:20} {seconds:6.1f} s   {cpu:6.1f} s of CPU time   {peak / 1e9:.2f} GB", flush=True
    )
    return seconds, peak, document


def cpu_seconds() -> float:
    """CPU time of every process that ended, which neighbours do not lengthen."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_bytes(root: int) -> int:
    """What a process and its descendants hold in memory now."""
    waiting, total = [root], 0
    while waiting:
        try:
            place = Path("/proc", str(waiting.pop()))
            total += int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            children = (place / "task" / place.name / "children").read_text()
            waiting += [int(child) for child in children.split()]
        except OSError:
            continue  # it ended meanwhile
    return total


def judge_steps(document: dict, runs: int) -> bool:
    """Print how many of the true steps were found, and how many more."""
    found = {s["label"]: [c["run"] for c in s["changes"]] for s in document["series"]}
    backends_cases = list(synthetic_runs.grid(("aten",), block_count=1, sample_count=2, **AXES))
    slowed = {r.case.label() for r in backends_cases[::ONE_CASE_IN]} & set(found)
    right = sum(any(abs(at - runs * 2 // 3) <= 2 for at in found[label]) for label in slowed)
    beside = sum(len(at) for at in found.values()) - right
    print(f"{right} of {len(slowed)} true steps found, {beside} others in {len(found)} series")
    return right == len(slowed)


def main() -> int:
    """Make the store, tell its history cold and warm, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--cases", type=int, default=200)
    options = parser.parse_args()
    share = min(1.0, options.runs / FULL_RUNS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "store"
        started = time.perf_counter()
        make(folder, options.runs, options.cases)
        size = sum(path.stat().st_size for path in folder.rglob("*.json*"))
        print(
            f"{options.runs} runs x {options.cases} cases x {BLOCKS} blocks, {size / 1e9:.1f} GB, "
            f"made in {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        _, cold_bytes, _ = tell(folder, "all cases, no index", "--quiet")
        one = [tell(folder, "one case", "--case", "T64 B4 H128 forward") for _ in range(TIMES)]
        every = [tell(folder, "all cases") for _ in range(TIMES)]
    # Neighbours only ever lengthen a time.
    one_s, all_s = min(seconds for seconds, _, _ in one), min(seconds for seconds, _, _ in every)
    document = every[0][2]
    print(
        f"limits: one case {max(1.5, share * ONE_CASE_SECONDS):g} s, "
        f"all {max(3.0, share * ALL_SECONDS):g} s, {BYTES / 1e9:g} GB"
    )
    found = judge_steps(document, options.runs)
    peak = max(cold_bytes, *(held for _, held, _ in one + every))
    slow = one_s > max(1.5, share * ONE_CASE_SECONDS) or all_s > max(3.0, share * ALL_SECONDS)
    return int(slow or peak > BYTES or not found)


if __name__ == "__main__":
    sys.exit(main())
