"""What pytest-benchmark measured, as a run that every command can read.

Each file is one session, and so one block; a file that `export` wrote holds its blocks. Files may
be of several machines of one class. A benchmark is imported if its `extra_info` says what it is:
`backend` and `problem`, and if they are not the usual ones `pass`, `launch`, `cache`, `device`,
`batch_first`, `autocast`, `dropout`; and `definitions`, where the cell is not built in. Errors in
the file are not used: nothing was checked here, and the report says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lstm_harness import __version__
from lstm_harness.history import run_digest
from lstm_harness.history.series import differences
from lstm_harness.model.case import CACHES, CALL_FIELDS, DEVICES, LAUNCHES
from lstm_harness.model.definitions import kept_with, learn
from lstm_harness.model.errors import UserError
from lstm_harness.model.manifest import check_environment
from lstm_harness.model.plan import Plan
from lstm_harness.model.reading import MOST_RECORDS_BYTES, content_of
from lstm_harness.model.record import SCHEMA, Record
from lstm_harness.model.spec import Spec
from lstm_harness.model.strict_json import parsed
from lstm_harness.model.typed import Stored, built
from lstm_harness.race import runs
from lstm_harness.store import run_folder
from lstm_harness.store.merging import environment_of
from lstm_kernels import PASSES
from lstm_kernels.names import check_name

# What a block must have to be compared with another (docs/method.md, A summary).
BLOCKS_FOR_A_VERDICT = 3
_ENVIRONMENT = ("host", "os", "cpu", "ram_bytes", "gpu", "torch", "python", "git", "settings")


@dataclass(frozen=True)
class _File:
    """One file's records, its blocks numbered from 0, and where it was measured."""

    path: Path
    records: tuple[Record, ...]
    environment: dict[str, Any]
    kernels_digest: str
    when: str
    label: str
    foreign: tuple[str, ...]

    @property
    def blocks(self) -> int:
        return 1 + max(record.block for record in self.records)

    @property
    def device(self) -> str:
        return "cuda" if any(r.case.device == "cuda" for r in self.records) else "cpu"

    @property
    def machine(self) -> str:
        """The GPU's UUID, or the host; empty where the file does not say."""
        gpu = self.environment["gpu"] or {}
        return (gpu.get("uuid") if self.device == "cuda" else self.environment["host"]) or ""


def take(files: Sequence[Path], out: Path | None) -> tuple[Path, list[str]]:
    """Make a run from files, one block each, and return its folder and notes about it.

    Raises:
        UserError: a file that is not such JSON or says too little, or two that do not belong
            together; `out` is in use.
    """
    if out:
        run_folder.refuse_used(out)
    read = [_read(path) for path in files]
    for place, other in enumerate(read):
        _refuse_elsewhere(read[0], other)
        for earlier in read[:place]:
            _refuse_again(earlier, other)
    records: list[Record] = []
    first_block = 0
    for each in read:
        for record in each.records:
            block = first_block + record.block
            records.append(replace(record, block=block, order=len(records), machine=each.machine))
        first_block += each.blocks
    folder = out or runs.default_folder(Spec((), suite="imported"))
    manifest = _manifest(folder, read, records, first_block)
    _refuse_not_finite(files, manifest, records)
    run_folder.create(folder)
    run_folder.write_manifest(folder, manifest)
    with run_folder.appender(folder) as to:
        for record in records:
            to.append(record)
    return folder, _remarks(read, first_block)


def _remarks(read: Sequence[_File], blocks: int) -> list[str]:
    said = [
        f"{each.path}: {len(each.foreign)} benchmarks left out, because their extra_info names no "
        f"backend and problem: {each.foreign[0]}"
        for each in read
        if each.foreign
    ]
    if blocks < BLOCKS_FOR_A_VERDICT:
        said.append(
            f"{blocks} of the {BLOCKS_FOR_A_VERDICT} blocks that a verdict needs: comparisons will "
            "be inconclusive; import several files at once, each from a session of its own"
        )
    return said


@dataclass(frozen=True)
class _Stats(Stored):
    data: tuple[float, ...] | None = None
    iterations: int = 1


@dataclass(frozen=True)
class _Benchmark(Stored):
    fullname: str | None = None
    name: str | None = None
    extra_info: Mapping[str, Any] | None = None
    stats: _Stats | None = None


