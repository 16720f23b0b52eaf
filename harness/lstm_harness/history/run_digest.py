"""What `history` stores of one run: a time or status for each (backend, case), and its machine.

A store may hold thousands of runs, so that a whole run is not loaded here: `quick` reads only what
is needed and checks all of it. Everything that it cannot read goes to `run_folder.load` and
`summary.summarise`, which say what is wrong with it, or find that it is right.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lstm_harness.analysis.record_columns import case_of
from lstm_harness.model.case import CALL_FIELDS, Case
from lstm_harness.model.definitions import learn
from lstm_harness.model.errors import UserError
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.model.record import SCHEMA, SEVERITY
from lstm_harness.model.strict_json import parsed
from lstm_harness.model.text import printable
from lstm_harness.store import run_folder

# A machine's own name; another one starts another series.
_CPU_MACHINE = ("host", "cpu.model")
_GPU_MACHINE = ("host", "gpu.name", "gpu.uuid")
# Facts across which a series' times are not compared, in addition to every setting.
_CPU_FACTS = (
    *("os", "python", "torch", "numba"),
    *("cpu.generation", "cpu.physical_cores", "cpu.threads", "cpu.capability"),
)
_GPU_FACTS = ("cuda", "cudnn", "triton", "gpu.driver", "start.gpu.power_limit_mw")


class Digest(NamedTuple):
    """The digest of one run.

    `machine` and `environment` are JSON objects as text, by dotted name. `cells` maps a backend
    and a case, as JSON text, to its median in ns, or to its status if it is not ok. `lacks` is
    how many of the planned records are missing. `definitions` are its cells that are not built
    in, without which its cases cannot be read. `sha256` is that of its records, empty if it has not
    ended; `parts` are those of the runs that were merged into it.
    """

    id: str
    start: str
    commit: str
    machine: str
    environment: str
    cells: dict[tuple[str, str], float | str]
    lacks: int
    definitions: tuple[Mapping[str, Any], ...] = ()
    sha256: str = ""
    parts: tuple[str, ...] = ()


def read(folder: Path) -> Digest:
    """The digest of a run.

    Raises:
        UserError: what is wrong with the run, in one line.
    """
    try:
        return quick(folder)
    except (AttributeError, IndexError, KeyError, OSError, RecursionError, TypeError, ValueError):
        return thorough(folder)


def thorough(folder: Path) -> Digest:
    """The digest of a run by way of its Summary.

    Raises:
        UserError: what is wrong with the run, in one line.
    """
    from lstm_harness.analysis.summary import plain_rows, summarise

    run = run_folder.load(folder)
    rows = plain_rows(summarise(run.records))
    times = {
        (row["backend"], _case_of(row)): row["median_ns"]
        if row["status"] == "ok"
        else row["status"]
        for row in rows
    }
    try:
        return _digest(run.manifest, times, len(run.records))
    except (TypeError, ValueError):
        start = run.manifest["start"]
        raise UserError(
            f"{folder / run_folder.MANIFEST} says it started at {start!r}; expected a time"
        ) from None


def _case_of(row: Mapping[str, Any]) -> str:
    """The case of a Summary's row, as JSON text."""
    return _text(case_of(row))


def quick(folder: Path) -> Digest:
    """The digest of a run without errors.

    Raises:
        AttributeError, IndexError, KeyError, OSError, RecursionError, TypeError, ValueError: it
            is not, or only `thorough` can tell.
    """
    manifest = parsed(content_of(folder / run_folder.MANIFEST))
    learn(manifest.get("definitions"), str(folder / run_folder.MANIFEST))
    plan = manifest["plan"]
    _need(type(manifest["schema"]) is int and manifest["schema"] <= SCHEMA)
    _need(all(name in manifest for name in ("spec", "seed", "kernels_digest")))
    names = [printable(backend) for backend in plan["backends"]]
    planned = {(backend, _key(case)) for case in plan["cases"] for backend in names}
    times: dict[tuple[str, str], list[float]] = {}
    failed: dict[tuple[str, str], str] = {}
    seen = set()
    for record in _records(folder / run_folder.RECORDS):
        cell, block = (printable(record["backend"]), _key(record)), record["block"]
        _need(type(block) is int and 0 <= block < plan["blocks"] and cell in planned)
        _need((cell, block) not in seen)
        seen.add((cell, block))
        status = _status(record)
        if status == "ok":
            times.setdefault(cell, []).append(_median(record["samples_ns"]))
        else:
            failed[cell] = max(status, failed.get(cell, "ok"), key=SEVERITY.index)
    cells: dict[tuple[str, str], float | str] = {c: _median(t) for c, t in times.items()}
    return _digest(manifest, cells | failed, len(seen))


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        content = content_of(path, MOST_RECORDS_BYTES)
    except FileNotFoundError:
        return []
    # Without the torn last line, as `run_folder.load` reads it; in one go, which is twice as fast.
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    records: list[dict[str, Any]] = json.loads(b"[" + b",".join(lines) + b"]")
    _need(len(records) == len(lines))
    return records


