"""One function over many arguments, on all cores: to read and compute, never to time."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lstm_harness.model.errors import MeasuringFailed

Given = TypeVar("Given")
Made = TypeVar("Made")


def each(function: Callable[[Given], Made], given: Sequence[Given], worth: bool) -> Iterator[Made]:
    """The function of each argument, in order; in this process if others are not worth it.

    Raises:
        MeasuringFailed: the system ended one of the processes.
    """
    cores = len(os.sched_getaffinity(0))
    if not worth or cores == 1 or len(given) < 2:
        yield from map(function, given)
        return
    # Fresh processes: a copy of this one may hold another thread's locks.
    spawn = multiprocessing.get_context("spawn")
    processes = min(cores, len(given))
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_leave_interrupts) as pool:
        try:
            yield from pool.map(function, given)
        except BrokenProcessPool:
            raise MeasuringFailed(
                "a process that reads the runs was killed; free some memory, then try again"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Leave Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
