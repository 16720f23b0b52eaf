"""Where lstm-bench stores its findings for this user, one folder for each kind of file."""

import os
from pathlib import Path


def folder(kind: str) -> Path | None:
    """The folder of one kind of file, which may not exist; None if there is no home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(cache) if cache else Path.home() / ".cache") / "lstm-bench" / kind
    except RuntimeError:
        return None