def _status(record: Mapping[str, Any]) -> str:
    """A record's status, by its own evidence first (see `analysis.summary`)."""
    status: str = record["status"]
    samples, reason = record.get("samples_ns", ()), record.get("reason", "")
    _need(type(record["schema"]) is int and record["schema"] <= SCHEMA)
    _need(type(record["order"]) is int and type(record.get("inner_repeats", 1)) is int)
    _need(type(record["backend"]) is str and type(reason) is str and status in SEVERITY)
    unranked = record.get("unranked", "")
    _need(type(unranked) is str)
    stands = "error" if unranked else status
    if status != "ok":
        _need(bool(reason) and not samples)
        return stands
    _need(not reason and set(map(type, samples)) == {int} and min(samples) > 0)
    tolerance, errors = record.get("tolerance"), record.get("errors", {})
    if tolerance is not None and errors:
        known = [math.inf if error is None else error for error in errors.values()]
        if not all(error <= tolerance for error in known):
            return "incorrect"
    return stands


def _digest(
    manifest: Mapping[str, Any], cells: Mapping[tuple[str, str], float | str], records: int
) -> Digest:
    environment, device = manifest["environment"], manifest["plan"]["device"]
    return Digest(
        id=printable(str(manifest["id"])),
        start=utc(manifest["start"]),
        commit=str(_flat(environment).get("git.commit") or ""),
        machine=json.dumps(machine(environment, device)),
        environment=json.dumps(conditions(environment, device)),
        cells=dict(cells),
        lacks=max(0, int(manifest["plan"].get("planned_records") or 0) - records),
        definitions=tuple(manifest.get("definitions") or ()),
        sha256=str(manifest.get("records_sha256") or ""),
        parts=parts_of(manifest),
    )


def parts_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The SHA-256 of the records of every run that was merged into this one."""
    return tuple(str(part["records_sha256"]) for part in manifest.get("parts") or ())


def machine(environment: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The machine of a run's times, by dotted names of its environment."""
    flat = _flat(environment)
    return {name: flat.get(name) for name in (_CPU_MACHINE if device == "cpu" else _GPU_MACHINE)}


def conditions(environment: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What must be the same to compare two times of one machine, by the same names."""
    flat = _flat(environment)
    facts = [*_CPU_FACTS, *(_GPU_FACTS if device != "cpu" else ())]
    facts += sorted(name for name in flat if name.startswith(("settings.", "tuned.")))
    return {name: flat.get(name) for name in facts}


def utc(moment: str) -> str:
    """A stored time in UTC, so that times sort as texts; one that names no zone is taken for it.

    Raises:
        ValueError: it is not a time.
    """
    then = datetime.fromisoformat(moment)
    try:
        return then.replace(tzinfo=then.tzinfo or UTC).astimezone(UTC).isoformat()
    except OverflowError:
        raise ValueError(f"{moment!r}: expected a time in the years 1 to 9999 of UTC") from None


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, names joined by dots; lists as text."""
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            flat |= _flat(inner, f"{prefix}{name}.")
        else:
            kept = str(inner) if isinstance(inner, list) else inner
            flat[f"{prefix}{name}"] = printable(kept) if isinstance(kept, str) else kept
    return flat


def _key(stored: Mapping[str, Any]) -> str:
    """The case that a record or a plan stores, as JSON text."""
    place = {name: stored[name] for name in ("pass", "launch", "cache", "device")}
    place |= {name: stored[name] for name in CALL_FIELDS if name in stored}
    return _case_text(tuple(stored["problem"].items()), tuple(place.items()))


@lru_cache(maxsize=100_000)
def _case_text(problem: tuple[tuple[str, Any], ...], place: tuple[tuple[str, Any], ...]) -> str:
    return _text(Case.from_dict({"problem": dict(problem), **dict(place)}))


def _text(case: Case) -> str:
    return json.dumps(case.to_dict())


def _median(values: list[Any]) -> float:
    """As `statistics.median`, several times faster for a list of numbers."""
    ordered: list[float] = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def _need(condition: bool) -> None:
    if not condition:
        raise ValueError
