"""Synthetic runs on disk, as `run` would have left them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthetic_runs import manifest

from lstm_harness import store
from lstm_harness.record import Record


def save(folder: Path, records: Iterable[Record], **fields: Any) -> Path:
    """Write a run of these records; `fields` replace those of its manifest."""
    kept = tuple(records)
    store.create(folder)
    store.write_manifest(folder, manifest(kept, **{"label": folder.name} | fields))
    with store.appender(folder) as to:
        for each in kept:
            to.append(each)
    return folder
