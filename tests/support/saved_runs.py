"""Synthetic runs on disk, as `run` would have left them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthetic_runs import manifest

from lstm_harness.model.record import Record
from lstm_harness.store import run_folder


def save(folder: Path, records: Iterable[Record], **fields: Any) -> Path:
    """Write a run of these records; `fields` replace those of its manifest."""
    kept = tuple(records)
    run_folder.create(folder)
    run_folder.write_manifest(folder, manifest(kept, **{"label": folder.name} | fields))
    with run_folder.appender(folder) as to:
        for each in kept:
            to.append(each)
    return folder


def save_finished(folder: Path, records: Iterable[Record], **fields: Any) -> Path:
    """Write a run of these records that has ended: its manifest has their digest."""
    save(folder, records, **fields)
    digest = hashlib.sha256((folder / run_folder.RECORDS).read_bytes()).hexdigest()
    kept = run_folder.read_manifest(folder)
    run_folder.write_manifest(folder, kept | {"records_sha256": digest})
    return folder
