"""What `lstm-bench train` is asked for, and what it keeps: points of curves, and how each ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

from lstm_harness.model.errors import UserError
from lstm_harness.model.typed import Stored, built
from lstm_harness.model.workloads import EXTRA, workload_named

SCHEMA = 1
# The losses of this many first steps are compared with those of other backends, one by one.
OPENING = 20


@dataclass(frozen=True)
class TrainingSpec(Stored):
    """What to train, on what, how long and how.

    `seconds` is the most that a curve trains; `steps` its most steps, None for the workload's;
    `to_goal` ends it when it reaches its goal. `bptt`, `packed`, `remember` and `text` are what
    `worker.workloads` describes.
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

    def curves(self) -> tuple["Curve", ...]:
        """Every curve, grouped by seed, because curves of one seed are compared with each other."""
        return tuple(Curve(*each) for each in product(self.seeds, self.cells, self.backends))


def refuse_unfit(spec: TrainingSpec) -> None:
    """Refuse choices that a workload does not have.

    Raises:
        UserError: it is unknown, a package of its data is missing, or it does not have that choice.
    """
    workload = workload_named(spec.workload)
    lacking = workload.lacking()
    if lacking:
        raise UserError(
            f"the data of {workload.name} is in {', '.join(lacking)}, not installed here; "
            f"pip install 'lstm-bench[{EXTRA}]'"
        )
    if not spec.packed and not workload.is_ragged:
        raise UserError(f"--padding masked: {workload.name} has no padding; leave it out")
    if not spec.remember and not workload.remembers:
        raise UserError(f"--forget: {workload.name} carries no state between batches; leave it out")
    if spec.text is not None and not workload.takes_text:
        raise UserError(
            f"--text {spec.text}: {workload.name} does not learn from a text; leave it out"
        )


@dataclass(frozen=True, order=True)
class Curve:
    """One training: the backend, the cell and the seed."""

    seed: int
    cell: str
    backend: str

    def label(self) -> str:
        """Its name in a line of progress or in a message."""
        return f"{self.backend}, {self.cell}, seed {self.seed}"


@dataclass(frozen=True)
class Point(Stored):
    """The state of a curve after a step.

    `loss` is the mean over the steps since the point before, and so is `right_share` where a
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

    `status` is `ok` at its goal or its last step, `out_of_time` where its budget was over, else a
    record's.

    `setup_seconds` is what making the task and a first step took, which compiles; `held_out` has
    what only the end of a curve is asked for, too.
    """

    status: str
    reason: str = ""
    setup_seconds: float | None = None
    baseline: float | None = None
    parameters: int | None = None
    examples: tuple[str, ...] = ()
    held_out: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Learnt:
    """A curve so far: its points in order, and its end, None while it continues."""

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
        """The JSON object, without absent parts."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Line":
        """A line that was kept.

        Raises:
            Unfit: a field is missing or wrong; or it has not exactly one point or one end.
        """
        line: Line = built({"point": None, "end": None, **stored}, _Stored, "it")
        if (line.point is None) == (line.end is None):
            raise ValueError("it needs either a point or an end; expected exactly one")
        return cls(line.curve, line.point, line.end, line.schema)


@dataclass(frozen=True)
class TrainingManifest(Stored):
    """What training.json says: what was asked for, where, with what, and when.

    `device` is the one that `auto` became; `curves_sha256` is of the whole curves.jsonl, None while
    the training goes on.
    """

    schema: int
    id: str
    lstm_bench: str
    command: tuple[str, ...]
    spec: TrainingSpec
    device: str
    environment: Mapping[str, Any]
    kernels_digest: str
    start: str
    end: str | None = None
    curves_sha256: str | None = None


@dataclass(frozen=True)
class _Stored(Stored):
    curve: Curve
    point: Point | None
    end: End | None
    schema: int
