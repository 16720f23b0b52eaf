"""Every message between the main process and a worker: a request, and what answers it.

A request says which reply it gets: `class ReadState(Request[MachineState])`. Both ends are checked
by it. A worker that cannot do what was asked replies `Refusal`. Lines on the pipe are made and
read by `wire`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from lstm_harness.model.case import PLAIN, Call, Case
from lstm_harness.model.ceilings import Level
from lstm_harness.model.training import Curve, End, Point, TrainingSpec
from lstm_kernels.problem import Problem

Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)


class Request(Generic[Reply_co]):
    """What a worker is asked; `Reply_co` is the type of its answer."""


# Replies.


@dataclass(frozen=True)
class Refusal:
    """What went wrong; `status` is a record's, `poisoned` a device that fails from now on."""

    status: str
    reason: str
    poisoned: bool


@dataclass(frozen=True)
class Done:
    """The request is done, and there is nothing to report."""


@dataclass(frozen=True)
class PluginAdded:
    """The backends a plugin registered, or why it could not be imported.

    `elsewhere` says where python found modules that the plugin imports and its folder has, too.
    """

    names: tuple[str, ...]
    error: str | None
    elsewhere: Mapping[str, str]


@dataclass(frozen=True)
class Registered:
    """Every registered backend, as the fields of its record, and what could not be imported.

    `cells` are those that are not built in, as data (`lstm_kernels.cells.to_data`); `cell_names`
    are those of all. The kernels may be of another revision than the harness, with other
    fields in their record, and other cells.
    """

    backends: tuple[Mapping[str, Any], ...]
    unavailable: Mapping[str, str]
    cells: tuple[Mapping[str, Any], ...]
    cell_names: tuple[str, ...]


@dataclass(frozen=True)
class DeviceName:
    """The device this worker uses, whether there is a CUDA device, and the version of torch."""

    device: str
    cuda: bool
    torch: str


@dataclass(frozen=True)
class MachineFacts:
    """What a run's manifest says of a machine, and what planning needs of it.

    `kernels` is the folder that `lstm_kernels` is imported from.
    """

    environment: Mapping[str, Any]
    identity: str
    free_bytes: int
    kernels_digest: str
    kernels: str


@dataclass(frozen=True)
class MachineState:
    """The machine's load, clocks and neighbours at this moment."""

    state: Mapping[str, Any]


@dataclass(frozen=True)
class ProbeMade:
    """What one probe measures; see `Ceiling`."""

    kind: str
    of: str
    by: str
    unit: str
    detail: str


@dataclass(frozen=True)
class ProbesMade:
    """What `TakeRound` will measure on a device, and what else its ceilings say about it."""

    probes: tuple[ProbeMade, ...]
    levels: tuple[Level, ...]
    units: int
    near_bytes: int


@dataclass(frozen=True)
class RoundTaken:
    """A few samples of every probe, or why there are none."""

    samples: tuple[Mapping[str, tuple[float, ...]] | str, ...]


@dataclass(frozen=True)
class Reason:
    """Why something cannot be; None where it can."""

    reason: str | None


@dataclass(frozen=True)
class Reasons:
    """Why each of several problems is not run; None where it is."""

    reasons: tuple[str | None, ...]


@dataclass(frozen=True)
class AnswerMade:
    """That a problem's answer is known: of which batch rows, None for all.

    `product_flops` is the rate that the device's own products reach, FLOP/s, by which a time is
    impossible; `tolerance` the largest relative L2 error that is right.
    """

    product_flops: float
    tolerance: float
    rows: tuple[int, ...] | None


@dataclass(frozen=True)
class Handed:
    """What executions made, handed over in memory that the worker cannot change once it is sealed.

    `descriptor` is the worker's, of a file in memory; it holds, execution by execution, every
    tensor named in `counts`, as many of each name as `counts` says, in the dtype it should have.
    """

    descriptor: int
    counts: tuple[Mapping[str, int], ...]


@dataclass(frozen=True)
class Judged:
    """Errors by tensor name, relative L2, None where not finite; `failure` says what is wrong.

    `bound` is the largest error that any of the tensors was allowed.
    """

    errors: Mapping[str, float | None]
    failure: str
    bound: float = 0.0


@dataclass(frozen=True)
class CellOpened:
    """A cell's first execution, and where asked for one that made gradients; times in ms."""

    handed: Handed
    setup_ms: float
    first_ms: float


