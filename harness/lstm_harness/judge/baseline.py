"""A baseline: a run's records under a name, reduced to what a verdict needs.

    results/baselines/NAME.jsonl    a header, then one (backend, case) a line, sorted

Small enough to review in a diff, and as precise as the run: a verdict against a baseline is the
verdict against the run that it was made from. Only this module and the store write results.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from lstm_harness.analysis.record_columns import case_of
from lstm_harness.analysis.summary import (
    CASE_COLUMNS,
    SEVERITY,
    plain_rows,
    summarise,
    summary_of,
)
from lstm_harness.model.case import Case
from lstm_harness.model.definitions import kept_with, learn
from lstm_harness.model.errors import UserError
from lstm_harness.model.manifest import check_environment
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.model.strict_json import Broken, parsed
from lstm_harness.model.typed import Stored, built
from lstm_harness.store.files import write_file
from lstm_harness.store.run_folder import Run

SCHEMA = 1
FOLDER = Path("results") / "baselines"
SUFFIX = ".jsonl"
# The parts of the environment that a later comparison reads or reports.
KEPT = (
    *("host", "os", "python", "cpu", "gpu", "torch", "cuda", "cudnn", "triton", "numba"),
    *("onnxruntime", "openvino", "jax"),
    *("git", "settings", "tuned"),
)
AGAIN = "restore the file, or save it again with lstm-bench baseline save RUN NAME --force"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Baseline:
    """One as read: the header, which answers where a manifest would, and the Summary."""

    path: Path
    header: dict[str, Any]
    summary: pd.DataFrame

    @property
    def name(self) -> str:
        """The name it goes by."""
        return self.path.name.removesuffix(SUFFIX)


def save(run: Run, name: str, folder: Path = FOLDER, replace: bool = False) -> Path:
    """Keep a run as a baseline and return the file's path.

    Raises:
        UserError: the name is taken or no plain file name, or the run has no records.
    """
    path = place_of(name, folder)
    if path.exists() and not replace:
        raise UserError(f"baseline {name!r} is taken: {path}; give another name, or --force")
    if not run.records:
        raise UserError(f"{run.folder} has no records; a baseline needs a run that measured")
    rows = plain_rows(summarise(run.records))
    several = len(run.machines) > 1
    lines = [_header(run, len(rows)), *(_line(row, several) for row in sorted(rows, key=_place))]
    content = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    write_file(path, content.encode())
    return path


def place_of(name: str, folder: Path = FOLDER) -> Path:
    """Where the baseline of a name lies.

    Raises:
        UserError: the name is not a plain file name.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name[:60]!r} is not a name for a baseline; expected letters, digits, dots, dashes, "
            "underscores, a letter or digit first, at most 100"
        )
    return folder / f"{name.removesuffix(SUFFIX)}{SUFFIX}"


def names(folder: Path = FOLDER) -> list[str]:
    """The baselines there, by name."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def read(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UserError: not there, torn, of a newer schema, or no baseline.
    """
    header, lines = _read(path)
    cells: dict[tuple[str, Case], dict[str, Any]] = {}
    for number, line in enumerate(lines, start=2):
        where = f"{path} line {number}"
        stored = _object(line, where)
        try:
            key, cell = _cell(stored, header.get("machine") or "")
        except KeyError as error:
            raise UserError(
                f"{where} is not a cell of a baseline: {error} is missing; {AGAIN}"
            ) from None
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise UserError(f"{where} is not a cell of a baseline: {error}; {AGAIN}") from None
        if key in cells:
            raise UserError(f"{where}: {key[0]} on {key[1].label()} appears twice; {AGAIN}")
        cells[key] = cell
    return Baseline(path, header, summary_of(cells))


def listed(folder: Path = FOLDER) -> tuple[list[dict[str, Any]], list[str]]:
    """What each baseline is of, by name, and what is wrong with those that cannot be read."""
    headers, broken = {}, []
    for name in names(folder):
        try:
            headers[name] = _read(folder / f"{name}{SUFFIX}")[0]
        except UserError as error:
            broken.append(str(error))
    rows = [
        {
            "name": name,
            "path": str(folder / f"{name}{SUFFIX}"),
            "run": header.get("id"),
            "start": header.get("start"),
            "saved": header.get("saved"),
            "cells": header["cells"],
            "records": header.get("records"),
            "commit": ((header["environment"].get("git") or {}).get("commit") or "")[:12] or None,
        }
        for name, header in headers.items()
    ]
    return rows, broken


