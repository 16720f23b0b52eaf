"""Files from installed packages, read without importing the packages."""

import importlib.util
from pathlib import Path


def folder(package: str) -> Path:
    """The folder of a package.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(spec.submodule_search_locations[0])
