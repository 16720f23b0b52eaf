"""Processes that a worker started: they are found, and ended with it.

A process that leaves its worker's process group, or loses its parent, stays below the process that
workers are forked from, or the program itself: both adopt orphans below them.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_CHILDREN_TIMES = slice(13, 15)  # proc(5), stat: cutime and cstime, from what follows the name


@contextmanager
def no_strangers() -> Iterator[None]:
    """At the end, end all processes that were started below this one, also orphans.

    Processes that should continue must exist before.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    before = _children(os.getpid())
    try:
        yield
    finally:
        end_below(os.getpid(), but=before)


def end_below(pid: int, but: Collection[int] = ()) -> int:
    """End every process below another, except some and those below them; return how many."""
    ended: set[int] = set()
    while strangers := [each for each in _beside(pid, but) if each not in ended]:
        for each in strangers:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
            ended.add(each)
    return len(ended)


def _beside(pid: int, but: Collection[int]) -> list[int]:
    """Every process below another, except some and those below them."""
    found = [each for each in _children(pid) if each not in but]
    for each in found:
        found += _children(each)
    return found


def has_not_ended(pid: int) -> bool:
    """Whether a process exists and is not just a zombie."""
    return _fields(pid)[:1] not in ([], ["Z"], ["X"])


def children_ms(pid: int) -> float:
    """The CPU time of processes that ended below another, and that it waited for."""
    ticks = sum(map(int, _fields(pid)[_CHILDREN_TIMES]))
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    """The children of a process, of all its threads, that have not ended."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it has just ended
                found += map(int, (thread / "children").read_text().split())
    return [child for child in found if has_not_ended(child)]


def _fields(pid: int) -> list[str]:
    """The fields of proc(5), stat, after a process's name, its state first."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []
