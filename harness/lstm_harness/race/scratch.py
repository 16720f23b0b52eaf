"""Temporary folders, removed at the end; the next program removes those of a killed one."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "lstm-bench-scratch-"
# Locked as long as the program runs, however it ends.
_HELD = "held"
# A folder this young may be one whose program is about to lock it.
_YOUNG_S = 60.0


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder."""
    sweep()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name,
        (Path(name) / _HELD).open("w") as held,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        yield Path(name)


def sweep() -> None:
    """Remove the folders that killed programs of this user left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            facts = folder.lstat()
            if facts.st_uid != os.getuid() or time.time() - facts.st_mtime < _YOUNG_S:
                continue
            # A program that was killed before it locked its folder left no file to lock.
            with (folder / _HELD).open("a") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it is locked, or was just removed
            continue
