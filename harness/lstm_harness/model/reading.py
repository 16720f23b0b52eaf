"""What a file holds: the one place where one is opened to be read."""

import errno
import os
import stat
from pathlib import Path

# More than any of our files needs, except records: a run may have a million of them.
MOST_BYTES = 256 << 20
MOST_RECORDS_BYTES = 16 << 30


def content_of(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """What a file holds. It does not wait for anything that is not a file, such as a pipe.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `most_bytes`.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if facts.st_size > most_bytes:
            size = f"it has {facts.st_size:,} bytes; at most {most_bytes:,} are read"
            raise OSError(errno.EFBIG, size, str(path))
        return file.read()
