"""A store at a URL: read by a copy on this machine, written a whole run at a time.

Everything else works with folders of this machine. `fetched` makes one of a URL; `publish` creates
the files of a finished run at a URL, its manifest last. Each is created only if it is not there
yet, so of two writers of one name the first to create the records is the only one that goes on.
"""

import hashlib
import re
import shlex
from pathlib import Path
from typing import NoReturn

from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.text import without_secrets
from lstm_harness.store.files import write_file
from lstm_harness.store.mirror import DIGEST_OF, KINDS, Tell, brought_up_to_date
from lstm_harness.store.run_folder import DESTINATION, REPORT, RUN, Kind, create
from lstm_harness.store.url_folder import UrlFolder
from lstm_harness.store.url_folder import is_url as is_url


def fetched(url: str, tell: Tell = lambda done, total, label: None) -> Path:
    """A copy on this machine of the run, or of all runs, at a URL; only what changed is downloaded.

    Raises:
        UserError: no run is there, or the URL is not that of a folder.
        MeasuringFailed: it cannot be read, or not be kept here.
    """
    return brought_up_to_date(UrlFolder(url), tell)


def here(place: str | Path, tell: Tell = lambda done, total, label: None) -> Path:
    """The folder of a place: a URL's copy, or the path that it is.

    Raises:
        UserError, MeasuringFailed: see `fetched`.
    """
    return fetched(place, tell) if isinstance(place, str) and is_url(place) else Path(place)


def measured_in(url: str) -> Path:
    """The folder in which a run is measured that is to be published at a URL."""
    shown = without_secrets(url).rstrip("/")
    above, _, name = shown.partition("://")[2].rpartition("/")
    kept = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip(".-") for part in (above, name)]
    digest = hashlib.sha256(shown.encode()).hexdigest()[:8]
    return Path("results") / "runs" / f"{kept[0][-60:]}-{digest}".lstrip("-.") / (kept[1] or "run")


def begin(url: str, kind: Kind = RUN) -> Path:
    """The new folder in which a run for a URL is measured; the URL is noted there.

    Raises:
        UserError: the URL, or the folder, holds something already; or it can only be read.
        MeasuringFailed: the server cannot be asked.
    """
    refuse_taken(url)
    folder = measured_in(url)
    create(folder, kind)
    write_file(folder / DESTINATION, f"{without_secrets(url)}\n".encode())
    return folder


def begun(url: str) -> Path:
    """The folder in which a run for a URL was begun.

    Raises:
        UserError: none was begun here.
    """
    folder = measured_in(url)
    if not folder.is_dir():
        raise UserError(
            f"no run for {without_secrets(url)} was begun here: {folder} is not there; type this "
            "where it was begun, or start a new run with --out"
        )
    return folder


def publish_if_asked(folder: Path) -> str | None:
    """Publish a run that was begun with a URL, and return the URL; None for any other run.

    Raises:
        UserError, MeasuringFailed: see `publish`.
    """
    note = folder / DESTINATION
    if not note.is_file():
        return None
    url = content_of(note).decode().strip()
    publish(folder, url)
    note.unlink()
    return url


def refuse_taken(url: str) -> None:
    """Refuse a URL at which a new run cannot be published, before it is measured.

    Raises:
        UserError: it can only be read, or holds something of a run.
        MeasuringFailed: the server cannot be asked.
    """
    target = UrlFolder(url)
    target.refuse_read_only()
    for kind in KINDS:
        for name in (kind.manifest, kind.lines):
            if target.file(name):
                raise UserError(f"{target.shown} already has a {name}; give another --out")


def publish(folder: Path, url: str) -> None:
    """Create a finished run or training at a URL: whole, or without a manifest, which is none.

    What was published already is not written again.

    Raises:
        UserError: it is not finished, or the URL is that of another run, which stays as it is.
        MeasuringFailed: it cannot be written; the folder stays, and so does what to type.
    """
    kind = _kind_of(folder)
    manifest, lines = _finished(folder, kind)
    target = UrlFolder(url)
    target.refuse_read_only()
    try:
        _publish(folder, kind, manifest, lines, target)
    except MeasuringFailed as error:
        again = shlex.join(["lstm-bench", "publish", str(folder), target.shown])
        raise MeasuringFailed(f"{error}; nothing is lost: {again} tries again") from None


def _publish(folder: Path, kind: Kind, manifest: bytes, lines: bytes, target: UrlFolder) -> None:
    there = target.file(kind.manifest)
    if there:
        if target.content(there) != manifest:
            _refuse(folder, target)
        return
    if not target.create(kind.lines, lines):
        _refuse(folder, target)
    report = folder / REPORT
    if report.is_file():
        # It is derived, and nobody else has these records.
        target.replace(REPORT, content_of(report))
    if not target.create(kind.manifest, manifest):
        _refuse(folder, target)


def _kind_of(folder: Path) -> Kind:
    kind = next((kind for kind in KINDS if (folder / kind.manifest).is_file()), None)
    if kind is None:
        expected = " or ".join(kind.manifest for kind in KINDS)
        raise UserError(f"{folder} is not a run: it has no {expected}; give a run's folder")
    return kind


def _finished(folder: Path, kind: Kind) -> tuple[bytes, bytes]:
    """The manifest and the lines of a run that has ended.

    Raises:
        UserError: it has not, or its lines are not those that were written.
    """
    try:
        manifest = content_of(folder / kind.manifest)
        lines = content_of(folder / kind.lines, MOST_RECORDS_BYTES)
        stored = parsed(manifest)
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}; give a run's folder") from None
    except Broken as error:
        raise UserError(f"{folder / kind.manifest} {error}; expected a manifest") from None
    digest = stored.get(DIGEST_OF[kind]) if isinstance(stored, dict) else None
    if digest is None:
        raise UserError(f"{folder} has not ended, and is not published; {kind.go_on(folder)}")
    if digest != hashlib.sha256(lines).hexdigest():
        raise UserError(
            f"{folder}: {kind.lines} is not what was written, its SHA-256 is another; "
            "only what was measured is published"
        )
    return manifest, lines


def _refuse(folder: Path, target: UrlFolder) -> NoReturn:
    command = shlex.join(["lstm-bench", "publish", str(folder)])
    raise UserError(
        f"{target.shown} is another run's, which stays as it is; this run stays in {folder}: "
        f"{command} URL publishes it under another name"
    )
