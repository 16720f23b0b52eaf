"""The sources of kernels: which files a plugin consists of, and digests of them."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

# They are the same for every plugin, wherever it lies.
_OURS = ("lstm_kernels", "lstm_harness")


def files_of(plugin: Path) -> list[Path]:
    """A plugin's file, and the modules of its folder that it imports, also one through another.

    Raises:
        FileNotFoundError: the plugin is not there.
    """
    found: list[Path] = []
    waiting = [plugin.absolute()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.append(file)
            for name in sorted(_imported(file)):
                waiting += _module(plugin.absolute().parent, name)
    return found


def _imported(file: Path) -> set[str]:
    """The packages and modules that a file imports; none of one that is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return set()
    names = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    names |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    return {name.partition(".")[0] for name in names}


def _module(folder: Path, name: str) -> list[Path]:
    """The files of a module, or of a whole package, in a folder; none where it is elsewhere."""
    if name in _OURS:
        return []
    file = folder / f"{name}.py"
    return [file] if file.is_file() else sorted((folder / name).rglob("*.py"))


def sources_digest(kernels: Path, plugins: Iterable[str]) -> str:
    """SHA-256 of the sources of `lstm_kernels` and of the plugins with their modules.

    Args:
        kernels: the folder that holds the package.
    Raises:
        OSError: one of them cannot be read.
    """
    files = sorted((kernels / "lstm_kernels").rglob("*.py"))
    return _digest([*files, *(file for each in sorted(plugins) for file in files_of(Path(each)))])


def plugin_digest(plugin: Path) -> str:
    """SHA-256 of a plugin's file; the modules that it imports from its folder come after it.

    Raises:
        OSError: one of them cannot be read.
    """
    return _digest(files_of(plugin))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
