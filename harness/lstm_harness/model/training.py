"""What `lstm-bench train` is asked for, and what it keeps: points of curves, and how each ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lstm_harness.model.record import FAILED_MEASURING
from lstm_harness.model.typed import Stored, built

SCHEMA = 1
# The losses of so many first steps are held against those of other backends, one by one.
OPENING = 20
# How a curve ends: it reached its goal or its last step, its time was over, or a record's failures.
ENDS = ("ok", "out_of_time", "unsupported", *FAILED_MEASURING)


@dataclass(frozen=True)
class TrainingSpec:
    """What to train, on what, how long and how.

    `seconds` is the most that a curve trains; `steps` its most steps, None for the workload's;
    `to_goal` ends it where it reached its goal. `bptt`, `packed`, `remember` and `text` are what
    `worker.workloads` calls so.
    """

    workload: str
    backends: tuple[str, ...]
    cells: tuple[str, ...]
    seeds: tuple[int, ...]
    seconds: float
    steps: int | None = None
    to_goal: bool = True
    bptt: int | None = None
    packed: bool = True
    remember: bool = True
    text: str | None = None
    device: str = "auto"
    threads: int | None = None
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Curve:
    """One training: who, of what cell, from which seed."""

    seed: int
    cell: str
    backend: str

    def label(self) -> str:
        """As a line of progress or of a message names it."""
        return f"{self.backend}, {self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class Point(Stored):
    """What a curve shows after a step.

    `loss` is the mean over the steps since the point before, `right_share` likewise where a
    prediction is right or wrong. `seconds` and `predictions` are of training alone, from its
    beginning on: batches, forward, backward, the optimizer's step; not what a first step compiles.
    `held_out` is what the model makes of data it does not learn from; the first point has the
    losses of the first steps.
    """

    step: int
    seconds: float
    predictions: int
    loss: float | None
    right_share: float | None
    held_out: Mapping[str, float | None]
    opening: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class End(Stored):
    """How a curve ended; `examples` are lines for a reader, `reason` says why it is not `ok`.

    `setup_seconds` is what making the task and a first step took, which compiles.
    """

    status: str
    reason: str = ""
    setup_seconds: float | None = None
    baseline: float | None = None
    parameters: int | None = None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Learnt:
    """A curve as far as it is known: its points in order, and its end, None while it goes on."""

    curve: Curve
    points: tuple[Point, ...] = ()
    end: End | None = None


@dataclass(frozen=True)
class Line:
    """One line of curves.jsonl: a point, or an end, of a curve."""

    curve: Curve
    point: Point | None = None
    end: End | None = None
    schema: int = field(default=SCHEMA)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without what is not there."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Line":
        """A line that was kept.

        Raises:
            Unfit: a field is missing or is none; or it has not one point or one end.
        """
        line: Line = built({"point": None, "end": None, **stored}, _Stored, "it")
        if (line.point is None) == (line.end is None):
            raise ValueError("it has not one of a point and an end")
        return cls(line.curve, line.point, line.end, line.schema)


@dataclass(frozen=True)
class _Stored(Stored):
    curve: Curve
    point: Point | None
    end: End | None
    schema: int
