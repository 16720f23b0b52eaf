"""What runs measured of backends, for `backend="auto"`: a small file for each class of devices.

    {"schema": 1, "device": {...},
     "runs": [{"id": ..., "start": ..., "torch": ..., "kernels": the digest of their sources}],
     "rows": [{"problem": {...}, "use": "inference" or "training", "run": its place in runs,
               "median_ns": by backend, the fastest first,
               "tied": the fastest, and those that tie with it,
               "order": the backend to take, the next if it cannot run, down to PyTorch's own}]}

`lstm-bench run` stores its results in `user_folder()`; the results of the published runs come
with the package, in `SHIPPED`. The places in `order` are decided where the file is made
(`lstm_harness.analysis.for_auto`).

The user's own results count only if they are from this minor version of torch and these exact
sources of the kernels; shipped results, if they are from this minor version of torch, with any
kernels. A broken file is skipped with a warning: it never stops a forward.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

from lstm_kernels import tuning, user_cache
from lstm_kernels.problem import Problem

SCHEMA = 1
USES = ("inference", "training")
SHIPPED = Path(__file__).with_name("shipped")
MOST_BYTES = 64 << 20
# The kinds of device that have measurements.
KINDS = ("cpu", "cuda")


@dataclass(frozen=True)
class DeviceClass:
    """Devices that share results.

    `name` is the model's. A CPU's `instructions` are torch's name of the set that it uses
    ("AVX2", "AVX512"), and `threads` how many torch computes with; a GPU has "" and 0.
    """

    kind: str
    name: str
    instructions: str = ""
    threads: int = 0

    def label(self) -> str:
        """Like "AMD EPYC, AVX512, 2 threads"."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return ", ".join(part for part in (self.name, self.instructions, threads) if part)

    def file_name(self) -> str:
        """The name of the file for such devices."""
        words = re.findall("[a-z0-9]+", f"{self.kind} {self.label()}".lower())
        return f"{'-'.join(words)}.json"


@dataclass(frozen=True)
class MeasuredRun:
    """A run of the harness: `start` in UTC, torch's version, the digest of the kernels' sources."""

    id: str
    start: str
    torch: str
    kernels: str


@dataclass(frozen=True)
class Row:
    """How fast each backend was on a problem, in inference or in training; see above."""

    problem: Problem
    use: str
    run: MeasuredRun
    median_ns: Mapping[str, float]
    tied: tuple[str, ...]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """A file: what was measured on a class of devices."""

    device: DeviceClass
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Source:
    """Rows that are valid here and now, whose they are, and why others were skipped."""

    whose: str
    rows: tuple[Row, ...] = ()
    refused: str = ""


def own_on(kind: str) -> tuple[str, ...]:
    """The backends of torch.nn's own layer on such a device: the first that can run."""
    return ("cudnn", "aten") if kind == "cuda" else ("aten",)


def user_folder() -> Path | None:
    """The folder of this user's own results; None if there is no home."""
    return user_cache.folder("measured")


def merged(files: Iterable[Measured]) -> Measured:
    """Several files of one class of devices as one: the newest run's row of each problem and use.

    Rows of several minor versions of torch are kept together.

    Raises:
        ValueError: they are of several classes, or none.
    """
    files = tuple(files)
    devices = {file.device for file in files}
    if len(devices) != 1:
        raise ValueError(f"{len(files)} files of {len(devices)} classes of devices; expected one")
    newest: dict[tuple[Problem, str, str], Row] = {}
    for row in sorted((row for file in files for row in file.rows), key=lambda row: row.run.start):
        newest[row.problem, row.use, minor_of(row.run.torch)] = row
    return Measured(devices.pop(), tuple(sorted(newest.values(), key=_place)))


def _place(row: Row) -> tuple[Any, ...]:
    """Small problems first, so that a file does not depend on the order of its sources."""
    problem = asdict(row.problem)
    sizes = [problem.pop(name) for name in ("hidden_size", "input_size", "batch", "seq_len")]
    return *map(str, problem.values()), *sizes, row.use, row.run.torch


def text_of(measured: Measured) -> str:
    """A file's content: JSON, a row a line."""
    runs = list(dict.fromkeys(row.run for row in measured.rows))
    head = {"schema": SCHEMA, "device": asdict(measured.device), "runs": list(map(asdict, runs))}
    lines = [
        json.dumps(
            {
                "problem": row.problem.to_dict(),
                "use": row.use,
                "run": runs.index(row.run),
                "median_ns": dict(row.median_ns),
                "tied": list(row.tied),
                "order": list(row.order),
            },
            allow_nan=False,
        )
        for row in measured.rows
    ]
    above = json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}")
    body = ",\n  ".join(lines)
    return f'{above},\n "rows": [\n  {body}\n ]\n}}\n'


