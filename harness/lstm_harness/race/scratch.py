"""Folders for what nobody keeps, gone at the end; a killed program's are swept by the next."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "lstm-bench-scratch-"
# Held as long as the program lives, however it ends.
_HELD = "held"
# A folder so young may be one whose program is about to hold it.
_YOUNG_S = 60.0


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what nobody keeps."""
    sweep()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name,
        (Path(name) / _HELD).open("w") as held,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        yield Path(name)


def sweep() -> None:
    """Remove what programs of this user left that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            facts = folder.lstat()
            if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < _YOUNG_S:
                continue
            # One that was killed before it held it left no file to hold.
            with (folder / _HELD).open("a") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it is held, or just gone
            continue
