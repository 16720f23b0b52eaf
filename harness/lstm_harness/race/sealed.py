"""What a worker handed over, moved out of its reach before it is read."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lstm_harness.model.protocol import Handed
from lstm_harness.race.process import Failed, WorkerProcess

_F_ADD_SEALS = 1033  # fcntl.h; Python names it from 3.13 on
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # no more seals, no shrinking, no growing, no writing
# The kernel refuses while it looks at a page itself, too, which passes; a mapping stays.
_TRIES, _PAUSE_S = 10, 0.05


def _seal(descriptor: int) -> None:
    """Seal; the kernel refuses while anyone could write through a mapping."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or not left:
                raise
        time.sleep(_PAUSE_S)  # the kernel tells nobody when it is done


class Sealed:
    """Tensors in memory that nobody can change any more; `close` frees it."""

    def __init__(self, worker: WorkerProcess, handed: Handed) -> None:
        """Take what a worker handed over.

        Raises:
            Failed: it is not shared memory, or the worker can still change it (`crashed`).
        """
        self.handed = handed
        try:
            self._descriptor = os.open(f"/proc/{worker.pid}/fd/{handed.descriptor}", os.O_RDWR)
        except OSError as error:
            raise Failed("crashed", f"the worker handed nothing over: {error.strerror}") from None
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise Failed("crashed", "what the worker handed over is not shared memory")
            _seal(self._descriptor)
        except OSError as error:
            self.close()
            reason = f"the worker could still change what it handed over: {error.strerror}"
            raise Failed("crashed", reason) from None
        except Failed:
            self.close()
            raise

    @property
    def place(self) -> str:
        """The path by which another of our processes finds it."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def close(self) -> None:
        """Free the memory."""
        os.close(self._descriptor)


@contextmanager
def sealed(worker: WorkerProcess, handed: Handed) -> Iterator[Sealed]:
    """What a worker handed over, as long as it is used."""
    taken = Sealed(worker, handed)
    try:
        yield taken
    finally:
        taken.close()