def parsed(content: bytes) -> Measured:
    """The content of a file.

    Raises:
        ValueError: it is not such a file; the message is a reason in one line.
    """
    try:
        document = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"is broken: it is not JSON ({error})") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"has schema {schema!r}; expected {SCHEMA}")
    device = DeviceClass(**_typed(document.get("device"), DeviceClass, "device"))
    runs = [
        MeasuredRun(**_typed(run, MeasuredRun, "a run")) for run in _list(document, "runs", dict)
    ]
    return Measured(device, tuple(_row(row, runs) for row in _list(document, "rows", dict)))


def _row(stored: Mapping[str, Any], runs: list[MeasuredRun]) -> Row:
    problem = stored.get("problem")
    if isinstance(problem, dict):
        # One head is not stored (`Problem.to_dict`).
        problem = {"heads": 1} | problem
    problem = Problem(**_typed(problem, Problem, "a problem"))
    use, run, medians = (stored.get(name) for name in ("use", "run", "median_ns"))
    if use not in USES:
        raise ValueError(f"is broken: the use of a row is {_shown(use)}")
    if type(run) is not int or run not in range(len(runs)):
        raise ValueError(f"is broken: the run of a row is {_shown(run)}, of {len(runs)}")
    if not isinstance(medians, dict) or not all(map(_is_time, medians.values())):
        raise ValueError(f"is broken: the medians of a row are {_shown(medians)}")
    tied, order = (tuple(_list(stored, name, str)) for name in ("tied", "order"))
    if not order or not medians.keys() >= {*tied, *order}:
        raise ValueError(f"is broken: the order of a row is {_shown(order)}")
    return Row(problem, use, runs[run], medians, tied, order)


def _typed(stored: Any, kind: Any, what: str) -> dict[str, Any]:
    """The fields of a dataclass of texts, numbers and booleans, each of exactly its type."""
    types = {field.name: field.type for field in fields(kind)}
    if not isinstance(stored, dict) or stored.keys() != types.keys():
        raise ValueError(f"is broken: {what} is {_shown(stored)}; expected {', '.join(types)}")
    for name, value in stored.items():
        if type(value) is not types[name]:
            raise ValueError(f"is broken: {name} of {what} is {_shown(value)}")
    return stored


def _list(stored: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    found = stored.get(name)
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        raise ValueError(f"is broken: its {name!r} is {_shown(found)}")
    return found


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < inf


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@lru_cache
def device_class(device: str, threads: int) -> DeviceClass:
    """The class of a device of torch, like "cpu" or "cuda:1"; `threads` applies only to a CPU."""
    import torch

    name = tuning.device_facts(device).name
    if torch.device(device).type != "cpu":
        return DeviceClass("cuda", name)
    return DeviceClass("cpu", name, torch.backends.cpu.get_cpu_capability(), threads)


@lru_cache
def sources(device: DeviceClass) -> tuple[Source, Source]:
    """The user's own results on such a device, then those shipped; read once in a process."""
    return _source("your own", user_folder(), device), _source("shipped", SHIPPED, device)


def forget() -> None:
    """Read files again at the next call."""
    sources.cache_clear()
    kernels_digest.cache_clear()


def _source(whose: str, folder: Path | None, device: DeviceClass) -> Source:
    if folder is None:
        return Source(whose)
    path = folder / device.file_name()
    try:
        measured = read(path)
    except FileNotFoundError:
        return Source(whose)
    except (OSError, ValueError) as error:
        reason = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        refused = f"{path.name} {reason}"
        warnings.warn(f"measured results: {refused}; auto ignores them", UserWarning, stacklevel=2)
        return Source(whose, refused=refused)
    if measured.device != device:
        return Source(whose, refused=f"{path.name} was measured on {measured.device.label()}")
    reasons = {run: _against(run, whose) for run in {row.run for row in measured.rows}}
    refused = "; ".join(sorted({reason for reason in reasons.values() if reason}))
    return Source(whose, tuple(row for row in measured.rows if not reasons[row.run]), refused)


def read(path: Path) -> Measured:
    """A file.

    Raises:
        OSError: it cannot be read. ValueError: it is not such a file, with the reason in one line.
    """
    if path.is_fifo() or path.stat().st_size > MOST_BYTES:
        raise ValueError(f"is not a file; expected at most {MOST_BYTES:,} bytes")
    return parsed(path.read_bytes())


def _against(run: MeasuredRun, whose: str) -> str:
    """Why a run's results are not valid here; empty if they are."""
    import torch

    if minor_of(run.torch) != minor_of(torch.__version__):
        return f"run {run.id} was measured with torch {run.torch}; this is {torch.__version__}"
    if whose == "your own" and run.kernels != kernels_digest():
        return f"run {run.id} was measured with other sources of the kernels"
    return ""


def minor_of(version: str) -> str:
    """The minor version: 2.13 of 2.13.0+cpu."""
    return ".".join(version.split(".")[:2])


@lru_cache
def kernels_digest() -> str:
    """SHA-256 of the sources of this package, as in a run's manifest."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
