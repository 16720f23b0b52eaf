"""Folders of runs with known truth, made without measuring anything."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import synthetic_runs

from lstm_harness.model.record import Record
from lstm_harness.store import run_folder

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def put(folder: Path, records: Iterable[Record], **fields: Any) -> Path:
    """Write a run that ended; `fields` replace those of its manifest."""
    kept = list(records)
    run_folder.create(folder)
    lines = "".join(json.dumps(record.to_dict()) + "\n" for record in kept)
    sealed = {"records_sha256": hashlib.sha256(lines.encode()).hexdigest()}
    manifest = synthetic_runs.manifest(kept, **({"id": folder.name} | sealed | fields))
    # Without waiting for the disk, of which thousands of runs would make minutes.
    (folder / run_folder.MANIFEST).write_text(json.dumps(manifest))
    (folder / run_folder.RECORDS).write_text(lines)
    return folder


def start(day: int) -> str:
    """The start of a run, so many days after the first."""
    return (BEGAN + timedelta(days=day)).isoformat()


def environment(**changed: Any) -> dict[str, Any]:
    """A machine's environment, some of it changed."""
    return synthetic_runs.environment() | changed


def series(
    folder: Path,
    times_ns: Sequence[int],
    *,
    first_day: int = 0,
    backend: str = "naive",
    of: Any = None,
    **fields: Any,
) -> None:
    """A run a day of one backend and case, each with this median in three blocks."""
    measured_on = fields.pop("environment", environment())
    name = fields.pop("id", folder.name)
    for day, time_ns in enumerate(times_ns, start=first_day):
        git = {"git": {"commit": f"{day:040x}", "dirty": False}}
        put(
            folder / f"run-{day:03}",
            synthetic_runs.blocks(backend, [time_ns] * 3, of=of),
            id=f"{name}-{day:03}",
            start=start(day),
            environment=measured_on | git,
            **fields,
        )
