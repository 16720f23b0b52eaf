"""What pytest-benchmark measured, as a run that every command can read.

Each file is one session, and so one block; a file that `export` wrote holds its blocks. A benchmark
takes part where its `extra_info` says what it is: `backend` and `problem`, and where they are not
the usual ones `pass`, `launch`, `cache`, `device`. What the file says of errors is not believed:
nothing was checked here, and the report says so.
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
from lstm_harness.model.case import CACHES, DEVICES, LAUNCHES
from lstm_harness.model.errors import UserError
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import SCHEMA, Record
from lstm_harness.model.spec import Spec
from lstm_harness.race import runs
from lstm_harness.store import run_folder
from lstm_kernels import PASSES
from lstm_kernels.names import check_name

# What a block must have to be compared with another, by docs/method.md, A summary.
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


def take(files: Sequence[Path], out: Path | None) -> tuple[Path, list[str]]:
    """Make a run of files, one block each, and return its folder and what must be said of it.

    Raises:
        UserError: a file that is no such JSON or says too little, or two that do not belong
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
            records.append(replace(record, block=block, order=len(records)))
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
        f"{each.path}: {len(each.foreign)} benchmarks left out, whose extra_info names no backend "
        f"and problem: {each.foreign[0]}"
        for each in read
        if each.foreign
    ]
    if blocks < BLOCKS_FOR_A_VERDICT:
        said.append(
            f"{blocks} of the {BLOCKS_FOR_A_VERDICT} blocks that a verdict needs: comparing will "
            "be inconclusive; import several files at once, each from a session of its own"
        )
    return said


def _read(path: Path) -> _File:
    try:
        document = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
        benchmarks = document["benchmarks"]
        machine = document["machine_info"]
        ours = document.get("lstm_bench") or {}
        facts = machine.get("lstm_bench") or {}
        named = [b for b in benchmarks if {"backend", "problem"} <= set(b.get("extra_info") or {})]
        foreign = [str(b.get("fullname")) for b in benchmarks if b not in named]
        failed = ours.get("failed") or []
        environment = _environment(machine, facts, document.get("commit_info") or {})
        when, label = document["datetime"], str(ours.get("label") or "")
        datetime.fromisoformat(when)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise UserError(
            f"{path} is not the JSON of pytest-benchmark; expected what "
            "pytest --benchmark-json=FILE writes"
        ) from None
    if not named and not failed:
        raise UserError(
            f"{path}: none of its {len(benchmarks)} benchmarks says what it measured; expected "
            "extra_info with backend and problem, as in tests/perf/test_backends.py"
        )
    records = [record for benchmark in named for record in _records(path, benchmark)]
    records += [_record(path, "lstm_bench.failed", stored) for stored in failed]
    _refuse_twice(path, records)
    digest_of_kernels = str(facts.get("kernels_digest") or "")
    return _File(path, tuple(records), environment, digest_of_kernels, when, label, tuple(foreign))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _environment(
    machine: Mapping[str, Any], facts: Mapping[str, Any], commit: Mapping[str, Any]
) -> dict[str, Any]:
    """A run's environment: as the harness told it, or what pytest-benchmark knows by itself."""
    known = facts.get("environment")
    if not known:
        cpu = machine.get("cpu") or {}
        known = {
            "host": machine.get("node"),
            "os": "-".join(
                str(machine[n]) for n in ("system", "release", "machine") if n in machine
            ),
            "python": machine.get("python_version"),
            "cpu": {"model": cpu.get("brand_raw")},
        }
    if commit.get("id") and not known.get("git"):
        known = {**known, "git": {"commit": commit["id"], "dirty": bool(commit.get("dirty"))}}
    if not isinstance(known.get("git") or {}, dict):
        raise TypeError("git is no object")
    return {**dict.fromkeys(_ENVIRONMENT), "settings": {}, **known}


def _records(path: Path, benchmark: Mapping[str, Any]) -> list[Record]:
    """A benchmark's records, one a block; the whole is one where it does not tell of blocks."""
    name = str(benchmark.get("fullname") or benchmark.get("name"))
    info, stats = benchmark["extra_info"], benchmark.get("stats") or {}
    if not stats.get("data"):
        raise UserError(
            f"{path}: {name} has no samples; write the file with --benchmark-json, or save it "
            "with --benchmark-save-data"
        )
    try:
        times = [round(float(seconds) * 1e9) for seconds in stats["data"]]
        usual = {"pass": "forward", "launch": "eager", "cache": "warm", "device": "cpu"}
        who = {n: info[n] for n in ("backend", "problem")} | usual
        who |= {n: info[n] for n in usual if n in info}
        repeats = info.get("inner_repeats", stats.get("iterations", 1))
        whole = [{"block": 0, "samples": len(times), "inner_repeats": repeats}]
        blocks = info.get("blocks") or whole
        if sum(block["samples"] for block in blocks) != len(times):
            raise ValueError(f"its blocks do not add up to its {len(times)} samples")
        by_block = []
        for block in blocks:
            samples, times = times[: block["samples"]], times[block["samples"] :]
            stored = {n: value for n, value in block.items() if n != "samples"}
            by_block.append(stored | who | {"status": "ok", "reason": "", "samples_ns": samples})
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {name} is not as expected: {_told(error)}") from None
    return [_record(path, name, stored) for stored in by_block]


def _record(path: Path, name: str, stored: Any) -> Record:
    """One record, what it says of errors put aside where it has a time."""
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
        raise UserError(f"{path}: {name} is not as expected: block {record.block}")
    return record


def _told(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _refuse_twice(path: Path, records: Sequence[Record]) -> None:
    seen = set()
    for record in records:
        if record.identity in seen:
            raise UserError(
                f"{path}: {record.backend} on {record.case.label()} stands there twice; "
                "expected one benchmark a backend and case"
            )
        seen.add(record.identity)


def _refuse_elsewhere(first: _File, other: _File) -> None:
    """Blocks are of one machine, one software and one revision, or they are none."""
    device = first.device
    facts = [
        run_digest.machine(each.environment, device)
        | run_digest.conditions(each.environment, device)
        | {"commit": (each.environment["git"] or {}).get("commit"), "kernels": each.kernels_digest}
        for each in (first, other)
    ]
    apart = differences(*facts)
    if apart:
        raise UserError(
            f"{other.path} is no further block of {first.path}: {', '.join(apart)}; "
            "import them apart"
        )


def _refuse_again(earlier: _File, other: _File) -> None:
    """The same samples are no second block, under whatever name."""
    samples = ([(r.identity, r.samples_ns) for r in each.records] for each in (earlier, other))
    if next(samples) == next(samples):
        raise UserError(
            f"{other.path} holds the samples of {earlier.path}; a block is a session of its own: "
            "leave one out"
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
        "environment": read[0].environment,
        "kernels_digest": read[0].kernels_digest,
        "imported": True,
    }


def _refuse_not_finite(
    files: Sequence[Path], manifest: Mapping[str, Any], records: Sequence[Record]
) -> None:
    try:
        json.dumps([manifest, [record.to_dict() for record in records]], allow_nan=False)
    except ValueError:
        names = ", ".join(map(str, files))
        raise UserError(f"{names}: a number in it is not finite, which no run can hold") from None