@dataclass(frozen=True)
class Reading:
    """One timed region. `marked` tells that it ran in a disturbed spell or under throttling.

    `throttling` names what slowed the device just after it.
    """

    elapsed_ns: int
    cpu_ns: int | None = None
    steal_ms: float | None = None
    involuntary_switches: int | None = None
    sm_clock_mhz: float | None = None
    marked: bool = False
    throttling: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellClosed:
    """What a record holds in addition to a cell's times; fields as in `Record`."""

    kernels: tuple[str, ...]
    warnings: tuple[str, ...]
    wall_ns: tuple[int, ...]
    peak_bytes: int | None
    saved_bytes: int | None
    energy_mj: float | None


@dataclass(frozen=True)
class GradientFollowed:
    """The norm of dL_T/dh_t at t = T, T - 1, ... 0; None where it is not finite."""

    norms: tuple[float | None, ...]


@dataclass(frozen=True)
class PhasesTimed:
    """The time of each phase that a backend notes, in ns, in the order in which they first end.

    `whole_ns` is that of the executions that noted them, `plain_ns` of as many that noted nothing.
    """

    phases: Mapping[str, float]
    whole_ns: float
    plain_ns: float
    executions: int


@dataclass(frozen=True)
class TrainingOpened:
    """The curve can be trained; `last` is the point where it continues, None at its start."""

    last: Point | None


@dataclass(frozen=True)
class PointReached:
    """What a curve shows now."""

    point: Point


@dataclass(frozen=True)
class TrainingClosed:
    """What held-out data shows at the end of a curve, and examples for a reader."""

    held_out: Mapping[str, float | None]
    end: End


@dataclass(frozen=True)
class HooksLacking:
    """The names of the hooks that a backend does not have."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """The key of a case's launch parameters, and the choices worth measuring."""

    key: str
    candidates: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class CandidatesListed:
    """The candidates of each case, in the order of the cases."""

    cases: tuple[Candidates, ...]


@dataclass(frozen=True)
class CompileCounts:
    """How many kernels were compiled, were compiled already, and failed."""

    compiled: int
    cached: int
    failed: int


@dataclass(frozen=True)
class TuningHeader:
    """The header that a file of tuned parameters would have now, and its name."""

    header: Mapping[str, Any]
    name: str


# Requests about the machine and the backends that are registered on it.


@dataclass(frozen=True)
class AddPlugin(Request[PluginAdded]):
    """Register the backends and the cells of a plugin file."""

    path: str


@dataclass(frozen=True)
class LearnCells(Request[Done]):
    """Know these cells, which are not built in; no message with a problem of theirs comes before.

    They are data: a worker that gets them imports no plugin.
    """

    cells: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ListBackends(Request[Registered]):
    """List the registered backends."""


@dataclass(frozen=True)
class NameDevice(Request[DeviceName]):
    """Name the device that is used."""


@dataclass(frozen=True)
class DescribeMachine(Request[MachineFacts]):
    """Describe the machine; `plugins` are files whose sources count as kernels."""

    plugins: tuple[str, ...]


@dataclass(frozen=True)
class ReadState(Request[MachineState]):
    """Report the machine's state now."""


@dataclass(frozen=True)
class FindMissing(Request[Reason]):
    """Say why a backend cannot run on this machine at all, without importing it.

    A backend that is interpreted on a CPU can be checked there (`checking`), but is never timed.
    """

    backend: str
    checking: bool = False


@dataclass(frozen=True)
class FindUnsupported(Request[Reasons]):
    """Say which problems a backend does not run, and why."""

    backend: str
    problems: tuple[Problem, ...]


# Requests about ceilings.


@dataclass(frozen=True)
class MakeProbes(Request[ProbesMade]):
    """Prepare the probes that measure this device's ceilings."""


@dataclass(frozen=True)
class TakeRound(Request[RoundTaken]):
    """Sample every probe."""


# Requests about cells.


@dataclass(frozen=True)
class MakeAnswer(Request[AnswerMade]):
    """Find the float64 answer to a problem that is called so, and keep it in memory."""

    problem: Problem
    seed: int
    call: Call = PLAIN


@dataclass(frozen=True)
class JudgeProof(Request[Judged]):
    """Compare a cell's first execution, and its gradients, with the float64 answer.

    Args:
        place: the path of the memory that was handed over.
    """

    problem: Problem
    seed: int
    place: str
    handed: Handed
    call: Call = PLAIN


