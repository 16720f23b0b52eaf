"""Are pages of 1,000 and 10,000 cells of the grid small, soon made and soon of use?

Exits with 1 where one is not. Seconds are CPU seconds of the process that makes the page; seconds
until interactive are by the clock, in Chromium: from the address until the map has answered a click
and the first plot is drawn; the best of three, for others may use the machine.

PYTHONPATH=kernels:harness:tests/support python tests/perf/report_scale.py
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import synthetic_runs
from kept_limits import kept
from known_limits import cpu_limits
from opened_pages import opened

from lstm_harness.analysis.floors.floor import with_floor
from lstm_harness.report.write import write_report


@dataclass(frozen=True)
class Size:
    """A page's cells, and what it may cost; None where nothing is promised."""

    cells: int
    blocks: int
    samples: int
    axes: dict[str, tuple[int, ...]]
    made_s: float
    peak_bytes: float | None
    page_bytes: float
    interactive_s: float


SIZES = (
    Size(
        1_000,
        5,
        50,
        {"seq_len": (16, 32, 64, 128, 256), "batch": (1, 4, 16, 64, 256)}
        | {"hidden_size": (64, 128, 256, 512)},
        made_s=5,
        peak_bytes=1e9,
        page_bytes=8e6,
        interactive_s=2,
    ),
    Size(
        10_000,
        3,
        30,
        {"seq_len": (8, 16, 32, 64, 96, 128, 256, 384, 512, 1024)}
        | {"batch": (1, 2, 4, 8, 16, 32, 64, 96, 128, 256)}
        | {"hidden_size": (32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)},
        made_s=30,
        peak_bytes=None,
        page_bytes=25e6,
        interactive_s=5,
    ),
)


def make(size: Size, out: Path) -> None:
    """Make the run, then its page, and print the CPU seconds and bytes of the second."""
    ceilings = cpu_limits()
    records = synthetic_runs.grid(block_count=size.blocks, sample_count=size.samples, **size.axes)
    run = synthetic_runs.run(
        [with_floor(record, ceilings) for record in records], limits=ceilings.to_dict()
    )
    assert len(run.records) == size.cells * size.blocks
    before = time.process_time()
    write_report([run], out)
    print(time.process_time() - before, peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process has held, the run it reports on included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def interactive_s(page: Path) -> tuple[float, float]:
    """Seconds until a click on the map is answered, and until the first plot is drawn as well."""
    answered, drawn = min(opened(page, WATCH), key=lambda times: times[1])
    return answered / 1e3, drawn / 1e3


# Clicks the map's first square as soon as it stands, and tells when the page had answered it and
# when a plot's marks were there; both in ms since the page was asked for.
WATCH = """
window.found = new Promise((found) => {
  let answered = null;
  const look = () => {
    const button = document.querySelector("#map-table button");
    if (button && answered === null) {
      button.click();
      if (button.getAttribute("aria-pressed") === "true") answered = performance.now();
    }
    if (answered !== null && document.querySelector(".plot .points path")) {
      requestAnimationFrame(() => found([answered, performance.now()]));
    } else setTimeout(look, 10);
  };
  look();
});
"""


def judge(size: Size, folder: Path) -> bool:
    """Measure one size in processes of its own, and print a line for each limit."""
    page = folder / f"{size.cells}.html"
    command = [sys.executable, __file__, "--make", str(size.cells), "--out", str(page)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    answered, drawn = interactive_s(page)
    print(f"{size.cells:,} cells: the map answers after {answered:.2f} s")
    limits = [
        ("made in", float(said[0]), size.made_s, "s"),
        ("page of", page.stat().st_size / 1e6, size.page_bytes / 1e6, "MB"),
        ("first plot after", drawn, size.interactive_s, "s"),
    ]
    if size.peak_bytes is not None:
        limits.append(("peak of", float(said[1]) / 1e9, size.peak_bytes / 1e9, "GB"))
    else:
        print(f"{size.cells:,} cells: peak of {float(said[1]) / 1e9:.2f} GB (no limit)")
    return kept(f"{size.cells:,} cells", limits)


def main() -> int:
    """Judge every size; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(next(size for size in SIZES if size.cells == options.make), options.out)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        passed = [judge(size, Path(scratch)) for size in SIZES]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
