"""The ceilings of one device, as data: the fastest rates and times that were measured on it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from lstm_harness.model.typed import Stored, known

SCHEMA = 1
# By unit, whether more is faster.
UNITS = {"B/s": True, "FLOP/s": True, "ns": False}
# By unit, what a reader sees, and how many of the unit that is.
SHOWN_UNITS = {"B/s": ("GB/s", 1e9), "FLOP/s": ("GFLOP/s", 1e9), "ns": ("ns", 1.0)}

Conditions = Mapping[str, str | int | None]


def conditions_of(device: str, environment: Mapping[str, Any]) -> dict[str, str | int | None]:
    """Everything from a survey that the ceilings of a device depend on."""
    software = {name: environment.get(name) for name in ("torch", "cuda", "triton", "numba")}
    if device == "cpu":
        cpu = environment["cpu"]
        used = {name: software[name] for name in ("torch", "numba")}
        return {"cpu": cpu["model"], "threads": cpu["threads"]} | used
    gpu = environment["gpu"]
    used = {name: software[name] for name in ("torch", "cuda", "triton")}
    return {"gpu": gpu["name"], "driver": gpu["driver"]} | used


@dataclass(frozen=True)
class Ceiling:
    """One figure of a device, in `unit`: a rate, or a time.

    `kind` is what was measured (read, copy, product, launch, flag, ...), `of` is what it was
    measured on (L2, float32 ieee, lstm forward, ...) and `by` is the library, if there are several.
    `value` is the median of the rounds' medians, `low` and `high` its 95% interval (None below 3
    rounds), `best` the fastest sample: what the device can do when nobody else uses it.
    `samples` holds every sample, by round, in order, and `cpu_shares` holds for each
    the share of its time that this process had of the CPU, empty for another device; `best` counts
    that share of a sample's time alone, so that a shared machine raises no floor.
    """

    kind: str
    of: str
    by: str
    unit: str
    value: float
    low: float | None
    high: float | None
    best: float
    samples: tuple[tuple[float, ...], ...]
    cpu_shares: tuple[tuple[float, ...], ...]
    detail: str

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit {self.unit!r}; expected one of {', '.join(UNITS)}")
        for name in ("value", "best"):
            figure = getattr(self, name)
            if not isinstance(figure, int | float) or not math.isfinite(figure) or figure <= 0:
                raise ValueError(f"{name} of {self.name} is {figure!r}; expected a number above 0")

    @property
    def name(self) -> str:
        """The name that a reader sees."""
        return f"{self.kind} {self.of}".strip() + (f", {self.by}" if self.by else "")

    @property
    def shown_unit(self) -> str:
        """The unit that `shown` uses."""
        return SHOWN_UNITS[self.unit][0]

    def shown(self, value: float | None) -> str:
        """A value of this ceiling for a reader, in `shown_unit`."""
        if value is None:
            return "unknown"
        in_unit = value / SHOWN_UNITS[self.unit][1]
        return f"{in_unit:,.0f}" if in_unit >= 99.5 else f"{in_unit:.3g}"

    def interval(self) -> str:
        """The 95% interval of `value` for a reader."""
        return (
            "unknown" if self.low is None else f"{self.shown(self.low)} to {self.shown(self.high)}"
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The ceiling that `Ceilings.to_dict` stored; unknown fields are ignored."""
        return cls(**known(stored, cls, "ceiling"))


@dataclass(frozen=True)
class Level(Stored):
    """A level of the memory hierarchy; `bytes` of all its parts together, None for memory."""

    name: str
    bytes: int | None


@dataclass(frozen=True)
class Ceilings:
    """Everything measured of one device.

    `conditions` is what must be the same for these figures to hold: threads, torch, driver and so
    on. `levels` goes from the nearest cache to memory. `near_bytes` is what a compute unit holds
    nearer than that (an SM's shared memory and registers; a CPU thread's registers), `units` how
    many such units there are. Others used the device in `disturbed` of the `rounds`. `failures` are
    probes without a figure, each with its reason.
    """

    device: str
    identity: str
    conditions: Conditions
    levels: tuple[Level, ...]
    units: int
    near_bytes: int
    measured: str
    rounds: int
    disturbed: int
    ceilings: tuple[Ceiling, ...]
    failures: Mapping[str, str] = field(default_factory=dict)

    def best(self, kind: str, what: str) -> float | None:
        """The fastest figure of that kind, from any library; None if there is none."""
        alike = [each for each in self.ceilings if (each.kind, each.of) == (kind, what)]
        if not alike:
            return None
        fastest = max if UNITS[alike[0].unit] else min
        return fastest(each.best for each in alike)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of these ceilings, with the names of ceilings as well as their parts."""
        named = [{"name": each.name} | asdict(each) for each in self.ceilings]
        return {"schema": SCHEMA} | asdict(self) | {"ceilings": named}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """The ceilings of a JSON object; unknown fields are ignored.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not one, or of another schema.
        """
        if stored["schema"] != SCHEMA:
            raise ValueError(f"schema {stored['schema']!r}; this lstm-bench reads {SCHEMA}")
        return cls(**known(stored, cls, "limits"))
