"""Is the list of a store of 1,000 runs soon made, soon brought up to date and soon of use?

Exits with 1 where it is not. Each run has 80 cells in 5 blocks, as `quick` does, an hour after the
one before. Seconds are CPU seconds, of every process that takes part; until interactive by the
clock, in Chromium, the best of three: from the address until the filter has answered.

PYTHONPATH=kernels:harness:tests/support python tests/perf/index_scale.py
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import synthetic_runs
import synthetic_store
from kept_limits import kept
from opened_pages import opened

from lstm_harness.site import catalogue, index
from lstm_harness.store import run_folder

RUNS, BLOCKS, SAMPLES = 1_000, 5, 30
# So many runs differ in their times; then they come again.
DIFFERENT = 10
FIRST_S, AGAIN_S, INTERACTIVE_S = 120.0, 2.0, 2.0
BYTES, PAGE_BYTES = 1e9, 4e6
AXES = {"seq_len": (32, 128), "batch": (1, 16), "hidden_size": (128, 256)}
WHOM = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
# Types into the filter as soon as it stands; tells when that has hidden every card.
WATCH = """
window.found = new Promise((found) => {
  const look = () => {
    const filter = document.querySelector("#filter");
    if (filter && !filter.value) {
      filter.value = "no run is called so";
      filter.dispatchEvent(new Event("input", { bubbles: true }));
    }
    const cards = [...document.querySelectorAll(".card")];
    if (cards.length && cards.every((card) => card.hidden)) {
      requestAnimationFrame(() => found(performance.now()));
    } else setTimeout(look, 10);
  };
  look();
});
"""


def make(folder: Path) -> None:
    """Write the runs."""
    for number in range(RUNS):
        place = folder / f"run-{number:04}"
        began = (synthetic_store.BEGAN + timedelta(hours=number)).isoformat()
        if number < DIFFERENT:
            records = synthetic_runs.grid(
                block_count=BLOCKS, sample_count=SAMPLES, seed=number, **AXES
            )
            synthetic_store.put(place, records, start=began)
            continue
        known = folder / f"run-{number % DIFFERENT:04}"
        manifest = run_folder.read_manifest(known) | {"id": place.name, "start": began}
        place.mkdir()
        (place / run_folder.MANIFEST).write_text(json.dumps(manifest))
        shutil.copyfile(known / run_folder.RECORDS, place / run_folder.RECORDS)


def collect(folder: Path, out: Path) -> None:
    """Write the store's index page; print the CPU seconds that took, and the bytes held."""
    before = _cpu_seconds()
    found = catalogue.collect([folder])
    out.write_text(index.render(found, served=True), "utf-8")
    assert len(found.runs) == RUNS, found.left_out
    peak = sum(resource.getrusage(who).ru_maxrss for who in WHOM) * 1024
    print(_cpu_seconds() - before, peak)


def _cpu_seconds() -> float:
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, WHOM))


def collected(folder: Path, out: Path) -> tuple[float, float]:
    """CPU seconds and bytes of a fresh process that writes the index page."""
    command = [sys.executable, __file__, "--collect", str(folder), "--out", str(out)]
    caches = os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=caches)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def judge(scratch: Path) -> bool:
    """Make the store, measure its list, and print a line for each limit."""
    folder, page = scratch / "store", scratch / "index.html"
    make(folder)
    first_s, peak_bytes = collected(folder, page)
    again_s, _ = collected(folder, page)
    limits = [
        ("first list in", first_s, FIRST_S, "s"),
        ("list again in", again_s, AGAIN_S, "s"),
        ("peak of", peak_bytes / 1e9, BYTES / 1e9, "GB"),
        ("page of", page.stat().st_size / 1e6, PAGE_BYTES / 1e6, "MB"),
        ("filter answers after", min(opened(page, WATCH)) / 1e3, INTERACTIVE_S, "s"),
    ]
    return kept(f"{RUNS:,} runs", limits)


def main() -> int:
    """Judge; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collect", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        collect(options.collect, options.out)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        return 0 if judge(Path(scratch)) else 1


if __name__ == "__main__":
    sys.exit(main())