@dataclass(frozen=True)
class _Commit(Stored):
    id: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class _Processor(Stored):
    brand_raw: str | None = None


@dataclass(frozen=True)
class _Facts(Stored):
    """What an export, or our own benchmarks, stored about the machine."""

    environment: Mapping[str, Any] | None = None
    kernels_digest: str | None = None


@dataclass(frozen=True)
class _Machine(Stored):
    node: str | None = None
    system: str | None = None
    release: str | None = None
    machine: str | None = None
    python_version: str | None = None
    cpu: _Processor | None = None
    lstm_bench: _Facts | None = None


@dataclass(frozen=True)
class _Export(Stored):
    """What `export` adds: the run's label, the records that have no time, and their own cells."""

    label: str | None = None
    failed: tuple[Mapping[str, Any], ...] | None = None
    definitions: Any = None


@dataclass(frozen=True)
class _Document(Stored):
    benchmarks: tuple[_Benchmark, ...]
    machine_info: _Machine
    datetime: str
    commit_info: _Commit | None = None
    lstm_bench: _Export | None = None


def _read(path: Path) -> _File:
    try:
        document: _Document = built(
            parsed(content_of(path, MOST_RECORDS_BYTES)), _Document, "the document"
        )
        facts = document.machine_info.lstm_bench or _Facts()
        ours = document.lstm_bench or _Export()
        environment = _environment(document.machine_info, facts, document.commit_info)
        datetime.fromisoformat(document.datetime)
        learn(ours.definitions, str(path))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; give what pytest --benchmark-json=FILE wrote"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} is not the JSON of pytest-benchmark ({error}); expected what "
            "pytest --benchmark-json=FILE writes"
        ) from None
    benchmarks = document.benchmarks
    named = [b for b in benchmarks if {"backend", "problem"} <= set(b.extra_info or {})]
    foreign = tuple(str(b.fullname) for b in benchmarks if b not in named)
    failed = ours.failed or ()
    if not named and not failed:
        raise UserError(
            f"{path}: none of its {len(benchmarks)} benchmarks says what it measured; expected "
            "extra_info with backend and problem, as in tests/perf/test_backends.py"
        )
    records = [record for benchmark in named for record in _records(path, benchmark)]
    records += [_record(path, "lstm_bench.failed", stored) for stored in failed]
    _refuse_twice(path, records)
    return _File(
        path,
        tuple(records),
        environment,
        kernels_digest=facts.kernels_digest or "",
        when=document.datetime,
        label=ours.label or "",
        foreign=foreign,
    )


def _environment(machine: _Machine, facts: _Facts, commit: _Commit | None) -> dict[str, Any]:
    """A run's environment: what the harness stored, or what pytest-benchmark itself knows."""
    known = dict(facts.environment or {})
    if not known:
        system = (machine.system, machine.release, machine.machine)
        known = {
            "host": machine.node,
            "os": "-".join(filter(None, system)),
            "python": machine.python_version,
            "cpu": {"model": machine.cpu and machine.cpu.brand_raw},
        }
    if commit and commit.id and not known.get("git"):
        known["git"] = {"commit": commit.id, "dirty": bool(commit.dirty)}
    check_environment(known)
    return {**dict.fromkeys(_ENVIRONMENT), "settings": {}, **known}


def _records(path: Path, benchmark: _Benchmark) -> list[Record]:
    """A benchmark's records, one for each block; without blocks the whole is one."""
    name = str(benchmark.fullname or benchmark.name)
    info, stats = benchmark.extra_info or {}, benchmark.stats or _Stats()
    if not stats.data:
        raise UserError(
            f"{path}: {name} has no samples; write the file with --benchmark-json, or save it "
            "with --benchmark-save-data"
        )
    try:
        learn(info.get("definitions"), str(path))
        times = [round(seconds * 1e9) for seconds in stats.data]
        usual = {"pass": "forward", "launch": "eager", "cache": "warm", "device": "cpu"}
        who = {n: info[n] for n in ("backend", "problem")} | usual
        who |= {n: info[n] for n in (*usual, *CALL_FIELDS) if n in info}
        repeats = info.get("inner_repeats", stats.iterations)
        whole = [{"block": 0, "samples": len(times), "inner_repeats": repeats}]
        blocks = info.get("blocks") or whole
        if sum(block["samples"] for block in blocks) != len(times):
            raise ValueError(f"its blocks do not add up; expected {len(times)} samples")
        by_block = []
        for block in blocks:
            samples, times = times[: block["samples"]], times[block["samples"] :]
            stored = {n: value for n, value in block.items() if n != "samples"}
            by_block.append(stored | who | {"status": "ok", "reason": "", "samples_ns": samples})
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {name} is not as expected: {_told(error)}") from None
    return [_record(path, name, stored) for stored in by_block]


