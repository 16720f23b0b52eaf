"""The tables that `query` offers: their columns, what each means, and their rows of a run."""

import json
import math
from collections.abc import Iterator
from datetime import datetime
from statistics import median
from typing import Any

from lstm_harness.history.run_digest import utc
from lstm_harness.interop.record_parquet import RECORD_COLUMNS, encodable, record_row
from lstm_harness.model.record import Record
from lstm_harness.model.text import printable
from lstm_harness.store.run_folder import Run

# Of the run, in both tables.
_SHARED = {
    "run": "text",
    "run_id": "text",
    "run_label": "text",
    "suite": "text",
    "started": "moment",
    "host": "text",
    "machine": "text",
    "device_name": "text",
    "git_commit": "text",
}
RUNS = _SHARED | {
    "device": "text",
    "ended": "moment",
    "seed": "whole",
    "blocks": "whole",
    "planned_records": "whole",
    "records": "whole",
    "torn": "flag",
    "edited": "flag",
    "os": "text",
    "python": "text",
    "torch": "text",
    "cuda": "text",
    "cudnn": "whole",
    "triton": "text",
    "numba": "text",
    "cpu_threads": "whole",
    "git_dirty": "flag",
    "kernels_digest": "text",
    "lstm_bench": "text",
    "command": "text",
    "environment": "text",
}
_DERIVED = {
    "label": "text",
    "standing": "text",
    "median_ns": "number",
    "samples": "whole",
    "marked_share": "number",
    "worst_error": "number",
}
RECORDS = _SHARED | _DERIVED | RECORD_COLUMNS
SAMPLES = {
    **{name: _SHARED[name] for name in ("run", "run_id", "started", "machine")},
    **{"backend": "text", "label": "text", "pass": "text", "block": "whole"},
    **{"sample": "whole", "sample_ns": "whole", "cpu_ns": "whole", "steal_ms": "number"},
    **{"involuntary_switches": "whole", "marked": "flag"},
}
TABLES = {"runs": RUNS, "records": RECORDS, "samples": SAMPLES}

_MEANINGS = {
    "run": "the run's folder, as a path in the store",
    "run_id": "the run's id",
    "run_label": "the run's label; NULL where none was given",
    "suite": "the named suite; NULL where shapes were given",
    "started": "when the run started, UTC",
    "host": "the host's name",
    "machine": "the device that measured: the GPU's UUID, or the host; of a run, all of them",
    "device_name": "the GPU's name, else the CPU's",
    "git_commit": "the commit of the kernels' repository",
    "device": "cpu or cuda",
    "ended": "when the run ended, UTC; NULL where it did not",
    "seed": "the seed of its inputs",
    "blocks": "the number of blocks that were planned",
    "planned_records": "the number of records that were planned",
    "records": "the number of records that are there",
    "torn": "whether a half-written last record was left out",
    "edited": "whether its records were changed after it ended",
    "os": "the operating system",
    "python": "version",
    "torch": "version",
    "cuda": "version",
    "cudnn": "version, as torch gives it",
    "triton": "version",
    "numba": "version",
    "cpu_threads": "the number of CPU threads used",
    "git_dirty": "whether there were changes that were not committed",
    "kernels_digest": "the digest of the kernels' sources",
    "lstm_bench": "version",
    "command": "what was typed",
    "environment": "JSON: everything known of machine and settings, as run.json has it",
    "label": "the case in a few words",
    "standing": "the status that counts: a time that is not believed is an error",
    "median_ns": "the median of samples_ns; NULL where standing is not ok",
    "samples": "the number of samples",
    "marked_share": "the share of samples taken in a disturbed spell, 0 to 1",
    "worst_error": "the largest of errors; infinity where one is not finite",
    "block": "the round of fresh processes",
    "order": 'the place in the whole run; a word of SQL: type "order"',
    "backend": "the backend",
    "cell": "lstm, gru, ...",
    "seq_len": "T, steps",
    "batch": "B, sequences",
    "input_size": "I",
    "hidden_size": "H",
    "num_layers": "L",
    "bidirectional": "whether D is 2",
    "bias": "whether there are biases",
    "proj_size": "the size that h is projected to; 0 for none",
    "heads": "blocks of a block-diagonal w_hh",
    "dtype": "the type of inputs and weights",
    "precision": "how float32 products are made: ieee, tf32, or w8 with int8 weights",
    "lengths": "of the sequences: full, or a distribution",
    "pass": "inference, forward, backward or train",
    "launch": "eager or graph",
    "cache": "warm or cold",
    "batch_first": "whether x and y are [B, T, features]",
    "autocast": "the dtype of a torch.autocast around the call, or none",
    "dropout": "the probability of dropout between layers",
    "status": "as stored: ok, unsupported, incorrect, ...",
    "reason": "why it is not ok",
    "samples_ns": "every sample in order, ns for one execution",
    "inner_repeats": "executions of which a sample is the mean",
    "errors": "the relative L2 error against float64 by tensor; NULL where not finite",
    "tolerance": "the bound of errors; NULL where nothing was checked",
    "setup_ms": "making ready, ms",
    "compile_ms": "the first execution less the median, ms",
    "peak_bytes": "memory above the inputs, bytes",
    "saved_bytes": "what a forward keeps for its backward, bytes",
    "energy_mj": "of one execution, mJ",
    "sm_clock_mhz": "the GPU's median clock, MHz",
    "kernels": "what the backend says it ran",
    "warnings": "what the harness noticed",
    "stopped_by": "what ended the sampling: rel_ci or budget",
    "cpu_ns": "CPU time of each sample, ns",
    "wall_ns": "a few executions by the host's clock, ns",
    "steal_ms": "time that the hypervisor took from each sample, ms",
    "involuntary_switches": "how often the scheduler interrupted each sample",
    "marked": "samples taken in a disturbed spell: their places, from 0",
    "turns": "samples of each turn, where two sides took turns",
    "oracle_rows": "batch rows that were compared; NULL for all",
    "floor_ns": "the least time that the device's ceilings allow, ns",
    "floor_term": "what sets the floor",
    "unranked": "why its times are stored and not believed; empty where they are",
    "extra": "JSON: fields of later versions",
}
_OF_A_SAMPLE = {
    "sample": "its place in the record, from 0",
    "sample_ns": "the sample, ns for one execution",
    "cpu_ns": "its CPU time, ns; NULL where that was not measured",
    "steal_ms": "time that the hypervisor took from it, ms; NULL where that was not measured",
    "involuntary_switches": "how often the scheduler interrupted it; NULL where not measured",
    "marked": "whether it was taken in a disturbed spell",
}


