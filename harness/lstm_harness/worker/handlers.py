"""What a worker does with each request: one function a request, found by the request's type."""

import gc
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

import lstm_kernels
from lstm_harness.model import protocol
from lstm_harness.model.sources import files_of, sources_digest
from lstm_harness.model.switches import is_set
from lstm_harness.worker import environment
from lstm_harness.worker.compile_ahead import compile_all
from lstm_harness.worker.executor import Executor, set_precision
from lstm_harness.worker.gradients import norms_back
from lstm_harness.worker.inputs import TORCH_DTYPES
from lstm_harness.worker.older_kernels import unsupported
from lstm_harness.worker.oracle import Oracle
from lstm_harness.worker.phases import time_phases
from lstm_harness.worker.probes.probe import Bencher
from lstm_harness.worker.training import Training
from lstm_harness.worker.verify import tolerance
from lstm_kernels import Backend, registry, tuning
from lstm_kernels.stack import Unsupported

Reply = TypeVar("Reply")

_HANDLERS: dict[type[protocol.Request[Any]], Callable[["Worker", Any], Any]] = {}


def answers(
    request: type[protocol.Request[Reply]],
) -> Callable[[Callable[["Worker", Any], Reply]], Callable[["Worker", Any], Reply]]:
    """Register a function that answers a request; it must return that request's reply."""

    def register(handler: Callable[["Worker", Any], Reply]) -> Callable[["Worker", Any], Reply]:
        _HANDLERS[request] = handler
        return handler

    return register


class Worker:
    """The state of one worker between requests: a device, a backend's cells, a device's probes."""

    def __init__(self, device: str) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        self.executor: Executor | None = None
        self.bencher: Bencher | None = None
        self.training: Training | None = None
        self.oracle = Oracle(device)
        self._rates: dict[tuple[str, str], float] = {}

    def answer(self, request: protocol.Request[Reply]) -> Reply:
        """Do what a request asks; what it raises becomes a `Refusal`."""
        return _HANDLERS[type(request)](self, request)  # type: ignore[no-any-return] # by `answers`

    def load(self, backend: str) -> Executor:
        """Import a backend, whose cells are executed from here on."""
        self.executor = Executor(registry.load(backend), self.device)
        # Collecting garbage before every cell then looks at that cell's objects alone.
        gc.freeze()
        return self.executor

    def give_memory_back(self) -> None:
        """Free the GPU's memory for the other workers that share it."""
        if self.device != "cpu":
            gc.collect()
            torch.cuda.empty_cache()

    def is_lost(self) -> bool:
        """Whether the CUDA context is broken, so that every later cell would fail."""
        if self.device == "cpu":
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def product_flops(self, dtype: str, precision: str) -> float:
        """The rate of the device's own products, measured once."""
        key = dtype, precision
        if key not in self._rates:
            self._rates[key] = environment.product_flops(TORCH_DTYPES[dtype], self.device)
        return self._rates[key]


@answers(protocol.AddPlugin)
def _add_plugin(worker: Worker, asked: protocol.AddPlugin) -> protocol.PluginAdded:
    try:
        added = add_plugin(asked.path)
    except SystemExit as end:
        return protocol.PluginAdded((), f"SystemExit: {end}", {})
    error = registry.unavailable().get(asked.path)
    names = tuple(backend.name for backend in added)
    return protocol.PluginAdded(names, error, found_elsewhere(Path(asked.path)))


@answers(protocol.ListBackends)
def _list_backends(worker: Worker, asked: protocol.ListBackends) -> protocol.Registered:
    known = registry.registered().values()
    cells = _brought_cells()
    backends = tuple(asdict(each) for each in known)
    names = tuple(lstm_kernels.CELLS)
    return protocol.Registered(backends, registry.unavailable(), cells, names)


def _brought_cells() -> tuple[Mapping[str, Any], ...]:
    """The cells that are not built in, as data; none for kernels from before there were any."""
    if not hasattr(registry, "brought_cells"):
        return ()
    from lstm_kernels.cells import to_data

    return tuple(to_data(each) for each in registry.brought_cells().values())


@answers(protocol.LearnCells)
def _learn_cells(worker: Worker, asked: protocol.LearnCells) -> protocol.Done:
    # Kernels from before cells were data refuse these, and then every problem with such a cell.
    from lstm_kernels.cells import add_cells, from_data

    add_cells(map(from_data, asked.cells), "the run")
    return protocol.Done()


@answers(protocol.NameDevice)
def _name_device(worker: Worker, asked: protocol.NameDevice) -> protocol.DeviceName:
    return protocol.DeviceName(worker.device, torch.cuda.is_available(), str(torch.__version__))


