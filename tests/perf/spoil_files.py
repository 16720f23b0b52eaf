"""Spoil files and read them, without end: the seeds go on where the tests' stop.

    python tests/perf/spoil_files.py [KIND ...] [--seed FIRST] [--seconds HOW_LONG]

Every failure is told with the kind and the seed that repeat it, once a place where it failed; ends
with 1 where there was one.
"""

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("kernels", "harness", "tests/support")]

from spoilt_files import KINDS, Spoiling  # noqa: E402 - found on the path above


def main() -> int:
    """Go on until interrupted, or for so long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=[], help=", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=0, metavar="FIRST")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    ends = time.monotonic() + given.seconds
    failures: dict[tuple[str, str], int] = {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = str(Path(name) / "cache")
        os.chdir(name)
        spoilings = {}
        for kind in given.kinds or KINDS:
            folder = Path(name) / kind
            folder.mkdir()
            spoilings[kind] = Spoiling(KINDS[kind], folder)
        for seed in itertools.count(given.seed):
            if time.monotonic() > ends:
                break
            for kind, spoiling in spoilings.items():
                _once(spoiling, kind, seed, failures)
    print(f"seeds {given.seed} to {seed - 1}: {len(failures)} places failed")
    return 1 if failures else 0


def _once(spoiling: Spoiling, kind: str, seed: int, failures: dict[tuple[str, str], int]) -> None:
    try:
        spoiling.once(random.Random(seed))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the next is tried
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = kind, f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
        if place not in failures:
            failures[place] = seed
            print(f"{kind}, seed {seed}: {place[1]}: {str(error)[:300]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
