"""A worker: the only process that touches a device. It answers requests, one JSON object a line.

`python -m lstm_harness.worker --device cpu --threads 2` reads requests from its standard input and
writes replies to what was its standard output; everything else that is printed goes to standard
error. The messages are those of `lstm_harness.model.protocol`. Before it imports anything that
takes long, it makes sure that it ends with the process that started it.
"""

import argparse
import ctypes
import os
import signal
import sys
from typing import Any


def _own_standard_output() -> Any:
    """Reserve standard output for replies; prints, also from C, go to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _die_with_parent(parent: int) -> None:
    """On Linux, be killed when the harness is: a hung backend must not outlive it."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the harness is gone")


def _cores(text: str) -> set[int]:
    return {int(core) for core in text.split(",")}


def main() -> None:
    """Run a worker until its standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--cores", type=_cores, default=None, help="run on these alone, as 0,1")
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    replies = _own_standard_output()
    _die_with_parent(given.parent)

    import torch

    from lstm_harness.worker import environment
    from lstm_harness.worker.handlers import Worker
    from lstm_harness.worker.serving import serve

    torch.set_num_threads(given.threads or environment.physical_cores())
    if given.cores:
        os.sched_setaffinity(0, given.cores)
    serve(Worker(given.device), replies)


if __name__ == "__main__":
    main()