@answers(protocol.DescribeMachine)
def _describe_machine(worker: Worker, asked: protocol.DescribeMachine) -> protocol.MachineFacts:
    device = worker.device
    kernels = Path(lstm_kernels.__path__[0]).resolve().parent
    return protocol.MachineFacts(
        environment={**environment.describe(device), "tuned": _tuned(device)},
        identity=environment.device_identity(device),
        free_bytes=environment.free_bytes(device),
        kernels_digest=sources_digest(kernels, asked.plugins),
        kernels=str(kernels),
    )


def _tuned(device: str) -> Mapping[str, Any]:
    """For each backend with a file of tuned parameters, whether it is used or why not."""
    active = {name: tuning.active(name, device) for name in registry.backends()}
    return {name: each.facts() for name, each in active.items() if each.tuned or each.refused}


@answers(protocol.ReadState)
def _read_state(worker: Worker, asked: protocol.ReadState) -> protocol.MachineState:
    return protocol.MachineState(environment.state(worker.device))


@answers(protocol.FindMissing)
def _find_missing(worker: Worker, asked: protocol.FindMissing) -> protocol.Reason:
    return protocol.Reason(why_missing(worker.device, asked.backend, asked.checking))


@answers(protocol.FindUnsupported)
def _find_unsupported(worker: Worker, asked: protocol.FindUnsupported) -> protocol.Reasons:
    reasons = [unsupported(asked.backend, problem, worker.device) for problem in asked.problems]
    # A stranger's reason may be any object.
    return protocol.Reasons(tuple(str(reason) if reason else None for reason in reasons))


@answers(protocol.MakeProbes)
def _make_probes(worker: Worker, asked: protocol.MakeProbes) -> protocol.ProbesMade:
    if worker.device == "cpu":
        from lstm_harness.worker.probes import cpu

        bench = cpu.bench(torch.get_num_threads())
    else:
        from lstm_harness.worker.probes import cuda

        bench = cuda.bench(worker.device)
    worker.bencher = Bencher(bench)
    return worker.bencher.make()


@answers(protocol.TakeRound)
def _take_round(worker: Worker, asked: protocol.TakeRound) -> protocol.RoundTaken:
    if worker.bencher is None:
        raise RuntimeError("there are no probes yet; send MakeProbes first")
    return protocol.RoundTaken(tuple(worker.bencher.round()))


@answers(protocol.MakeAnswer)
def _make_answer(worker: Worker, asked: protocol.MakeAnswer) -> protocol.AnswerMade:
    problem = asked.problem
    set_precision(replace(problem, precision="ieee"))
    known = worker.oracle.know(problem, asked.seed, asked.call)
    worker.give_memory_back()
    set_precision(problem)
    computed = asked.call.computed(problem)
    as_float32 = worker.product_flops("float32", problem.precision)
    rate = max(as_float32, worker.product_flops(computed.dtype, "ieee"))
    return protocol.AnswerMade(rate, tolerance(computed), known.rows)


@answers(protocol.JudgeProof)
def _judge_proof(worker: Worker, asked: protocol.JudgeProof) -> protocol.Judged:
    set_precision(replace(asked.problem, precision="ieee"))
    what = asked.problem, asked.seed, asked.place, asked.handed, asked.call
    return worker.oracle.judge_proof(*what)


@answers(protocol.JudgeSample)
def _judge_sample(worker: Worker, asked: protocol.JudgeSample) -> protocol.Judged:
    set_precision(replace(asked.problem, precision="ieee"))
    judged = worker.oracle.judge_sample(asked)
    worker.give_memory_back()
    return judged


@answers(protocol.LoadBackend)
def _load_backend(worker: Worker, asked: protocol.LoadBackend) -> protocol.Done:
    if asked.plugin:
        add_plugin(asked.plugin)
    worker.load(asked.backend)
    return protocol.Done()


@answers(protocol.OpenCell)
def _open_cell(worker: Worker, asked: protocol.OpenCell) -> protocol.CellOpened:
    executor = worker.executor or worker.load(asked.backend)
    return executor.open(asked)


@answers(protocol.PrepareSample)
def _prepare_sample(worker: Worker, asked: protocol.PrepareSample) -> protocol.Done:
    _executor(worker).prepare(asked)
    return protocol.Done()


@answers(protocol.DrawGradients)
def _draw_gradients(worker: Worker, asked: protocol.DrawGradients) -> protocol.Done:
    _executor(worker).draw_gradients(asked.gradients)
    return protocol.Done()


@answers(protocol.Execute)
def _execute(worker: Worker, asked: protocol.Execute) -> protocol.Reading:
    return _executor(worker).execute()


@answers(protocol.HandOver)
def _hand_over(worker: Worker, asked: protocol.HandOver) -> protocol.Handed:
    return _executor(worker).hand_over()


@answers(protocol.CloseCell)
def _close_cell(worker: Worker, asked: protocol.CloseCell) -> protocol.CellClosed:
    return _executor(worker).close(asked)


def _executor(worker: Worker) -> Executor:
    if worker.executor is None:
        raise RuntimeError("no cell is open; send OpenCell first")
    return worker.executor


