"""A file written whole or not at all: a kill leaves the old one or the new one."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lstm_harness.model.errors import UserError
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of

_UNFINISHED = ".new"
# A path has one slash of a URL's two.
_URL_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def replace_whole(path: Path, content: bytes) -> None:
    """Replace what is there by a file, once all of it is on the disk.

    Raises:
        OSError: it cannot be written, or its folder is not there; what was there stays.
    """
    with _written_first(path, content) as fresh:
        fresh.replace(path)


def create_whole(path: Path, content: bytes) -> None:
    """Create a file, once all of it is on the disk, where there is none.

    Raises:
        FileExistsError: one is there, which stays as it is.
        OSError: it cannot be written, or its folder is not there.
    """
    with _written_first(path, content) as fresh:
        # Unlike a rename, a link never replaces a file, on a shared disk either.
        os.link(fresh, path)
        fresh.unlink()


@contextmanager
def _written_first(path: Path, content: bytes) -> Iterator[Path]:
    """A temporary file with this content, next to a path; it is removed after a failure."""
    fresh = unfinished(path)
    try:
        # Never follow a link that somebody else put there.
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield fresh
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise


def unfinished(path: Path) -> Path:
    """A temporary path next to a file, where it is written first."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")


def is_unfinished(path: Path, name: str) -> bool:
    """Whether this is what a killed program left while it wrote a file of that name."""
    return path.name.startswith(f"{name}.") and path.name.endswith(_UNFINISHED)


def refuse_url(path: Path) -> None:
    """Refuse a URL that was taken for a path, which would become a folder named after a scheme.

    Raises:
        UserError: it is one.
    """
    if _URL_AS_PATH.match(str(path)):
        raise UserError(f"cannot write {path}: it is a URL; expected a path of this machine")


def refuse_unwritable(path: Path) -> None:
    """Refuse, before any work, a path at which no file can be written.

    Raises:
        UserError: it names no file, it is a folder or a URL, or nothing can be created there.
    """
    refuse_url(path)
    if not path.name or path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file's name")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"cannot write {path}: {above} is not a folder; give another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: {above} is not writable for you; give another place")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that the user named, and make its folder if it does not exist.

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
    """Store a result that can be computed again, as JSON with its digest, if that is possible.

    If it is not possible, the computation takes as long the next time.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    with suppress(OSError):
        replace_whole(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def derived(path: Path) -> dict[str, Any] | None:
    """What `keep_derived` stored; None if it is missing or was changed."""
    try:
        digest, _, text = content_of(path, MOST_RECORDS_BYTES).partition(b"\n")
    except OSError:
        return None
    if digest != hashlib.sha256(text).hexdigest().encode():
        return None
    kept: dict[str, Any] = json.loads(text)
    return kept
