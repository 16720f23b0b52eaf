"""Is a board of 10,000 runs brought up to date in time when a run is added? Exits 1 where not.

PYTHONPATH=kernels:harness:tests/support python tests/perf/board_scale.py --runs 10000

Makes a synthetic store of runs of 100 records on ten classes of device, a plugin of its own in one
run of ten, and its site; then adds a run and brings the site up to date by the command line, in a
fresh process, three times. The fastest counts: neighbours only ever lengthen a time. Reports and
comparisons of the runs that were there before are placeholders, which nothing reads; those of the
runs that are added are real. Prints one JSON document. 10,000 runs take 2 GB in TMPDIR and some
twenty minutes, nearly all of them to prepare.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import synthetic_runs
import synthetic_store
from history_scale import cpu_seconds, resident_bytes

from lstm_harness.store import run_folder

CLASSES, CHANGES = 10, 3
BLOCKS, SAMPLES = 5, 10
AXES = {"seq_len": (32, 128), "batch": (1,), "hidden_size": (128,)}
BACKENDS = ("per_gate", "naive", "hoisted", "aten", "numba_cpu")
RECORDS = len(BACKENDS) * BLOCKS * 4
PLUGIN_IN = 10
MOST_S, MOST_BYTES = 10.0, 2e9


def put(store: Path, number: int) -> None:
    """Write a run; those of a class repeat the records of its first ones."""
    which, variant = number % CLASSES, number // CLASSES % PLUGIN_IN
    known = store.parent / "records" / f"{which}-{variant}"
    began = (synthetic_store.BEGAN + timedelta(hours=number)).isoformat()
    if not known.exists():
        backends = (*BACKENDS[:-1], "mine") if variant == 0 else BACKENDS
        records = synthetic_runs.grid(
            backends, block_count=BLOCKS, sample_count=SAMPLES, seed=number, **AXES
        )
        cpu = {"model": f"CPU {which}", "physical_cores": 8, "threads": 8}
        synthetic_store.put(known, records, environment=synthetic_store.environment(cpu=cpu))
    place = store / f"run-{number:05}"
    own = {"id": place.name, "start": began}
    if variant == 0:
        digest = hashlib.sha256(place.name.encode()).hexdigest()
        own["plugins"] = [{"file": "mine.py", "sha256": digest, "backends": ["mine"]}]
    manifest = json.loads((known / run_folder.MANIFEST).read_text())
    place.mkdir(parents=True)
    (place / run_folder.MANIFEST).write_text(json.dumps(manifest | own))
    shutil.copyfile(known / run_folder.RECORDS, place / run_folder.RECORDS)


def prepare(store: Path, site: Path) -> None:
    """Write the site, with placeholders for what a change does not read."""
    from lstm_harness.site import catalogue, static_site, updates

    def here(function: Callable, given: list, worth: bool) -> map:
        return map(function, given)

    updates.each = here
    static_site.page.render = static_site.verdicts.render = lambda *_: "placeholder"
    catalogue.compared = lambda *_: (None, None)
    static_site.write([store], site)


def change(store: Path, site: Path, number: int) -> dict[str, float]:
    """Add a run, bring the site up to date, and say what that took."""
    put(store, number)
    before = made(site)
    command = [sys.executable, "-m", "lstm_harness", "report", str(store), "--site", str(site)]
    started, cpu_before, peak = time.perf_counter(), cpu_seconds(), 0
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(0.1)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_before
    after = made(site)
    assert process.returncode == 0
    assert f"runs/run-{number:05}/report.html" in (site / "index.html").read_text()
    changed = sum(before.get(path) != at for path, at in after.items())
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_bytes": peak,
        "pages_made": changed,
        "pages": len(after),
    }


def made(site: Path) -> dict[str, int]:
    """When each page was made."""
    places = (Path(folder, name) for folder, _, names in os.walk(site) for name in names)
    pages = (place for place in places if place.suffix in (".html", ".xml"))
    return {str(page): page.stat().st_mtime_ns for page in pages}


def main() -> int:
    """Make the store and its site, change it, judge; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--prepare", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(*options.prepare)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        store, site = Path(scratch) / "store", Path(scratch) / "site"
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        for number in range(options.runs):
            put(store, number)
        started = time.perf_counter()
        subprocess.run([sys.executable, __file__, "--prepare", store, site], check=True)
        prepared = time.perf_counter() - started
        changes = [change(store, site, options.runs + number) for number in range(CHANGES)]
    least = min(one["seconds"] for one in changes)
    peak = max(one["peak_bytes"] for one in changes)
    kept = least < MOST_S and peak < MOST_BYTES
    told = {
        "runs": options.runs,
        "records": options.runs * RECORDS,
        "classes": CLASSES,
        "prepared_seconds": round(prepared, 1),
        "changes": changes,
        "limits": {"seconds": MOST_S, "peak_bytes": MOST_BYTES},
        "kept": kept,
    }
    print(json.dumps(told, indent=1))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
