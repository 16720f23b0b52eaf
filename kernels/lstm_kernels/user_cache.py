"""Where lstm-bench keeps what it found for this user, a folder a kind of file."""

import os
from pathlib import Path


def folder(kind: str) -> Path | None:
    """The folder of one kind of file, which need not be there; None where there is no home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(cache) if cache else Path.home() / ".cache") / "lstm-bench" / kind
    except RuntimeError:
        return None