@dataclass(frozen=True)
class Draw:
    """The seeds of the inputs of a sample's executions, and of their output gradients.

    They are drawn when the sample is due. `weights` changes a cell's weights a little, once.
    """

    weights: str
    inputs: str
    gradients: str


@dataclass(frozen=True)
class JudgeSample(Request[Judged]):
    """Compare one execution of a sample with the right result for its inputs."""

    problem: Problem
    seed: int
    draw: Draw
    execution: int
    place: str
    handed: Handed
    call: Call = PLAIN


@dataclass(frozen=True)
class LoadBackend(Request[Done]):
    """Import a backend, of a plugin file where one is named."""

    backend: str
    plugin: str | None


@dataclass(frozen=True)
class Trial:
    """A choice of launch parameters that a cell is measured with, and its key."""

    key: str
    choice: Mapping[str, Any]


@dataclass(frozen=True)
class OpenCell(Request[CellOpened]):
    """Execute a cell for the first time, on inputs whose answer is known; close the one before.

    Args:
        weights: what the weights are changed by afterwards, a little, for all samples.
        with_gradients: make gradients too, in an execution of its own where the pass makes none.
    """

    backend: str
    case: Case
    seed: int
    weights: str
    with_gradients: bool
    trial: Trial | None = None


@dataclass(frozen=True)
class PrepareSample(Request[Done]):
    """Prepare a sample of the open cell, of this many executions, on inputs that are drawn."""

    inputs: str
    repeats: int


@dataclass(frozen=True)
class DrawGradients(Request[Done]):
    """Draw the gradients that the prepared sample's backward starts from."""

    gradients: str


@dataclass(frozen=True)
class Execute(Request[Reading]):
    """Execute and time the prepared sample."""


@dataclass(frozen=True)
class HandOver(Request[Handed]):
    """Hand over all that the executed sample made."""


@dataclass(frozen=True)
class CloseCell(Request[CellClosed]):
    """Report what a record holds in addition to the open cell's times.

    Args:
        our_pids: the run's own processes; others on a GPU are foreign.
    """

    with_memory: bool
    with_energy: bool
    our_pids: tuple[int, ...]


# Requests about what no record has.


@dataclass(frozen=True)
class FollowGradient(Request[GradientFollowed]):
    """Follow the gradient of a loss on the last step alone back to the initial state."""

    backend: str
    problem: Problem
    seed: int


@dataclass(frozen=True)
class TimePhases(Request[PhasesTimed]):
    """Time the phases of a case, on a backend that notes them, for about so long."""

    backend: str
    case: Case
    seed: int
    time_s: float


# Requests about a curve.


@dataclass(frozen=True)
class OpenTraining(Request[TrainingOpened]):
    """Make a workload's task, or continue the one whose checkpoint is there."""

    spec: TrainingSpec
    curve: Curve
    checkpoint: str


@dataclass(frozen=True)
class TrainOn(Request[PointReached]):
    """Train the open curve for this many steps more."""

    steps: int


@dataclass(frozen=True)
class CloseTraining(Request[TrainingClosed]):
    """Evaluate the open curve once more: it has ended."""


# Requests about launch parameters.


@dataclass(frozen=True)
class FindHooksLacking(Request[HooksLacking]):
    """Say which of these hooks a backend's module does not have."""

    backend: str
    hooks: tuple[str, ...]


@dataclass(frozen=True)
class ListCandidates(Request[CandidatesListed]):
    """List the launch parameters worth measuring for each case."""

    backend: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class CompileJob:
    """One choice whose kernels are to be compiled."""

    key: str
    problem: Problem
    choice: Mapping[str, Any]


@dataclass(frozen=True)
class CompileKernels(Request[CompileCounts]):
    """Compile the kernels of choices ahead of their measurement."""

    backend: str
    plugin: str | None
    arch: str
    jobs: tuple[CompileJob, ...]


@dataclass(frozen=True)
class DescribeTuning(Request[TuningHeader]):
    """Report the header that a file of a backend's tuned parameters would have."""

    backend: str


def reply_of(request: type[Request[Reply]]) -> type[Reply]:
    """The type of the reply to a request, as its class says."""
    (base,) = request.__orig_bases__  # type: ignore[attr-defined] # of a subclass of a generic one
    (reply,) = get_args(base)
    return reply  # type: ignore[no-any-return] # what the class says


REQUESTS: Mapping[str, type[Request[Any]]] = {
    request.__name__: request for request in Request.__subclasses__()
}
