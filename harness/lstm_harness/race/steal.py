"""Time that the hypervisor took from this machine."""

import os
from contextlib import suppress
from functools import cache

# The first line of proc(5), stat, is shorter.
_FIRST_LINE = 256


def steal_ms() -> float:
    """Time the hypervisor took from this machine since it started, in ms; 0 if unknown."""
    file = _file()
    if file is None:
        return 0.0
    fields = os.pread(file, _FIRST_LINE, 0).partition(b"\n")[0].split()
    return float(fields[8]) * 10 if len(fields) > 8 else 0.0


@cache
def _file() -> int | None:
    """Opened once: it is read before and after each sample, and opening takes longer."""
    with suppress(OSError):
        return os.open("/proc/stat", os.O_RDONLY)
    return None
