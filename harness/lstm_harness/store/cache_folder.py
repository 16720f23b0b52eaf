"""What is kept for this user between commands: ceilings, noise, what was read of stores."""

import hashlib
import os
import tempfile
from pathlib import Path

from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.store.files import replace_whole


def folder(kind: str) -> Path:
    """The folder for files of one kind; it may not exist yet."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user may have no home
        home = Path(tempfile.gettempdir())
    return home / "lstm-bench" / kind


def of_store(store: Path, kind: str) -> Path:
    """Where what is derived of a store is kept; it may not exist yet."""
    name = hashlib.sha256(os.fsencode(store.resolve())).hexdigest()[:16]
    return folder("stores") / f"{name}.{kind}"


def keep(path: Path, content: bytes, what: str) -> None:
    """Write a file of the cache, and make its folder if it does not exist.

    Args:
        what: the name of the content, for a message.
    Raises:
        MeasuringFailed: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, content)
    except OSError as error:
        raise MeasuringFailed(
            f"cannot keep {what} in {path}: {error.strerror}; set XDG_CACHE_HOME to a folder "
            "that can be written"
        ) from None
