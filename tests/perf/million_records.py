"""Are a query, and the history of one case, told in 2 s and 2 GB where there are 1,000,000 records?

PYTHONPATH=kernels:harness:tests/support python tests/perf/million_records.py --keep STORE

Makes a store of 10,000 runs of 100 records each: 2 backends on 10 cases in 5 blocks of 10 samples,
a run an hour after the one before, with caches of its own. The program then runs in fresh
processes: with nothing derived, with all of it, and after one more run. Prints one JSON document
with seconds by the clock, CPU seconds and the most bytes held by all processes of a command
together, and exits with 1 where a limit is broken. The store takes 1.4 GB in TMPDIR. With --keep it
is made in that folder, or only completed there, so that it can be made in several goes, and it
stays.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import synthetic_runs
import synthetic_store
from history_scale import cpu_seconds, resident_bytes

from lstm_harness.history.index import INDEX
from lstm_harness.store import run_folder

RUNS, BLOCKS, SAMPLES = 10_000, 5, 10
BACKENDS = ("aten", "numba_cpu")
AXES = {"seq_len": (16, 32, 64, 128, 256), "batch": (1,), "hidden_size": (128,)}
SECONDS, BYTES = 2.0, 2e9
# A warm command runs so often, and the fastest counts: neighbours only ever lengthen a time.
TIMES = 3
COUNT = "select count(*) as n from records"
FASTEST = """
    select label, arg_min(backend, median_ns) as fastest, min(median_ns) as best_ns,
           quantile_cont(median_ns, 0.5) as typical_ns, count(*) as n
    from records where standing = 'ok' group by label order by label
"""
BY_MONTH = """
    select date_trunc('month', started) as month, backend, avg(ln(median_ns)) as level
    from records where label = 'lstm T64 B1 H128 float32 forward' group by all order by all
"""
SLOWEST_SAMPLES = """
    select label, backend, quantile_cont(sample_ns, 0.99) as p99_ns
    from samples group by all order by all
"""
CASE = "lstm T64 B1 H128 float32 forward"


def make(store: Path, runs: int) -> list[Path]:
    """Write the runs that are not there yet: every record of one, its times replaced."""
    made = []
    passes = ("forward", "backward")
    grid = synthetic_runs.grid(
        BACKENDS, block_count=BLOCKS, sample_count=SAMPLES, passes=passes, **AXES
    )
    records = list(grid)
    stored = [record.to_dict() for record in records]
    centres = np.array([record.samples_ns for record in records], dtype=np.float64)
    manifest = synthetic_runs.manifest(records)
    for number in range(runs):
        began = synthetic_store.BEGAN + timedelta(hours=number)
        place = store / f"{began:%Y%m}" / f"run-{number:05}"
        if place.exists():
            continue
        rng = np.random.default_rng(number)
        times = (centres * rng.lognormal(0, 0.01, (len(records), 1))).astype(np.int64).tolist()
        lines = [
            json.dumps(record | {"samples_ns": own, "cpu_ns": own})
            for record, own in zip(stored, times, strict=True)
        ]
        partial = place.with_name(f".{place.name}")
        partial.mkdir(parents=True, exist_ok=True)
        facts = {"id": place.name, "start": began.isoformat()}
        facts["end"] = (began + timedelta(minutes=3)).isoformat()
        (partial / run_folder.MANIFEST).write_text(json.dumps(manifest | facts))
        (partial / run_folder.RECORDS).write_text("\n".join(lines) + "\n")
        made.append(partial.rename(place))
    return made


def told(cache: Path, *words: str) -> tuple[dict[str, Any], Any]:
    """Run a command in a fresh process: what it took, and its document."""
    command = [sys.executable, "-m", "lstm_harness", *words, "--json", "--quiet"]
    started, cpu_before = time.perf_counter(), cpu_seconds()
    with tempfile.TemporaryFile() as out:
        caches = os.environ | {"XDG_CACHE_HOME": str(cache)}
        process = subprocess.Popen(command, stdout=out, env=caches)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        assert process.returncode == 0, words
        out.seek(0)
        document = json.load(out)
    took = {"seconds": seconds, "cpu_seconds": cpu_seconds() - cpu_before, "peak_bytes": peak}
    return took, document


def measured(store: Path, cache: Path, runs: int) -> dict[str, Any]:
    """What each command took."""
    records = runs * len(BACKENDS) * len(AXES["seq_len"]) * 2 * BLOCKS
    asked = ("query", COUNT, "--store", str(store))
    history = ("history", str(store), "--case", CASE)
    found: dict[str, Any] = {}
    (store / INDEX).unlink(missing_ok=True)
    found["query, nothing derived"], document = told(cache, *asked)
    assert document["rows"] == [{"n": records}], document
    found["history, nothing derived"], _ = told(cache, *history)
    warm = {
        "query: count": asked,
        "query: fastest by case": ("query", FASTEST, "--store", str(store)),
        "query: one case by month": ("query", BY_MONTH, "--store", str(store)),
        "query: every sample": ("query", SLOWEST_SAMPLES, "--store", str(store)),
        "history of one case": history,
    }
    for what, words in warm.items():
        tries = [told(cache, *words) for _ in range(TIMES)]
        found[what] = min((took for took, _ in tries), key=lambda took: took["seconds"])
        found[what]["peak_bytes"] = max(took["peak_bytes"] for took, _ in tries)
    (one_more,) = make(store, runs + 1)
    found["query, one more run"], document = told(cache, *asked)
    assert document["rows"] == [{"n": records + records // runs}], document
    found["history, one more run"], _ = told(cache, *history)
    shutil.rmtree(one_more)
    return found


def broken(found: dict[str, Any]) -> list[str]:
    """The limits that are broken."""
    warm = {what: took for what, took in found.items() if "nothing derived" not in what}
    slow = [what for what, took in warm.items() if took["seconds"] > SECONDS]
    return slow + [f"{what}: memory" for what, took in found.items() if took["peak_bytes"] > BYTES]


def main() -> int:
    """Make the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--keep", type=Path, help="the store's folder")
    parser.add_argument("--only-make", action="store_true", help="make the store, measure nothing")
    options = parser.parse_args()
    scratch = nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory()
    with scratch as place, tempfile.TemporaryDirectory() as cache:
        store = Path(place) / "store"
        make(store, options.runs)
        if options.only_make:
            return 0
        found = measured(store, Path(cache), options.runs)
    print(json.dumps({"runs": options.runs, "took": found, "broken": broken(found)}, indent=1))
    return int(bool(broken(found)))


if __name__ == "__main__":
    sys.exit(main())
