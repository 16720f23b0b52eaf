"""Files as they are read and written: bounded and regular; whole or not at all.

A kill leaves the old one or the new one.
"""

import errno
import hashlib
import json
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from lstm_harness.model.errors import UserError

_UNFINISHED = ".new"
# More than anything of ours but records, of which a run may have a million.
MOST_BYTES = 256 << 20
MOST_RECORDS_BYTES = 16 << 30


def content_of(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """What a file holds. Whatever is no file, a pipe say, is not waited for.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `most_bytes`.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if facts.st_size > most_bytes:
            size = f"it has {facts.st_size:,} bytes, and at most {most_bytes:,} are read"
            raise OSError(errno.EFBIG, size, str(path))
        return file.read()


def replace_whole(path: Path, content: bytes) -> None:
    """Put a file in the place of what is there, once all of it is on the disk.

    Raises:
        OSError: it cannot be written, or its folder is not there; what was there stays.
    """
    fresh = unfinished(path)
    try:
        # Never through a link that somebody else put there.
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise


def unfinished(path: Path) -> Path:
    """A new place beside a file, where it is until it is whole."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")


def is_unfinished(path: Path, name: str) -> bool:
    """Whether this is what a kill left of writing a file of that name."""
    return path.name.startswith(f"{name}.") and path.name.endswith(_UNFINISHED)


def refuse_unwritable(path: Path) -> None:
    """Refuse, before any work, a path at which no file can be written.

    Raises:
        UserError: it names no file, or a folder, or lies where nothing can be made.
    """
    if not path.name or path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file's name")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"cannot write {path}: {above} is no folder; give another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: {above} is not yours to write; give another place")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that the user named, in a folder that is made where it lacks.

    Raises:
        UserError: it cannot be written.
    """
    refuse_unwritable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another place") from None


def keep_derived(path: Path, content: dict[str, Any]) -> None:
    """Keep what can be found again, as JSON under its digest, where that can be.

    Where it cannot, finding it takes as long the next time.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    with suppress(OSError):
        replace_whole(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def derived(path: Path) -> dict[str, Any] | None:
    """What `keep_derived` kept, to the letter; None where it is not there or not that any more."""
    try:
        digest, _, text = content_of(path, MOST_RECORDS_BYTES).partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(text).hexdigest().encode():
        return None
    kept: dict[str, Any] = json.loads(text)
    return kept
