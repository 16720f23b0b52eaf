"""The sources of kernels, as one digest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sources_digest(kernels: Path, plugins: Iterable[str]) -> str:
    """SHA-256 of the sources of `lstm_kernels` and of the plugins.

    Args:
        kernels: the folder that holds the package.
    Raises:
        OSError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for path in (*sorted((kernels / "lstm_kernels").rglob("*.py")), *map(Path, sorted(plugins))):
        digest.update(path.read_bytes())
    return digest.hexdigest()
