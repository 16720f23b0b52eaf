"""What a process found or compiled, on disk for the next one, which then needs no Numba or LLVM.

Files are in NUMBA_CACHE_DIR, or next to the sources, or in the user's cache. A file's name holds a
digest of everything its content is made from, and its first line one of the content: a torn or
foreign file counts as missing. Every process writes the same file, in one step.

This holds on x86-64 under Linux only, and only if Numba's target is not set: otherwise nothing
is stored here, and Numba stores what it compiles.
"""

import hashlib
import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from lstm_kernels import user_cache

# The sources as imported: later changes on disk do not affect this process.
_SOURCES = [source.read_bytes() for source in sorted(Path(__file__).parent.glob("*.py"))]
_KNOWN_HERE = sys.platform == "linux" and platform.machine() == "x86_64"
# Settings that change the code that Numba makes; it also reads them from this file.
_VARIABLES = tuple(
    f"NUMBA_{name}" for name in ("CPU_NAME", "CPU_FEATURES", "ENABLE_AVX", "OPT", "DEBUGINFO")
)
_SETTINGS = Path(".numba_config.yaml")
_OF_A_CPU = ("vendor_id", "cpu family", "model", "stepping", "flags")


def read(name: str) -> bytes | None:
    """The stored content of a name, or None."""
    if not is_used():
        return None
    for folder in _folders():
        try:
            digest, _, content = file(folder, name).read_bytes().partition(b"\n")
        except OSError:
            continue
        if digest.decode(errors="replace") == hashlib.sha256(content).hexdigest():
            return content
    return None


def write(name: str, content: bytes) -> None:
    """Store it in the first place where that is possible; it is not an error if there is none."""
    if not is_used():
        return
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, delete=False) as fresh:
                try:
                    fresh.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                    fresh.close()
                    Path(fresh.name).replace(file(folder, name))
                except OSError:
                    Path(fresh.name).unlink(missing_ok=True)
                    raise
        except OSError:
            continue
        return


def is_told() -> bool:
    """Whether Numba's target is set."""
    config: Any = sys.modules.get("numba.core.config")
    told = config is not None and (config.CPU_NAME, config.CPU_FEATURES) != (None, None)
    return told or any(name in os.environ for name in _VARIABLES) or _SETTINGS.exists()


def is_used() -> bool:
    """Whether anything is stored or read here: else Numba stores what it compiles."""
    return _KNOWN_HERE and bool(_SOURCES) and not is_told()


def _folders() -> list[Path]:
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return [Path(given)]
    at_home = user_cache.folder("numba_cpu")
    return [Path(__file__).with_name("__pycache__"), *([at_home] if at_home else [])]


def file(folder: Path, name: str) -> Path:
    """The paths where something may be stored."""
    return folder / f"numba_cpu-{name}-{_digest()}.kept"


@cache
def _digest() -> str:
    return digest_with(*map(_version, ("numba", "llvmlite")), *_cpu())


def digest_with(*facts: str) -> str:
    """A digest of this package's sources, of the compiler, and of the target."""
    return hashlib.sha256(b"\0".join([*_SOURCES, *(fact.encode() for fact in facts)])).hexdigest()[
        :16
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _cpu() -> list[str]:
    """What the first core reports about itself: LLVM asks it the same."""
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return [line for line in lines if line.partition(":")[0].strip() in _OF_A_CPU]
