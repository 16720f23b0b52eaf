"""What one block measured for one (backend, case): status, raw samples in order, evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from lstm_harness.model.case import CALL_FIELDS, Case
from lstm_harness.model.typed import known

SCHEMA = 1
STATUSES = (
    "ok",
    "unsupported",
    "incorrect",
    "out_of_memory",
    "crashed",
    "timed_out",
    "error",
)
# A wrong answer comes first; then the statuses that say most about the backend itself.
SEVERITY = ("ok", "unsupported", "out_of_memory", "timed_out", "error", "crashed", "incorrect")
# The statuses of a cell whose measurement failed, which say nothing about its speed.
FAILED_MEASURING = ("crashed", "timed_out", "error")


@dataclass(frozen=True)
class Record:
    """One line of records.jsonl. Timings exist only where `status` is `ok`.

    Per-sample lists are parallel to `samples_ns`: `cpu_ns` is CPU time of the process, `wall_ns`
    the second, synchronised wall time of a CUDA sample, `steal_ms` time the hypervisor took away,
    `involuntary_switches` times the scheduler did. `marked` holds indices of samples taken in a
    disturbed spell or under throttling; they are kept. `turns` holds how many samples each turn
    took, where the cell took turns with another. `stopped_by` is `rel_ci` or `budget`. `unranked`
    says why the times are stored but not used for ranking. `oracle_rows` is how many batch rows
    were compared, None for all. `floor_ns` is the least time that the run's ceilings allow for one
    execution, `floor_term` what sets it (`analysis.floors`). `machine` is the device that measured
    it: a GPU's UUID, or a CPU's host. Records from before there were parts do not have it.
    """

    block: int
    order: int
    backend: str
    case: Case
    status: str
    reason: str = ""
    samples_ns: tuple[int, ...] = ()
    inner_repeats: int = 1
    errors: Mapping[str, float | None] = field(default_factory=dict)
    tolerance: float | None = None
    setup_ms: float = 0.0
    compile_ms: float = 0.0
    peak_bytes: int | None = None
    saved_bytes: int | None = None
    energy_mj: float | None = None
    sm_clock_mhz: float | None = None
    kernels: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stopped_by: str | None = None
    cpu_ns: tuple[int, ...] = ()
    wall_ns: tuple[int, ...] = ()
    steal_ms: tuple[float, ...] = ()
    involuntary_switches: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()
    oracle_rows: int | None = None
    floor_ns: float | None = None
    floor_term: str | None = None
    unranked: str = ""
    machine: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.inner_repeats < 1:
            raise ValueError(f"inner_repeats {self.inner_repeats}; expected 1 or more")
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r}; expected one of {', '.join(STATUSES)}")
        if self.status == "ok":
            if not self.samples_ns or min(self.samples_ns) <= 0:
                raise ValueError("an ok record has no samples; expected one or more above 0 ns")
            if self.reason:
                raise ValueError("an ok record has a reason; expected none")
        else:
            if self.samples_ns:
                raise ValueError(f"a record that is {self.status} has samples; expected none")
            if not self.reason:
                raise ValueError(f"a record that is {self.status} has no reason; expected one")

    @property
    def identity(self) -> tuple[int, str, Case]:
        """What identifies a record in a run: block, backend, case."""
        return self.block, self.backend, self.case

    @property
    def standing(self) -> tuple[str, str]:
        """The status and reason that count: a cell without believable times was not measured."""
        return ("error", self.unranked) if self.unranked else (self.status, self.reason)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of this record, including unknown fields that it was read with."""
        named = {name: getattr(self, name) for name in _PLAIN}
        as_lists = {k: list(v) if isinstance(v, tuple) else v for k, v in named.items()}
        return {"schema": SCHEMA, **dict(self.extra), **as_lists, **self.case.to_dict()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """The record of a JSON object; unknown fields are kept in `extra`.

        Raises:
            KeyError, TypeError, ValueError: it is not a record; the message says which field.
        """
        named = {name: stored[name] for name in _PLAIN if name in stored}
        extra = {name: value for name, value in stored.items() if name not in _STORED}
        return cls(case=Case.from_dict(stored), extra=extra, **known(named, cls))


_PLAIN = tuple(f.name for f in fields(Record) if f.name not in ("case", "extra"))
_STORED = {*_PLAIN, "schema", "problem", "pass", "launch", "cache", "device", *CALL_FIELDS}
