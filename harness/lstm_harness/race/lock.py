"""One run at a time on a device: a file lock named by the GPU's UUID, or the host for a CPU."""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lstm_harness.model.errors import MeasuringFailed


@contextmanager
def device_lock(identity: str) -> Iterator[None]:
    """Hold a device for this process; the system frees it when the process ends, however it does.

    Raises:
        MeasuringFailed: another run holds it; the message gives its process id.
    """
    name = re.sub(r"[^A-Za-z0-9.-]", "_", identity)
    path = Path(tempfile.gettempdir()) / f"lstm-bench-{name}.lock"
    descriptor, ours = _open(path)
    with os.fdopen(descriptor, "r+" if ours else "r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip()
            raise MeasuringFailed(
                f"another run measures on {identity} (process {holder}); two at once would slow "
                "each other: wait for it, or stop it"
            ) from None
        if ours:
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
            f"cannot lock the device with {path}: {error.strerror}; remove that file, or set TMPDIR"
        ) from None