@answers(protocol.FollowGradient)
def _follow_gradient(worker: Worker, asked: protocol.FollowGradient) -> protocol.GradientFollowed:
    reason = unsupported(asked.backend, replace(asked.problem, seq_len=1), worker.device)
    if reason:
        raise Unsupported(str(reason))
    implementation = registry.load(asked.backend)
    norms = norms_back(implementation, asked.problem, asked.seed, worker.device)
    return protocol.GradientFollowed(tuple(n if math.isfinite(n) else None for n in norms))


@answers(protocol.TimePhases)
def _time_phases(worker: Worker, asked: protocol.TimePhases) -> protocol.PhasesTimed:
    implementation = registry.load(asked.backend)
    return time_phases(implementation, asked.case, asked.seed, worker.device, asked.time_s)


@answers(protocol.OpenTraining)
def _open_training(worker: Worker, asked: protocol.OpenTraining) -> protocol.TrainingOpened:
    curve, place = asked.curve, Path(asked.checkpoint)
    worker.training = Training(asked.spec, curve, worker.device, place)
    return protocol.TrainingOpened(worker.training.last)


@answers(protocol.TrainOn)
def _train_on(worker: Worker, asked: protocol.TrainOn) -> protocol.PointReached:
    return protocol.PointReached(_training(worker).go_on(asked.steps))


@answers(protocol.CloseTraining)
def _close_training(worker: Worker, asked: protocol.CloseTraining) -> protocol.TrainingClosed:
    return protocol.TrainingClosed(*_training(worker).end())


def _training(worker: Worker) -> Training:
    if worker.training is None:
        raise RuntimeError("no curve is open; send OpenTraining first")
    return worker.training


@answers(protocol.FindHooksLacking)
def _find_hooks_lacking(worker: Worker, asked: protocol.FindHooksLacking) -> protocol.HooksLacking:
    implementation = registry.load(asked.backend)
    return protocol.HooksLacking(
        tuple(name for name in asked.hooks if not hasattr(implementation, name))
    )


@answers(protocol.ListCandidates)
def _list_candidates(worker: Worker, asked: protocol.ListCandidates) -> protocol.CandidatesListed:
    implementation = registry.load(asked.backend)
    listed = []
    for case in asked.cases:
        of_case = case.problem, case.pass_name, worker.device
        choices = tuple(dict(choice) for choice in implementation.candidates(*of_case))
        listed.append(protocol.Candidates(implementation.tuning_key(*of_case), choices))
    return protocol.CandidatesListed(tuple(listed))


@answers(protocol.CompileKernels)
def _compile_kernels(worker: Worker, asked: protocol.CompileKernels) -> protocol.CompileCounts:
    if asked.plugin:
        add_plugin(asked.plugin)
    return compile_all(registry.load(asked.backend), asked.arch, asked.jobs)


@answers(protocol.DescribeTuning)
def _describe_tuning(worker: Worker, asked: protocol.DescribeTuning) -> protocol.TuningHeader:
    name = tuning.file_name(asked.backend, tuning.device_facts(worker.device))
    header = tuning.header(registry.get(asked.backend), worker.device)
    return protocol.TuningHeader(header, name)


def add_plugin(path: str) -> tuple[Backend, ...]:
    """Register a plugin, which may import other files in its folder."""
    sys.path.append(str(Path(path).resolve().parent))
    return registry.add_plugin(path)


def found_elsewhere(plugin: Path) -> dict[str, str]:
    """Where python finds modules that a plugin imports, although the plugin's folder has them.

    That folder comes last on python's path, so another folder on it may have them, too.
    """
    folder = plugin.absolute().parent
    own = files_of(plugin)
    names = {file.relative_to(folder).parts[0].removesuffix(".py") for file in own[1:]}
    found = {}
    for name in sorted(names):
        spec = find_spec(name)
        packages = folder / f"{name}.py", folder / name / "__init__.py"
        # A folder without __init__.py stands back for a package, wherever that is.
        if spec is None or (spec.origin and not any(each.is_file() for each in packages)):
            continue
        place = spec.origin or next(iter(spec.submodule_search_locations or ()))
        if not Path(place).resolve().is_relative_to(folder.resolve()):
            found[name] = place
    return found


def why_missing(device: str, backend: str, checking: bool) -> str | None:
    """Why a backend cannot run on this machine at all, without importing it; else None.

    A backend that is interpreted on a CPU can be checked there, but is never timed.
    """
    record = registry.get(backend)
    interpreted = checking and device == "cpu" and is_set(record.interpreter)
    if device.partition(":")[0] not in record.devices and not interpreted:
        reason = f"runs on {', '.join(record.devices)} only; this is {device}"
        if record.interpreter and device == "cpu":
            reason += f"; {record.interpreter}=1 lstm-bench verify checks it here, interpreted"
        return reason
    missing = registry.missing(backend)
    return f"needs {', '.join(missing)}: {registry.how_to_get(missing)}" if missing else None
