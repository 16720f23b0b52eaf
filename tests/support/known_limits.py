"""Ceilings with round numbers, of a CPU and of a GPU that never were."""

import socket
from collections.abc import Mapping
from typing import Any

from lstm_harness.model.ceilings import Ceiling, Ceilings, Level, conditions_of
from lstm_harness.worker import environment

CPU_FIGURES = {
    ("read", "L1"): 800e9,
    ("read", "L2"): 400e9,
    ("copy", "L2"): 300e9,
    ("read", "L3"): 100e9,
    ("read", "memory"): 40e9,
    ("product", "float32 ieee"): 200e9,
    ("product", "float64 ieee"): 100e9,
    ("product", "bfloat16 ieee"): 800e9,
    ("product", "float16 ieee"): 2e9,
}
GPU_FIGURES = {
    ("read", "L2"): 5e12,
    ("read", "L2 by one SM"): 100e9,
    ("read", "memory"): 3e12,
    ("copy", "memory"): 2.5e12,
    ("product", "float16 ieee"): 800e12,
    ("product", "float32 tf32"): 400e12,
    ("product", "float32 ieee"): 50e12,
    ("launch", "in a stream"): 2000.0,
    ("launch", "in a graph"): 1300.0,
    ("flag", "from SM to SM"): 160.0,
    ("barrier", "of the whole grid"): 1300.0,
    ("gates", "lstm forward"): 100.0,
    ("gates", "lstm backward"): 80.0,
}
UNITS = {"read": "B/s", "copy": "B/s", "product": "FLOP/s"}


def ceiling(kind: str, of: str, best: float, by: str = "", **fields: Any) -> Ceiling:
    """One ceiling of one round."""
    unit = UNITS.get(kind, "ns")
    given = {"value": best, "low": None, "high": None, "best": best, "samples": ((best,),)}
    given |= {"cpu_shares": ()}
    return Ceiling(kind, of, by, unit, **given | fields, detail="made up")


def cpu_limits(figures: Mapping[tuple[str, str], float] | None = None, **fields: Any) -> Ceilings:
    """Two threads of 2,000 bytes of registers each, caches of 100 kB, 2 MB and 30 MB."""
    sizes = {"L1": 100_000, "L2": 2_000_000, "L3": 30_000_000, "memory": None}
    given: dict[str, Any] = {
        "device": "cpu",
        "identity": "a host",
        "conditions": {"cpu": "a CPU", "threads": 2, "torch": "2.13.0", "numba": "0.68.1"},
        "levels": tuple(Level(name, size) for name, size in sizes.items()),
        "units": 2,
        "near_bytes": 2_000,
    }
    return _limits(CPU_FIGURES | dict(figures or {}), given | fields)


def gpu_limits(figures: Mapping[tuple[str, str], float] | None = None, **fields: Any) -> Ceilings:
    """A hundred SMs that hold 500 kB each, and an L2 of 50 MB."""
    given: dict[str, Any] = {
        "device": "cuda",
        "identity": "GPU-0",
        "conditions": {"gpu": "a GPU", "driver": "1", "torch": "2.13.0", "triton": "3.7.1"},
        "levels": (Level("L2", 50_000_000), Level("memory", None)),
        "units": 100,
        "near_bytes": 500_000,
    }
    return _limits(GPU_FIGURES | dict(figures or {}), given | fields)


def limits_of_this_cpu(threads: int, figures: Mapping[tuple[str, str], float]) -> Ceilings:
    """Made-up figures that a run on this machine takes for its own."""
    conditions = conditions_of("cpu", environment.describe("cpu")) | {"threads": threads}
    return cpu_limits(figures, identity=socket.gethostname(), conditions=conditions)


def _limits(figures: Mapping[tuple[str, str], float], fields: dict[str, Any]) -> Ceilings:
    ceilings = tuple(ceiling(kind, of, best) for (kind, of), best in figures.items() if best)
    made = {"measured": "2026-01-01T12:00:00+00:00", "rounds": 1, "disturbed": 0}
    return Ceilings(**made | fields | {"ceilings": ceilings})