def _record(path: Path, name: str, stored: Any) -> Record:
    """One record; if it has a time, what it says about errors is dropped."""
    try:
        unchecked: dict[str, Any] = (
            {"errors": {}, "tolerance": None} if stored["status"] == "ok" else {}
        )
        record = Record.from_dict({"order": 0, "setup_ms": 0.0, **stored, **unchecked})
        check_name("pass", record.case.pass_name, PASSES)
        check_name("device", record.case.device, DEVICES)
        check_name("launch", record.case.launch, LAUNCHES)
        check_name("cache", record.case.cache, CACHES)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {name} is not as expected: {_told(error)}") from None
    if record.block < 0:
        raise UserError(f"{path}: {name} is not as expected: block {record.block} is below 0")
    return record


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _refuse_twice(path: Path, records: Sequence[Record]) -> None:
    seen = set()
    for record in records:
        if record.identity in seen:
            raise UserError(
                f"{path}: {record.backend} on {record.case.label()} appears twice; "
                "expected one benchmark for each backend and case"
            )
        seen.add(record.identity)


def _refuse_elsewhere(first: _File, other: _File) -> None:
    """Refuse blocks of another class of machine, software or revision."""
    device = first.device
    facts = [
        run_digest.machine(each.environment, device)
        | run_digest.conditions(each.environment, device)
        | {"commit": (each.environment["git"] or {}).get("commit"), "kernels": each.kernels_digest}
        for each in (first, other)
    ]
    own = ("host", "gpu.uuid")
    apart = differences(*({n: fact for n, fact in each.items() if n not in own} for each in facts))
    if apart:
        raise UserError(
            f"{other.path} is not another block of {first.path}: {', '.join(apart)}; "
            "import them separately"
        )


def _refuse_again(earlier: _File, other: _File) -> None:
    """Refuse the same samples as a second block, under any name."""
    samples = ([(r.identity, r.samples_ns) for r in each.records] for each in (earlier, other))
    if next(samples) == next(samples):
        raise UserError(
            f"{other.path} has the same samples as {earlier.path}; expected a session of its own "
            "for each block: leave one out"
        )


def _manifest(
    folder: Path, read: Sequence[_File], records: Sequence[Record], blocks: int
) -> dict[str, Any]:
    plan = Plan(
        backends=tuple(dict.fromkeys(record.backend for record in records)),
        cases=tuple(dict.fromkeys(record.case for record in records)),
        blocks=blocks,
        device="cuda" if any(each.device == "cuda" for each in read) else "cpu",
        skips={},
        absent={},
    )
    moments = sorted(each.when for each in read)
    return {
        "schema": SCHEMA,
        "id": folder.resolve().name,
        "label": read[0].label,
        "suite": None,
        "command": ["lstm-bench", "import", *(str(each.path) for each in read)],
        "lstm_bench": __version__,
        "seed": 0,
        "start": moments[0],
        "end": moments[-1],
        "spec": Spec((), backends=plan.backends, device=plan.device, blocks=blocks).to_dict(),
        "plan": plan.to_dict() | {"planned_records": len(records)},
        "environment": environment_of([each.environment for each in read]),
        "kernels_digest": read[0].kernels_digest,
        "imported": True,
        **kept_with(plan.cases),
    }


def _refuse_not_finite(
    files: Sequence[Path], manifest: Mapping[str, Any], records: Sequence[Record]
) -> None:
    try:
        json.dumps([manifest, [record.to_dict() for record in records]], allow_nan=False)
    except ValueError:
        names = ", ".join(map(str, files))
        raise UserError(f"{names}: a number is not finite; expected finite numbers") from None
