"""Is a board of 10,000 runs brought up to date in time when a run is added? Exits 1 where not.

PYTHONPATH=kernels:harness:tests/support python tests/perf/board_scale.py --runs 10000

Makes a synthetic store of runs of 100 records on ten device classes, a plugin of its own in one
run of ten, and its site; then adds a run and brings the site up to date by the command line, in a
fresh process, three times. The limit is on CPU seconds, of all processes together, which neighbours
do not lengthen, and the least of the three counts. Reports and
comparisons of the runs that were there before are placeholders, which nothing reads; those of the
runs that are added are real. With --real all are, which takes about a second of CPU time a run.
Prints one JSON document. 10,000 runs take 2 GB in TMPDIR.
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
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import synthetic_runs
import synthetic_store
from history_scale import cpu_seconds, resident_bytes

from lstm_harness.report import page, verdicts
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
    """Write the site, with placeholders for what a change does not read.

    Runs with the same records are read, summed up and judged once: a hundred of them differ.
    """
    from lstm_harness.judge import comparison
    from lstm_harness.site import cards, catalogue, static_site, updates
    from lstm_harness.site.board import told

    run_folder.load = _loaded_once(run_folder.load)
    comparison.summarise = told.summarise = _once(comparison.summarise, id)
    comparison.compare_sides = _once(
        comparison.compare_sides, lambda base, new, *_: (id(base.summary), id(new.summary))
    )
    page.headline = _once(page.headline, id)
    cards.each = told.each = updates.each = lambda function, given, worth: map(function, given)
    page.render = verdicts.render = lambda *_, **__: "placeholder"
    catalogue.compared = lambda *_: (None, None)
    static_site.write([store], site)


def _once(function: Callable, key: Callable) -> Callable:
    """The function, called once for each key of its arguments, which live as long."""
    known: dict = {}

    def called(*given):
        name = key(*given)
        if name not in known:
            known[name] = function(*given), given
        return known[name][0]

    return called


def _loaded_once(load: Callable) -> Callable:
    """Reading a run, its records once for each digest of them."""
    known: dict = {}

    def loaded(folder: Path):
        manifest = run_folder.read_manifest(folder)
        digest = manifest["records_sha256"]
        if digest not in known:
            known[digest] = load(folder)
        return replace(known[digest], folder=folder, manifest=manifest)

    return loaded


def command(store: Path, site: Path) -> list[str]:
    """The command line that writes a site or brings it up to date."""
    written = [sys.executable, "-m", "lstm_harness", "report", str(store), "--site", str(site)]
    return [*written, "--quiet"]


def sizes(site: Path) -> dict[str, int]:
    """Bytes of a site's pages, of what they share, and of the runs' own files."""
    found = dict.fromkeys(("pages", "shared", "runs"), 0)
    for folder, _, names in os.walk(site):
        for name in names:
            kinds = {".html": "pages", ".xml": "pages", ".js": "shared", ".css": "shared"}
            found[kinds.get(Path(name).suffix, "runs")] += Path(folder, name).stat().st_size
    return found


def change(store: Path, site: Path, number: int) -> dict[str, float]:
    """Add a run, bring the site up to date, and say what that took."""
    put(store, number)
    before = made(site)
    started, cpu_before, peak = time.perf_counter(), cpu_seconds(), 0
    process = subprocess.Popen(command(store, site), stdout=subprocess.DEVNULL)
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
    parser.add_argument("--real", action="store_true", help="no page is a placeholder")
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
        started, cpu_before = time.perf_counter(), cpu_seconds()
        placeholders = [sys.executable, __file__, "--prepare", str(store), str(site)]
        subprocess.run(
            command(store, site) if options.real else placeholders,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        prepared, prepared_cpu = time.perf_counter() - started, cpu_seconds() - cpu_before
        changes = [change(store, site, options.runs + number) for number in range(CHANGES)]
        total = sizes(site)
    least = min(one["cpu_seconds"] for one in changes)
    peak = max(one["peak_bytes"] for one in changes)
    kept = least < MOST_S and peak < MOST_BYTES
    told = {
        "runs": options.runs,
        "records": options.runs * RECORDS,
        "classes": CLASSES,
        "real_pages": options.real,
        "prepared_seconds": round(prepared, 1),
        "prepared_cpu_seconds": round(prepared_cpu, 1),
        "changes": changes,
        "bytes": total,
        "limits": {"cpu_seconds": MOST_S, "peak_bytes": MOST_BYTES},
        "kept": kept,
    }
    print(json.dumps(told, indent=1))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