def meaning(table: str, column: str) -> str:
    """What a column holds, in a few words, with its unit."""
    return (_MEANINGS | _OF_A_SAMPLE if table == "samples" else _MEANINGS)[column]


def rows_of(path: str, run: Run) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The row of a run, and those of its records.

    Args:
        path: of the run in its store.
    Raises:
        ValueError: its start or its end is not a time.
    """
    own = _run_row(path, run)
    shared = {name: own[name] for name in _SHARED}
    return own, (_with_run(_record_row(record), shared) for record in run.records)


def _with_run(row: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A record's row with its run's columns; a machine of its own stays."""
    return {**shared, **row, "machine": row.get("machine") or shared["machine"]}


def _run_row(path: str, run: Run) -> dict[str, Any]:
    manifest = run.manifest
    environment, plan = manifest["environment"], manifest["plan"]
    gpu, cpu, git = (environment.get(name) or {} for name in ("gpu", "cpu", "git"))
    on_gpu = plan["device"] != "cpu"
    facts = {name: environment.get(name) for name in ("host", "os", "python", "torch", "cuda")}
    facts |= {name: environment.get(name) for name in ("cudnn", "triton", "numba")}
    row = {
        **facts,
        "run": path,
        "run_id": manifest["id"],
        "run_label": manifest.get("label"),
        "suite": manifest.get("suite"),
        "started": _moment(manifest["start"]),
        "machine": gpu.get("uuid") if on_gpu else environment.get("host"),
        "device_name": gpu.get("name") if on_gpu else cpu.get("model"),
        "git_commit": git.get("commit"),
        "device": plan["device"],
        "ended": _moment(manifest["end"]) if manifest.get("end") else None,
        "seed": manifest["seed"],
        "blocks": plan["blocks"],
        "planned_records": plan["planned_records"],
        "records": len(run.records),
        "torn": run.torn,
        "edited": run.edited,
        "cpu_threads": cpu.get("threads"),
        "git_dirty": git.get("dirty"),
        "kernels_digest": manifest["kernels_digest"],
        "lstm_bench": manifest.get("lstm_bench"),
        "command": " ".join(manifest.get("command") or ()) or None,
        "environment": json.dumps(environment),
    }
    return {name: clean(value) for name, value in row.items()}


def clean(value: Any) -> Any:
    """A value as a table holds it: texts without control characters and lone surrogates."""
    return encodable(printable(value)) if isinstance(value, str) else value


def _moment(iso: str) -> datetime:
    """A stored time in UTC, without its zone."""
    return datetime.fromisoformat(utc(iso)).replace(tzinfo=None)


def _record_row(record: Record) -> dict[str, Any]:
    from lstm_harness.analysis.summary import judged

    standing, _ = judged(record)
    times = record.samples_ns
    errors = (math.inf if error is None else error for error in record.errors.values())
    return {
        **record_row(record),
        "label": encodable(record.case.label()),
        "standing": standing,
        "median_ns": float(median(times)) if standing == "ok" else None,
        "samples": len(times),
        "marked_share": len(record.marked) / len(times) if times else None,
        "worst_error": max(errors, default=None),
    }
