"""One cell of the grid, inside a worker: executed, timed and handed over on request.

Other modules decide what is right and which samples count (`race.visit`, and
`worker.oracle` in a process that never imports a backend).
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lstm_harness.model.case import Case
from lstm_harness.model.protocol import (
    CellClosed,
    CellOpened,
    CloseCell,
    Handed,
    OpenCell,
    PrepareSample,
    Reading,
)
from lstm_harness.worker.calling import as_called, seed_masks, why_wide
from lstm_harness.worker.clock import Clock, make_clock
from lstm_harness.worker.fresh import Mixer, change_weights
from lstm_harness.worker.handing import HandedOut
from lstm_harness.worker.inputs import Inputs
from lstm_harness.worker.oracle import checked_inputs
from lstm_harness.worker.passes import (
    Malformed,
    Pass,
    State,
    make_pass,
    refuse_malformed,
    refuse_shared,
)
from lstm_harness.worker.poison import poisoned_memory
from lstm_harness.worker.replay import replayed
from lstm_harness.worker.resources import Resources
from lstm_harness.worker.verify import tolerance
from lstm_kernels.problem import Problem

WALL_SAMPLES = 5


@dataclass
class _Cell:
    """A cell that is open: executed once, and ready for samples."""

    job: OpenCell
    the_pass: Pass
    inputs: Inputs
    clock: Clock
    states: list[State]
    # Until the first sample is there, which must use other memory.
    first: tuple[State, ...]


@dataclass
class Executor:
    """The cells of one backend in one worker, one open at a time.

    `open` executes a cell for the first time; then come samples, each prepared, executed and, if
    requested, handed over; `close` reports what a record holds in addition to times.
    """

    implementation: Any
    device: str
    _mixer: Mixer = field(init=False)
    _handed: HandedOut = field(default_factory=HandedOut)
    _cell: _Cell | None = None
    _around: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._mixer = Mixer(self.device)

    def open(self, job: OpenCell) -> CellOpened:
        """Execute a cell, hand over its results, and prepare it for samples.

        Raises:
            Malformed: the backend did what the contract forbids; also everything it raises itself.
        """
        self._forget()
        self._around.enter_context(self._choice_of(job))
        problem, call = job.case.problem, job.case.call
        set_precision(problem)
        inputs = as_called(checked_inputs(problem, job.seed, self.device), problem, call)
        started = time.perf_counter()
        if hasattr(self.implementation, "flatten"):
            self.implementation.flatten(inputs.weights, problem)
        untouched = [tensor.clone() for tensor in _all(inputs)]
        the_pass = self._make_pass(job.case, inputs)
        setup_ms = (time.perf_counter() - started) * 1e3
        word = str(job.seed)
        seed_masks(call, word)
        self._empty_cache()
        with poisoned_memory(self.device):
            started = time.perf_counter()
            first = _executed(the_pass, inputs)
            _drain(self.device)
            first_ms = (time.perf_counter() - started) * 1e3
        refuse_malformed(first)
        # A captured graph overwrites its results.
        made = [_copied(first.tensors()) if job.case.launch == "graph" else first.tensors()]
        executed = [first]
        if job.with_gradients and not first.makes_gradients:
            train = make_pass(self.implementation, problem, "train", call)
            self._empty_cache()
            seed_masks(call, word)
            with poisoned_memory(self.device):
                executed.append(_executed(train, inputs))
            refuse_malformed(executed[-1])
            made.append(executed[-1].tensors())
        _refuse_changed(inputs, untouched)
        handed = self._handed.hand(made)
        change_weights(inputs.weights, job.weights, tolerance(job.case.computed))
        clock = make_clock(self.device, job.case.cache)
        self._cell = _Cell(job, the_pass, inputs, clock, [], tuple(executed))
        gc.collect(1)  # collect what this left; older garbage is not from this cell
        gc.disable()
        return CellOpened(handed, setup_ms, first_ms)

    def prepare(self, asked: PrepareSample) -> None:
        """Prepare a sample, on inputs that follow from a nonce."""
        cell = self._opened()
        cell.states = []
        seed_masks(cell.job.case.call, asked.inputs)
        for number in range(asked.repeats):
            with_room = cell.job.case.makes_gradients
            inputs = self._mixer.inputs(cell.inputs, asked.inputs, number, with_room)
            cell.states.append(cell.the_pass.prepare(inputs))
        cell.clock.ready()

    def draw_gradients(self, nonce: str) -> None:
        """Draw the output gradients of the prepared sample."""
        cell = self._opened()
        for number, state in enumerate(cell.states):
            self._mixer.gradients(state.inputs, nonce, number)
        cell.clock.ready()

    def execute(self) -> Reading:
        """Execute and time the prepared sample.

        Raises:
            Malformed: its outputs are in the memory of the first execution's.
        """
        cell = self._opened()
        executes = [partial(cell.the_pass.execute, state) for state in cell.states]
        reading = cell.clock.measure(executes)
        if cell.first:
            if cell.job.case.launch != "graph":
                refuse_shared([state.outputs for state in (*cell.first, *cell.states)])
            cell.first = ()
        return reading

    def hand_over(self) -> Handed:
        """Hand over all that the executed sample made.

        Raises:
            Malformed: it is not what the contract asks for.
        """
        cell = self._opened()
        for state in cell.states:
            refuse_malformed(state)
        if cell.job.case.launch == "graph":
            # All replays share one state, which holds the results of the last one.
            return self._handed.hand([cell.states[-1].tensors()] * len(cell.states))
        refuse_shared([state.outputs for state in cell.states])
        return self._handed.hand([state.tensors() for state in cell.states])

    def close(self, asked: CloseCell) -> CellClosed:
        """Measure memory and energy in separate executions, and close the cell."""
        cell = self._opened()
        cell.states = []
        gc.enable()
        case = cell.job.case
        forward = make_pass(self.implementation, case.problem, "forward", case.call)
        used = Resources(
            self.device, case.pass_name, cell.the_pass, forward, cell.inputs, self._empty_cache
        )
        # A captured graph took its memory earlier, from a pool of its own.
        captured = case.launch == "graph" or hasattr(self.implementation, "HOLDS_MEMORY")
        with_memory = asked.with_memory and not captured
        peak, saved = used.memory() if with_memory else (None, None)
        wide = why_wide(self.implementation, case.problem, case.call, self.device)
        foreign = used.warnings(asked.our_pids)
        told = CellClosed(
            kernels=tuple(self._kernels(case.problem if wide else case.computed)),
            warnings=(*([f"computed in float32: {wide}"] if wide else []), *foreign),
            wall_ns=self._wall_ns(cell) if self.device != "cpu" else (),
            peak_bytes=peak,
            saved_bytes=saved,
            energy_mj=used.energy_mj() if asked.with_energy else None,
        )
        self._forget()
        return told

    def _opened(self) -> _Cell:
        if self._cell is None:
            raise RuntimeError("no cell is open")
        return self._cell

    def _forget(self) -> None:
        """Close the cell before, and drop the launch parameters it was measured with."""
        self._cell = None
        gc.enable()
        self._around.close()

    def _empty_cache(self) -> None:
        """Free what the backend keeps from one call to the next, if it says how."""
        empty_cache = getattr(self.implementation, "empty_cache", None)
        if empty_cache is not None:
            empty_cache()

    def _choice_of(self, job: OpenCell) -> AbstractContextManager[Any]:
        """The launch parameters that a job tries."""
        if job.trial is None:
            return nullcontext()
        chosen: AbstractContextManager[Any]
        chosen = self.implementation.using(job.trial.key, dict(job.trial.choice))
        return chosen

    def _make_pass(self, case: Case, inputs: Inputs) -> Pass:
        eager = make_pass(self.implementation, case.problem, case.pass_name, case.call)
        if case.launch == "graph":
            return replayed(eager, inputs, fresh_graph=case.pass_name == "backward")
        return eager

    def _wall_ns(self, cell: _Cell) -> tuple[int, ...]:
        """A few executions on the clock's second figure."""
        figures = []
        for _ in range(WALL_SAMPLES):
            state = cell.the_pass.prepare(cell.inputs)
            figures.append(cell.clock.wall_ns([partial(cell.the_pass.execute, state)]))
        return tuple(figure for figure in figures if figure is not None)

    def _kernels(self, problem: Problem) -> list[str]:
        used: Callable[[Problem], list[str]] | None
        used = getattr(self.implementation, "kernels_used", None)
        return list(used(problem)) if used else []


def set_precision(problem: Problem) -> None:
    """Set the precision of PyTorch's float32 products from the problem, for cuBLAS and cuDNN."""
    torch.backends.cuda.matmul.allow_tf32 = problem.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = problem.precision == "tf32"


def _executed(the_pass: Pass, inputs: Inputs) -> State:
    state = the_pass.prepare(inputs)
    the_pass.execute(state)
    return state


def _copied(made: Mapping[str, Sequence[Tensor]]) -> dict[str, list[Tensor]]:
    return {name: [tensor.clone() for tensor in group] for name, group in made.items()}


def _all(inputs: Inputs) -> tuple[Tensor, ...]:
    return (*inputs.per_set(), *inputs.parameters())


def _refuse_changed(inputs: Inputs, untouched: list[Tensor]) -> None:
    for tensor, before in zip(_all(inputs), untouched, strict=True):
        if not torch.equal(tensor, before):
            raise Malformed("it changed its inputs in place")


def _drain(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
