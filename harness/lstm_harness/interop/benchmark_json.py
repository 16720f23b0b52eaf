"""A run as the JSON that pytest-benchmark writes, so that its tools can read and compare it.

One benchmark is one (backend, case): its `data` are the samples of all blocks, in s, as
pytest-benchmark pools them too. Facts without a field in its format are in `extra_info`: which
backend ran which problem, how a cell is defined that is not built in, and each block's record
without what is elsewhere, so that `import` finds the blocks again. What has no time is not a
benchmark; its records are stored in `lstm_bench.failed`.
"""

import json
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_harness import __version__
from lstm_harness.model.case import CALL_FIELDS, Case
from lstm_harness.model.definitions import kept_with
from lstm_harness.model.record import Record
from lstm_harness.store.run_folder import Run

# The version of the format: the pytest-benchmark that it follows.
FORMAT_VERSION = "5.3.1"
# Fields that are in `data` or in the case, or that only our own checks can fill.
_ELSEWHERE = (
    *("schema", "samples_ns", "backend", "status", "reason", "errors", "tolerance"),
    *("problem", "pass", "launch", "cache", "device", *CALL_FIELDS),
)


def document(run: Run) -> dict[str, Any]:
    """The JSON of a run."""
    environment = run.manifest["environment"]
    cells: dict[tuple[str, Case], list[Record]] = {}
    for record in run.records:
        cells.setdefault((record.backend, record.case), []).append(record)
    timed = {
        key: records
        for key, records in cells.items()
        if all(r.standing[0] == "ok" for r in records)
    }
    failed = [record for key, records in cells.items() if key not in timed for record in records]
    return {
        "machine_info": _machine_info(environment, run.manifest["kernels_digest"]),
        "commit_info": _commit_info(environment.get("git")),
        "benchmarks": [_benchmark(*key, records) for key, records in timed.items()],
        "datetime": run.manifest["start"],
        "version": FORMAT_VERSION,
        "lstm_bench": {
            "version": __version__,
            "id": run.manifest["id"],
            "label": run.manifest.get("label", ""),
            "suite": run.manifest.get("suite"),
            "failed": [record.to_dict() for record in failed],
            **kept_with(record.case for record in failed),
        },
    }


def as_bytes(run: Run) -> bytes:
    """The file's content."""
    return json.dumps(document(run), indent=1, allow_nan=False).encode() + b"\n"


def machine_facts(environment: Mapping[str, Any], kernels_digest: str) -> dict[str, Any]:
    """What `import` reads about a machine, stored in `machine_info` under `lstm_bench`."""
    return {"environment": dict(environment), "kernels_digest": kernels_digest}


def extra_info(backend: str, case: Case, **more: Any) -> dict[str, Any]:
    """What `import` needs from one benchmark: its backend, problem, and a cell of its own."""
    return {"backend": backend, **case.to_dict(), **kept_with([case]), **more}


def _machine_info(environment: Mapping[str, Any], kernels_digest: str) -> dict[str, Any]:
    """The fields that pytest-benchmark compares, as far as a run knows them."""
    cpu = environment.get("cpu") or {}
    python = environment.get("python") or ""
    return {
        "node": environment.get("host"),
        "processor": "",
        "machine": "",
        "python_implementation": "CPython",
        "python_implementation_version": python,
        "python_version": python,
        "release": environment.get("os"),
        "system": str(environment.get("os") or "").partition("-")[0],
        "cpu": {"brand_raw": cpu.get("model"), "count": cpu.get("physical_cores")},
        "lstm_bench": machine_facts(environment, kernels_digest),
    }


def _commit_info(git: Mapping[str, Any] | None) -> dict[str, Any]:
    known = git or {}
    return {"id": known.get("commit"), "dirty": known.get("dirty"), "project": "lstm-bench"}


def _benchmark(backend: str, case: Case, records: Sequence[Record]) -> dict[str, Any]:
    by_block = sorted(records, key=lambda record: record.block)
    name = f"{backend} {case.label()}"
    data = [sample / 1e9 for record in by_block for sample in record.samples_ns]
    blocks = [
        {name: value for name, value in record.to_dict().items() if name not in _ELSEWHERE}
        | {"samples": len(record.samples_ns)}
        for record in by_block
    ]
    return {
        "group": case.label(),
        "name": name,
        "fullname": name,
        "params": {"backend": backend, "case": case.label()},
        "param": name,
        "extra_info": extra_info(backend, case, blocks=blocks),
        "options": {"timer": "lstm_bench", "disable_gc": True, "min_rounds": 1, "warmup": True},
        "stats": stats(data) | {"data": data, "iterations": 1},
    }


def stats(data: Sequence[float]) -> dict[str, Any]:
    """The figures that pytest-benchmark derives, by its own definitions.

    Args:
        data: one execution's time in s for each round, at least one.
    """
    ordered = sorted(data)
    total, mean = sum(data), statistics.mean(data)
    deviation = statistics.stdev(data) if len(data) > 1 else 0.0
    q1, q3 = _quartiles(ordered)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    from_mean = sum(abs(value - mean) > deviation for value in data)
    from_quartiles = sum(value < low or value > high for value in data)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": statistics.median(ordered),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": from_quartiles,
        "stddev_outliers": from_mean,
        "outliers": f"{from_mean};{from_quartiles}",
        "ld15iqr": ordered[bisect_left(ordered, low)],
        "hd15iqr": ordered[bisect_right(ordered, high) - 1],
        "ops": len(data) / total,
        "total": total,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """Tukey's hinges as pytest-benchmark takes them: medians of halves, or between neighbours."""
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    if count % 2 == 0:
        half = count // 2
        return statistics.median(ordered[:half]), statistics.median(ordered[half:])
    n = count // 4
    if count % 4 == 1:
        low = 0.25 * ordered[n - 1] + 0.75 * ordered[n]
        return low, 0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1]
    low = 0.75 * ordered[n] + 0.25 * ordered[n + 1]
    return low, 0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2]
