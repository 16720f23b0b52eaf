"""Runs with known truth, made without measuring anything."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lstm_harness.model.case import CALL_FIELDS, Call, Case
from lstm_harness.model.record import Record
from lstm_harness.model.spec import Spec
from lstm_harness.store.run_folder import Run
from lstm_kernels import Problem

# How many times slower than the best each backend is in a synthetic race.
SLOWNESS = {"per_gate": 6.0, "naive": 4.0, "hoisted": 2.2, "aten": 1.0, "numba_cpu": 1.15}
TENSORS = ("y", "h_n", "c_n", "d_x", "d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh")


# Names that a careless page would run, misread or be broken by.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    "</script><img src=x onerror=\"document.title = 'taken'\">",
    "quotes \" ' ` & &amp; {{ 7 * 7 }} %{y} ${7}",
    "a" * 10_000,
    "\u202egnp.exe\u2066",
    "__proto__",
    "<b>bold</b><a href='javascript:1'>x</a>",
    "line\u2028break\nand\ttab",
    "=HYPERLINK(1)",
)


def case(pass_name: str = "forward", device: str = "cpu", **problem: Any) -> Case:
    """A case with small defaults; `launch`, `cache` and a call's may be among the keywords."""
    place = {name: problem.pop(name) for name in ("launch", "cache") if name in problem}
    call = Call(**{name: problem.pop(name) for name in CALL_FIELDS if name in problem})
    sizes = {"cell": "lstm", "seq_len": 32, "batch": 4, "hidden_size": 64} | problem
    sizes.setdefault("input_size", sizes["hidden_size"])
    return Case(Problem(**sizes), pass_name, device=device, **place, call=call)


def record(
    backend: str = "naive",
    samples_ns: Sequence[int] = (1000, 1100, 1200),
    *,
    block: int = 0,
    of: Case | None = None,
    status: str = "ok",
    **fields: Any,
) -> Record:
    """One record; one that is not ok gets a reason and no samples."""
    failed = status != "ok"
    fields.setdefault("reason", f"{status} on purpose" if failed else "")
    fields.setdefault("errors", {"y": 1e-7, "h_n": 2e-7})
    fields.setdefault("tolerance", 1e-5)
    return Record(
        block=block,
        order=block,
        backend=backend,
        case=of or case(),
        status=status,
        samples_ns=() if failed else tuple(samples_ns),
        **fields,
    )


def blocks(
    backend: str, medians_ns: Iterable[int], *, of: Case | None = None, **fields: Any
) -> list[Record]:
    """One record a block, its samples all equal to the block's median."""
    return [
        record(backend, (median_ns,) * 3, block=block, of=of, **fields)
        for block, median_ns in enumerate(medians_ns)
    ]


def grid(
    backends: Sequence[str] = tuple(SLOWNESS),
    *,
    block_count: int = 3,
    sample_count: int = 12,
    spread: float = 0.01,
    seed: int = 0,
    passes: Sequence[str] = ("forward", "backward"),
    **axes: Sequence[Any],
) -> Iterator[Record]:
    """Records of a whole grid: every backend on every case, block by block.

    Args:
        spread: standard deviation of the log of a block's time; half of it within a block.
        axes: values of fields of Problem, `seq_len` and `batch` among them.
    """
    rng = random.Random(seed)
    axes = {"seq_len": (32, 64, 128), "batch": (1, 4, 16), "hidden_size": (128, 256)} | axes
    cases = [
        case(pass_name, **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
        for pass_name in passes
    ]
    for block, one, backend in itertools.product(range(block_count), cases, backends):
        centre = _time_ns(backend, one) * rng.lognormvariate(0, spread)
        samples = [int(centre * rng.lognormvariate(0, spread / 2)) for _ in range(sample_count)]
        tensors = TENSORS if one.pass_name in ("backward", "train") else TENSORS[:3]
        yield record(
            backend,
            samples,
            block=block,
            of=one,
            errors={tensor: rng.uniform(0.5, 4) * 1e-7 for tensor in tensors},
            cpu_ns=tuple(samples),
            peak_bytes=one.problem.bytes(one.pass_name) // 2,
            saved_bytes=one.problem.bytes(one.pass_name) // 3,
        )


def _time_ns(backend: str, one: Case) -> float:
    """Launch cost a step plus arithmetic, so that small batches are bound by the first."""
    slowness = SLOWNESS.get(backend, 1.5)
    steps = one.problem.seq_len * (3_000 + 9_000 * slowness)
    passes = 2.1 if one.pass_name == "backward" else 1.0
    return passes * (steps + one.problem.flops("forward") / 20 * (1 + 0.15 * slowness))


def manifest(records: Sequence[Record] = (), **fields: Any) -> dict[str, Any]:
    """The run.json of a run with these records."""
    cases = list(dict.fromkeys(r.case for r in records))
    plan = {
        "backends": list(dict.fromkeys(r.backend for r in records)),
        "cases": [one.to_dict() for one in cases],
        "blocks": max((r.block for r in records), default=0) + 1,
        "device": "cpu",
        "skips": [],
        "absent": [
            {"backend": "cudnn", "reason": "needs a CUDA device; this machine has none"},
            {"backend": "triton", "reason": "needs a CUDA device; this machine has none"},
        ],
        "planned_records": len(records),
        "estimated_s": 42.5,
        "estimated_bytes": 123456,
    }
    return {
        "schema": 1,
        "id": "20260101T120000-host-quick",
        "label": "quick",
        "suite": "quick",
        "command": ["lstm-bench", "run", "quick"],
        "seed": 1,
        "start": "2026-01-01T12:00:00+00:00",
        "end": "2026-01-01T12:02:30+00:00",
        "spec": Spec(grids=({"seq-len": (32, 64, 128)},), suite="quick").to_dict(),
        "plan": plan | fields.pop("plan", {}),
        "environment": environment(),
        "kernels_digest": "0123abcd",
    } | fields


def environment() -> dict[str, Any]:
    """What a run knows of its machine."""
    return {
        "host": "bench-host",
        "os": "Linux 6.1",
        "cpu": {"model": "A CPU", "physical_cores": 2, "threads": 2, "frequency": 2.5e9},
        "ram_bytes": 25_000_000_000,
        "gpu": None,
        "torch": "2.13.0",
        "cuda": None,
        "cudnn": None,
        "triton": "3.9.0",
        "numba": "0.62.0",
        "python": "3.12.1",
        "git": {"commit": "0123abcd", "dirty": False},
        "settings": {"OMP_NUM_THREADS": "2", "allow_tf32": False},
        "start": {"load": [0.5, 0.4, 0.3]},
        "end": {"load": [2.0, 1.4, 0.9]},
    }


def run(records: Iterable[Record] = (), *, torn: bool = False, **fields: Any) -> Run:
    """A run as the store would have read it; `fields` replace those of its manifest."""
    kept = tuple(records)
    return Run(Path("synthetic-run"), manifest(kept, **fields), kept, torn=torn)