def _read(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    try:
        content = content_of(path, MOST_RECORDS_BYTES)
    except OSError as error:
        raise UserError(f"cannot read baseline {path}: {error.strerror}") from None
    first, *lines = content.splitlines() or [b""]
    header = _object(first, f"{path} line 1")
    schema = header.get("baseline_schema")
    if not isinstance(schema, int):
        raise UserError(f"{path} is not a baseline: no baseline_schema in line 1; {AGAIN}")
    if schema > SCHEMA:
        raise UserError(
            f"{path} has schema {schema}; this lstm-bench reads up to {SCHEMA}: upgrade it"
        )
    if not content.endswith(b"\n") or len(lines) != header.get("cells"):
        raise UserError(
            f"{path} is torn: {len(lines)} lines of {header.get('cells')} after the first; {AGAIN}"
        )
    try:
        learn(header.get("definitions"), str(path))
        built(header, _Header, "its header")
        check_environment(header["environment"])
    except ValueError as error:
        raise UserError(f"{path} is not a baseline: {error}; {AGAIN}") from None
    return header, lines


@dataclass(frozen=True)
class _Header(Stored):
    """What is read from the first line in addition to the environment."""

    environment: Mapping[str, Any]
    plan: Mapping[str, Any]
    cells: int
    records: int | None = None
    id: str | None = None
    label: str | None = None
    suite: str | None = None
    start: str | None = None
    saved: str | None = None
    kernels_digest: str | None = None
    machine: str | None = None


@dataclass(frozen=True)
class _Cell(Stored):
    """A line: who on what, then what came of it; times and the rest where it is ok."""

    backend: str
    status: str
    reason: str = ""
    blocks: tuple[int, ...] = ()
    medians_ns: tuple[float, ...] = ()
    efforts: tuple[float | None, ...] = ()
    machines: tuple[str, ...] = ()
    samples: int = 0
    marked_share: float | None = None
    peak_bytes: tuple[float, ...] | None = None
    saved_bytes: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.status not in SEVERITY:
            raise ValueError(f"status {self.status!r}; expected one of {', '.join(SEVERITY)}")
        if self.status != "ok":
            return
        if not self.medians_ns or min(self.medians_ns) <= 0:
            raise ValueError(f"medians_ns is {list(self.medians_ns)}; expected times above 0")
        in_step = (set(self.blocks), self.blocks, self.medians_ns, self.efforts)
        counts = {len(each) for each in (*in_step, self.machines or self.blocks)}
        if len(counts) > 1:
            raise ValueError(
                "blocks, medians_ns, efforts and machines differ in length; expected equal lengths"
            )
        for name in ("peak_bytes", "saved_bytes"):
            if len(getattr(self, name) or (0, 0)) != 2:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected the least and the most"
                )


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        stored = parsed(line)
    except Broken as error:
        raise UserError(f"{where} {error}; {AGAIN}") from None
    if not isinstance(stored, dict):
        raise UserError(f"{where} is not an object; {AGAIN}")
    return stored


def _header(run: Run, cells: int) -> dict[str, Any]:
    manifest = run.manifest
    environment = manifest["environment"]
    kept = {name: environment[name] for name in KEPT if name in environment}
    power_mw = ((environment.get("start") or {}).get("gpu") or {}).get("power_limit_mw")
    if power_mw is not None:
        kept["start"] = {"gpu": {"power_limit_mw": power_mw}}
    copied = ("id", "label", "suite", "start", "command", "lstm_bench", "kernels_digest")
    return {
        "baseline_schema": SCHEMA,
        "cells": cells,
        "records": len(run.records),
        **({"machine": run.machines[0]} if len(run.machines) == 1 else {}),
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        **{name: manifest[name] for name in copied if name in manifest},
        **kept_with(record.case for record in run.records),
        "plan": {name: manifest["plan"].get(name) for name in ("device", "planned_records")},
        "environment": kept,
    }


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["backend"], *(row[name] for name in CASE_COLUMNS))


def _line(row: Mapping[str, Any], several: bool) -> dict[str, Any]:
    """One cell; times with a tenth of a ns, which is what the median of whole ones can have.

    Args:
        several: whether several machines measured the run, so that each block's is kept.
    """
    line = {"backend": row["backend"], **case_of(row).to_dict(), "status": row["status"]}
    if row["status"] != "ok":
        return line | {"reason": row["reason"], "checked": _checked(row)}
    return line | {
        "blocks": list(row["block_ids"]),
        "medians_ns": [_short(time) for time in row["block_medians_ns"]],
        "efforts": [_short(effort) for effort in row["block_efforts"]],
        **({"machines": list(row["block_machines"])} if several else {}),
        "samples": row["samples"],
        "marked_share": _short(row["marked_share"], 4),
        "checked": _checked(row),
        "peak_bytes": _range(row, "peak_bytes"),
        "saved_bytes": _range(row, "saved_bytes"),
    }


def _range(row: Mapping[str, Any], measure: str) -> list[float | int | None] | None:
    """The least and the most over blocks; None where nobody measured."""
    if math.isnan(row[measure]):
        return None
    return [_short(row[f"{measure}_low"]), _short(row[measure])]


def _checked(row: Mapping[str, Any]) -> str:
    if not row["errors"]:
        return "not checked"
    return "pass" if row["worst_error"] <= row["tolerance"] else "fail"


def _short(value: float, digits: int = 1) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = round(float(value), digits)
    return int(rounded) if rounded.is_integer() else rounded


def _cell(stored: Mapping[str, Any], machine: str) -> tuple[tuple[str, Case], dict[str, Any]]:
    """One line as the key and the columns of a Summary's cell.

    Args:
        machine: which one measured the run, if it was one; empty where that is not known.
    """
    cell: _Cell = built(stored, _Cell, "it")
    key = cell.backend, Case.from_dict(dict(stored))
    if cell.status != "ok":
        return key, {"status": cell.status, "reason": cell.reason}
    return key, {
        "blocks": len(cell.blocks),
        "samples": cell.samples,
        "marked_share": _number(cell.marked_share),
        "block_ids": cell.blocks,
        "block_medians_ns": cell.medians_ns,
        "block_efforts": tuple(map(_number, cell.efforts)),
        "block_machines": cell.machines or ((machine,) * len(cell.blocks) if machine else ()),
        "median_ns": median(cell.medians_ns),
        **_memory(cell.peak_bytes, "peak_bytes"),
        **_memory(cell.saved_bytes, "saved_bytes"),
    }


def _memory(kept: tuple[float, ...] | None, measure: str) -> dict[str, float]:
    if kept is None:
        return {}
    low, high = kept
    return {f"{measure}_low": low, measure: high}


def _number(stored: float | None) -> float:
    return math.nan if stored is None else stored
