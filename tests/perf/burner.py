"""A neighbour that takes every core in bursts: what a judge must keep its head beside.

    python tests/perf/burner.py [SEED]      until it is ended

Each core has a process of its own. Bursts, and the gaps between them, last 0.1 to 20 s, drawn
evenly in their logarithm from the seed; a burst is arithmetic or a copying of memory, by turns of
chance.
"""

import ctypes
import math
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

SHORTEST_S, LONGEST_S = 0.1, 20.0
# A product that stays in the first caches, and a copy that no cache holds.
SIDE = 128
COPIED_BYTES = 64 << 20


@contextmanager
def burning(seed: int) -> Iterator[None]:
    """Burn every core this process may use while the block lasts."""
    spawn = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    burners = [spawn.Process(target=_burn, args=(seed, core, os.getpid())) for core in cores]
    # Libraries that a burner imports read this once: one core each.
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for burner in burners:
        burner.start()
    del os.environ["OPENBLAS_NUM_THREADS"]
    if threads is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = threads
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.join()


def _burn(seed: int, core: int, parent: int) -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("whom it was to burn for is gone")
    chance = random.Random(f"{seed}/{core}")
    os.sched_setaffinity(0, {core})
    square = np.ones((SIDE, SIDE), np.float32)
    source = np.ones(COPIED_BYTES, np.uint8)
    target = np.empty_like(source)
    while True:
        ends = time.monotonic() + _spell_s(chance)
        copies = chance.random() < 0.5
        while time.monotonic() < ends:
            if copies:
                np.copyto(target, source)
            else:
                square @ square
        time.sleep(_spell_s(chance))


def _spell_s(chance: random.Random) -> float:
    return math.exp(chance.uniform(math.log(SHORTEST_S), math.log(LONGEST_S)))


def main() -> None:
    """Burn until interrupted."""
    with burning(int(sys.argv[1]) if len(sys.argv) > 1 else 0):
        signal.pause()


if __name__ == "__main__":
    main()
