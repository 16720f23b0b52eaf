"""A folder at a URL: its files are listed, read and created there, by fsspec.

An error of a file system ends here in one line. Credentials are those that fsspec finds by itself;
none of a URL is shown or kept.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.text import shorten, without_secrets
from lstm_harness.store.files import create_whole, replace_whole

# Schemes at which a file appears whole, and only where there is none: S3's If-None-Match, Google's
# ifGenerationMatch, Azure's, and a hard link.
WRITTEN = {
    **dict.fromkeys(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"), "service"),
    **dict.fromkeys(("file", "local"), "disk"),
    "memory": "service",
}
# Of these one request lists a whole tree.
_LISTED_AT_ONCE = frozenset(WRITTEN) - {"file", "local", "memory"}
_WEB = frozenset({"http", "https"})
# Of a web server no deeper folders are looked into, and no more: it may have no end of them.
DEEPEST = 12
MOST_FOLDERS = 100_000
CHUNK_BYTES = 64 << 20
# Requests that are made of a server at the same time.
AT_ONCE = 16
# A request that fails is made again after each of these.
PAUSES_S = (0.2, 1.0)

# What changes with a file's content, as the file systems name it.
_MARKS = (
    *("ETag", "etag", "generation", "md5Hash", "content_md5", "Content-MD5", "Digest", "ino"),
    *("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "created", "size"),
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Failures that another try would meet again.
_PERMANENT = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError)

Done = TypeVar("Done")


def is_url(text: str) -> bool:
    """Whether a place is a URL; any other is a folder or file of this machine."""
    return _URL.match(text) is not None


@dataclass(frozen=True)
class File:
    """A file below a URL.

    `path` is relative to the URL, `mark` is a text that changes with the content, and `size` is in
    bytes; a web server may not tell it.
    """

    path: str
    size: int | None
    mark: str


class UrlFolder:
    """The folder at a URL; nothing is asked of the server until a method is called.

    Raises:
        UserError: no file system of that scheme is known or installed, or the URL is not that of
            a folder.
    """

    def __init__(self, url: str) -> None:
        self.shown = without_secrets(url).rstrip("/")
        self.scheme = url.partition("://")[0].lower()
        if re.search(r"[?#]", url):
            raise UserError(f"{self.shown} goes on with ? or #; expected the URL of a folder")
        self._system, root = _opened(url, self.shown)
        self._root = root.rstrip("/")

    def refuse_read_only(self) -> None:
        """Refuse a URL at which no run can be written whole or not at all.

        Raises:
            UserError: it is one.
        """
        if self.scheme not in WRITTEN:
            raise UserError(
                f"{self.shown} can only be read: {self.scheme} cannot create a file whole or not "
                "at all; give a folder, or a URL of s3, gs, az or file"
            )

    def files(self, names: Collection[str]) -> list[File]:
        """The files of these names, in the folder and below it; none if nothing is there.

        Raises:
            MeasuringFailed: it cannot be listed.
            UserError: a path there cannot be one on this machine.
        """
        with self._told("cannot list"):
            self._system.invalidate_cache()
            if self.scheme not in _WEB:
                listed = _tried(lambda: [*self._listed()])
                return [self._file(info) for info in listed if _name(info) in names]
            # A web server may list nothing, and still have a run there.
            here = [file for name in names if (file := self._looked_up(name)) is not None]
            if here:
                return here
            listed = [info for info in _tried(lambda: [*self._listed()]) if _name(info) in names]
            # A page that lists files says nothing else of them.
            with ThreadPoolExecutor(AT_ONCE) as pool:
                described = [*pool.map(lambda info: self._system.info(info["name"]), listed)]
            return [self._file(info) for info in described]

    def file(self, path: str) -> File | None:
        """The file at a path; None if there is none.

        Raises:
            MeasuringFailed: the server does not tell.
        """
        with self._told(f"cannot read {path} of"):
            self._system.invalidate_cache()
            return _tried(lambda: self._looked_up(path))

    def chunks(self, file: File) -> Iterator[bytes]:
        """The content of a file in order; a server that stops early gives too few bytes.

        Raises:
            MeasuringFailed: it cannot be read.
        """
        place, doing = self._place(file.path), f"cannot read {file.path} of"
        if file.size is None:
            # Its length is known only at its end.
            with self._told(doing), self._system.open(place, "rb", block_size=0) as stream:
                while content := stream.read(CHUNK_BYTES):
                    yield content
            return
        at = 0
        while at < file.size:
            end = min(at + CHUNK_BYTES, file.size)
            with self._told(doing):
                content = _tried(partial(self._system.cat_file, place, start=at, end=end))
            if not content:
                return
            yield content
            at += len(content)

    def create(self, path: str, content: bytes) -> bool:
        """Create a file, whole; False if another one is there, which is not touched.

        A file of the same content counts as this one: an answer may be lost.

        Raises:
            MeasuringFailed: it cannot be created.
        """
        place = self._place(path)
        with self._told(f"cannot write {path} to"):
            try:
                _tried(lambda: self._create(place, content))
            except Exception:  # it is raised again, unless the answer alone was lost
                found = None
                with suppress(MeasuringFailed):
                    found = self.file(path)
                if found is None:
                    raise
                return found.size == len(content) and self.content(found) == content
        return True

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whole, instead of what is there.

        Raises:
            MeasuringFailed: it cannot be written.
        """
        place = self._place(path)
        with self._told(f"cannot write {path} to"):
            if WRITTEN[self.scheme] == "disk":
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                replace_whole(Path(place), content)
            else:
                _tried(lambda: self._system.pipe_file(place, content))

    def content(self, file: File) -> bytes:
        """All of a file that is not large."""
        return b"".join(self.chunks(file))

    def _create(self, place: str, content: bytes) -> None:
        if WRITTEN[self.scheme] == "disk":
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            create_whole(Path(place), content)
        else:
            self._system.pipe_file(place, content, mode="create")

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        """What fsspec knows of every file below the folder."""
        if self.scheme in _LISTED_AT_ONCE:
            with suppress(FileNotFoundError):
                found = self._system.find(self._root, detail=True)
                yield from (info for path, info in found.items() if path != self._root)
            return
        folders, asked = [(self._root, 0)], 0
        while folders:
            folder, depth = folders.pop()
            asked += 1
            if asked > MOST_FOLDERS and self.scheme in _WEB:
                most = f"more than {MOST_FOLDERS:,} folders"
                raise UserError(f"{self.shown} lists {most}; give the URL of a folder in it")
            try:
                entries = self._system.ls(folder, detail=True)
            except FileNotFoundError:
                # Removed since its parent was listed; the URL itself may not exist either.
                continue
            for entry in entries:
                is_deep = depth >= DEEPEST and self.scheme in _WEB
                if entry["type"] == "directory" and not is_deep:
                    folders.append((entry["name"].rstrip("/"), depth + 1))
                elif entry["type"] == "file" and entry["name"] != self._root:
                    yield entry

    def _looked_up(self, path: str) -> File | None:
        try:
            info = self._system.info(self._place(path))
        except FileNotFoundError:
            return None
        return self._file(info) if info["type"] == "file" else None

    def _file(self, info: Mapping[str, Any]) -> File:
        path = info["name"].removeprefix(self._root).lstrip("/")
        self._refuse_unsafe(path)
        mark = "; ".join(f"{name} {info[name]}" for name in _MARKS if info.get(name) is not None)
        return File(path, info.get("size"), mark)

    def _refuse_unsafe(self, path: str) -> None:
        """Refuse a path that would lead out of a folder, or cannot be one."""
        parts = path.split("/")
        unsafe = any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        if unsafe or not path.isprintable() or "\\" in path:
            said = shorten(path, 80)
            raise UserError(
                f"{self.shown} holds {said!r}, which is not safe as a path; rename it there"
            )

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn what any file system raises into one line."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - each file system has errors of its own
            reason = shorten(without_secrets(str(error) or type(error).__name__), 200)
            raise MeasuringFailed(f"{doing} {self.shown}: {reason}") from None


def _name(info: Mapping[str, Any]) -> str:
    name: str = info["name"]
    return name.rpartition("/")[2]


def _opened(url: str, shown: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise UserError(
            f"{shown} needs fsspec, which is not installed here: pip install 'lstm-bench[store]'"
        ) from None
    try:
        system, root = url_to_fs(url)
    except ImportError as error:
        raise UserError(
            f"{shown}: {error}; for s3 and http: pip install 'lstm-bench[store]'"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{shown}: {without_secrets(str(error))}; expected s3, gs, az, https, http or file"
        ) from None
    return system, root


def _tried(operation: Callable[[], Done]) -> Done:
    """The operation, again after a failure that may pass."""
    for pause_s in PAUSES_S:
        try:
            return operation()
        except _PERMANENT:
            raise
        except Exception:  # noqa: BLE001 - each file system has errors of its own
            time.sleep(pause_s)  # a busy service asks for a pause
    return operation()
