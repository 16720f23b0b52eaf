"""One run at a time on a device: a file lock named by the GPU's UUID, or the host for a CPU.

The file lies in one place a machine, /tmp, whatever TMPDIR says: two runs that do not see each
other's lock would slow each other. LSTM_BENCH_LOCKS names another folder.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lstm_harness.model.errors import MeasuringFailed

FOLDER = Path("/tmp")
VARIABLE = "LSTM_BENCH_LOCKS"


@contextmanager
def device_lock(identity: str, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a device for this process; the system frees it when the process ends, however it does.

    Args:
        waiting: where given, another run's end is waited for; told whose that is, once.
    Raises:
        MeasuringFailed: another run holds it; the message gives its process id.
    """
    name = re.sub(r"[^A-Za-z0-9.-]", "_", identity)
    path = Path(os.environ.get(VARIABLE) or FOLDER) / f"lstm-bench-{name[:100]}.lock"
    descriptor, ours = _open(path)
    with os.fdopen(descriptor, "r+" if ours else "r", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = f"another run measures on {identity} (process {file.read(20).strip()})"
            if waiting is None:
                raise MeasuringFailed(
                    f"{holder}; two at once would slow each other: wait until it ends, as "
                    "lstm-bench run --wait does, or stop it"
                ) from None
            waiting(holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        if ours:
            file.seek(0)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _open(path: Path) -> tuple[int, bool]:
    """Open the lock's file, and tell whether it may be written: another user may own it."""
    try:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), True
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW), False
    except OSError as error:
        raise MeasuringFailed(
            f"cannot lock the device with {path}: {error.strerror}; remove that file, or name "
            f"another folder in {VARIABLE}"
        ) from None
