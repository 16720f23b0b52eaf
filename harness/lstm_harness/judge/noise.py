"""The machine's own noise, case by case, as `selftest` measured it.

Kept for a user in one file a machine and thread count, under the cache folder. Of a (backend, case)
it has two figures. The largest difference between A and A that any of the last selftests saw is a
margin for later verdicts. The spread of its blocks tells what a later `check` can see. Nothing is
kept of what was measured while the machine was disturbed.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.judge.verdict import Key, Verdict, rows_by_key
from lstm_harness.model.case import CALL_FIELDS, PLAIN
from lstm_harness.model.errors import UserError
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import parsed
from lstm_harness.model.typed import Stored, built
from lstm_harness.store import cache_folder

SCHEMA = 1
# Selftests whose differences are remembered; an older one was another machine, in effect.
MOST_REMEMBERED = 20
# Where the heads and the call stand in a key, which begins with the backend and ends with the call.
_HEADS = 1 + CASE_COLUMNS.index("heads")
_CALL = 1 + CASE_COLUMNS.index(CALL_FIELDS[0])


@dataclass(frozen=True)
class MachineNoise:
    """The margins of a machine, as ratios less one, and the file they are kept in.

    `spreads` are the standard deviations of the logarithms of a case's block medians.
    """

    file: Path
    margins: Mapping[Key, float]
    spreads: Mapping[Key, float]


def kept(environment: Mapping[str, Any]) -> MachineNoise:
    """What earlier selftests on this machine found; nothing where there was none.

    Raises:
        UserError: the file is there and cannot be understood.
    """
    file = file_of(environment)
    cases = _read(file)
    margins = {entry.key: max(entry.differences) for entry in cases}
    spreads = {entry.key: median(entry.spreads) for entry in cases if entry.spreads}
    return MachineNoise(file, margins, spreads)


def keep(
    environment: Mapping[str, Any],
    verdicts: Iterable[Verdict],
    spreads: Mapping[Key, float] | None = None,
) -> MachineNoise:
    """Add how much A against A differed to what was known; return what is known now.

    Args:
        spreads: those of the cases' blocks; see `spreads_of`.
    Raises:
        UserError: what was kept cannot be understood, or nothing can be kept.
    """
    file, seen = file_of(environment), spreads or {}
    entries = _read(file)
    differences = {entry.key: entry.differences for entry in entries}
    spread = {entry.key: entry.spreads for entry in entries}
    for verdict in verdicts:
        if verdict.measure == "time" and math.isfinite(verdict.q):
            key = (verdict.backend, *verdict.case.values())
            difference = math.expm1(abs(math.log(verdict.ratio)))
            differences[key] = _remembered(differences.get(key, ()), difference)
            if key in seen:
                spread[key] = _remembered(spread.get(key, ()), seen[key])
    lines = [
        json.dumps({"cell": list(cell), "differences": values, "spreads": spread.get(cell, ())})
        for cell, values in sorted(differences.items(), key=lambda item: str(item[0]))
    ]
    content = "\n".join([json.dumps({"schema": SCHEMA}), *lines]) + "\n"
    cache_folder.keep(file, content.encode(), "this machine's noise")
    return kept(environment)


def spreads_of(base: pd.DataFrame, new: pd.DataFrame) -> dict[Key, float]:
    """How blocks spread in A against A, by (backend, *case), from the Summaries of both sides.

    It is the standard deviation of the logarithms of their medians, each side about its own mean.
    """
    there, here = rows_by_key(base), rows_by_key(new)
    spreads = {}
    for key in there.keys() & here.keys():
        sides = [np.log(row[key]["block_medians_ns"]) for row in (there, here)]
        if min(map(len, sides)) > 1:
            squares = sum(float(((side - side.mean()) ** 2).sum()) for side in sides)
            spreads[key] = math.sqrt(squares / (sum(map(len, sides)) - len(sides)))
    return spreads


def _remembered(known: tuple[float, ...], latest: float) -> tuple[float, ...]:
    return (*known, round(latest, 5))[-MOST_REMEMBERED:]


def file_of(environment: Mapping[str, Any]) -> Path:
    """Where a machine's noise lies: the same hardware with the same number of threads."""
    cpu, gpu = environment.get("cpu") or {}, environment.get("gpu") or {}
    what = [environment.get("host"), cpu.get("model"), cpu.get("threads"), gpu.get("uuid")]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return cache_folder.folder("noise") / f"{digest}.jsonl"


@dataclass(frozen=True)
class _Head(Stored):
    schema: int


@dataclass(frozen=True)
class _Entry(Stored):
    """A backend and its case's values, and what A and A differed by, the last selftest last.

    What earlier versions kept has no `spreads`, and neither has a backend's cases together.
    """

    cell: tuple[str | int | float | bool | None, ...]
    differences: tuple[float, ...]
    spreads: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.differences or min(*self.differences, *self.spreads, math.inf) < 0:
            raise ValueError(
                f"differences are {self.differences} and spreads {self.spreads}; expected numbers "
                "from 0 on"
            )

    @property
    def key(self) -> Key:
        """As a verdict has it; what was kept before there were heads or calls has plain ones."""
        cell = self.cell
        if len(cell) == _CALL - 1:
            cell = (*cell[:_HEADS], 1, *cell[_HEADS:])
        if len(cell) == _CALL:
            cell += tuple(getattr(PLAIN, name) for name in CALL_FIELDS)
        return cell


def _read(file: Path) -> list[_Entry]:
    try:
        lines = content_of(file).splitlines() or [b""]
        head, *entries = map(parsed, lines)
        schema = built(head, _Head, "its first line").schema
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema}; this lstm-bench reads {SCHEMA}")
        return [built(entry, _Entry, "a line of it") for entry in entries]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}; remove it") from None
    except ValueError as error:
        raise UserError(
            f"{file} is not the noise of a machine ({error}); remove it, then lstm-bench selftest"
        ) from None
