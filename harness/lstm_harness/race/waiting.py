"""How long a worker and the harness waited for a core, as the system counts it."""

import os
from contextlib import suppress

_LONGEST_LINE = 128


class Waiting:
    """The waiting of a process's main thread and of the thread that made this, together.

    Their files stay open, because a worker may execute while they are read, and opening takes much
    longer than reading. See schedstat in the kernel's sched-stats.rst.
    """

    def __init__(self, pid: int) -> None:
        self._files: list[int] = []
        for task in (f"/proc/{pid}", "/proc/thread-self"):
            with suppress(OSError):  # this system does not report it
                self._files.append(os.open(f"{task}/schedstat", os.O_RDONLY))

    def ns(self) -> int:
        """How long they waited so far; 0 if it is unknown."""
        waited_ns = 0
        for file in self._files:
            with suppress(OSError, IndexError):  # the process ended
                waited_ns += int(os.pread(file, _LONGEST_LINE, 0).split()[1])
        return waited_ns

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())
