"""Triton's interpreter with all programs of a launch at once.

    with interleaved(seed=3):
        fused_triton.layer(...)

has `held` run its whole sequence in one launch, as a GPU would. A program is two agents: thread 0,
which makes what one thread makes (a scalar's atomic addition, a poll), and all others, which load
and store. So what one of them knows the other does not, before a barrier. Which of the others has
an element is the compiler's choice: the same one where tiles of the same shape have it at the same
place, and else another, which sees what was stored after a barrier alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, product
from typing import Any
from unittest.mock import patch

import numpy as np
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction, TensorHandle

from interleaved.machine import Machine
from interleaved.mutants import Mutant, mutated
from lstm_kernels.backends import fused_triton
from lstm_kernels.backends.fused_triton import launches as fused_launches
from lstm_kernels.backends.fused_triton import sequence
from lstm_kernels.gpu.launching import Launch

# Thread 0, and the others.
AGENTS = 2


@contextmanager
def interleaved(seed: int, launches: Any = fused_launches) -> Iterator[list[Machine]]:
    """Have launches run so, and those of the backend wait for each other; the machines there were.

    Args:
        launches: the module that makes the launches, where it is not the backend's own.
    """
    machines: list[Machine] = []
    numbers = count()
    with ExitStack() as patches:
        # Programs at once may wait, which interpreted ones else do not.
        patches.enter_context(patch.object(launches, "_is_interpreted", lambda _: False))
        run = partial(_run, seed=seed, numbers=numbers, machines=machines)
        patches.enter_context(patch.object(Launch, "run", lambda launch: run(launch)))
        yield machines


@contextmanager
def interleaved_mutant(seed: int, mutant: Mutant) -> Iterator[list[Machine]]:
    """The same of kernels with a defect."""
    modules = ("flags", "device_code", "launches")
    with ExitStack() as patches:
        made = patches.enter_context(mutated(fused_triton, modules, mutant.changes))["launches"]
        for name in ("forward_launches", "backward_launches"):
            patches.enter_context(patch.object(sequence, name, getattr(made, name)))
        if mutant.poll_limit is not None:
            patches.enter_context(patch.object(made, "POLL_LIMIT", mutant.poll_limit))
        yield patches.enter_context(interleaved(seed, made))


def _run(launch: Launch, *, seed: int, numbers: Iterator[int], machines: list[Machine]) -> None:
    grid = launch.grid + (1,) * (3 - len(launch.grid))
    points = list(product(*map(range, grid)))
    machine = Machine(
        [f"program {point}" for point in points],
        AGENTS,
        f"{launch.name}, {launch.regime}, grid {grid}, steps {launch.arguments.get('first')} to "
        f"{launch.arguments.get('last')}",
        seed=f"{seed}, launch {next(numbers)}",
        resident=sequence.INTERPRETED.sm_count * launch.parameters.get("resident", 1),
    )
    machines.append(machine)
    arguments = {
        name: _handed(machine, name, value, launch.kernel)
        for name, value in launch.arguments.items()
    }
    body = launch.kernel.rewrite()
    with _interpreting(launch.kernel, _Builder(machine, points, grid)):
        machine.run(
            [partial(body, **arguments)] * len(points),
            at_once=bool(launch.options.get("launch_cooperative_grid")),
        )


def _handed(machine: Machine, name: str, value: Any, kernel: Any) -> Any:
    """An argument as the kernel's Python takes it; a tensor by its address in the machine."""
    if isinstance(value, Tensor):
        made = interpreter._implicit_cvt(value)
        address = machine.memory.add(name.removesuffix("_ptr"), value)
        return tl.tensor(TensorHandle(np.array([address], np.uint64), made.handle.dtype), made.type)
    # Annotations are objects here, and texts where a module postpones them.
    is_constexpr = "constexpr" in str(kernel.fn.__annotations__.get(name, ""))
    return value if is_constexpr else interpreter._implicit_cvt(value)


@contextmanager
def _interpreting(kernel: Any, builder: "_Builder") -> Iterator[None]:
    """Triton's language as its interpreter has it, with memory and programs of a machine."""
    with ExitStack() as patches:
        # The standard library's functions see `tl.core`, kernels see `tl`; once is enough.
        for function in (kernel.fn, tl.standard.max.fn):
            patches.callback(interpreter._patch_lang(function).restore)
        patches.enter_context(patch.object(InterpretedFunction, "__call__", _call))
        for name in dir(_Builder):
            if name.startswith("create_"):
                made = getattr(builder, name)
                patches.enter_context(patch.object(interpreter.interpreter_builder, name, made))
        yield


def _call(function: Any, *arguments: Any, **named: Any) -> Any:
    """A device function, in a language that is patched already."""
    return function.rewrite()(*arguments, **named)


class _Builder:
    """What of Triton's operations meets other programs; the interpreter has the rest."""

    def __init__(
        self, machine: Machine, points: list[tuple[int, ...]], grid: tuple[int, ...]
    ) -> None:
        self._machine, self._points, self._grid = machine, points, grid
        self._shapes: dict[tuple[int, ...], int] = {}

    @property
    def _program(self) -> int:
        return self._machine.schedule.current

    @property
    def _first_thread(self) -> int:
        return AGENTS * self._program

    @property
    def _others(self) -> int:
        return AGENTS * self._program + 1

    def create_get_program_id(self, axis: int) -> TensorHandle:
        return TensorHandle(np.array([self._points[self._program][axis]], np.int32), tl.int32)

    def create_get_num_programs(self, axis: int) -> TensorHandle:
        return TensorHandle(np.array([self._grid[axis]], np.int32), tl.int32)

    def create_masked_load(self, pointers: Any, mask: Any, other: Any, *_: Any) -> TensorHandle:
        kind = pointers.get_element_ty()
        dtype = interpreter._get_np_dtype(kind)
        shape = pointers.data.shape
        loaded = np.zeros(shape, dtype)
        if other is not None:
            loaded[...] = other.data
        inside = np.broadcast_to(mask.data, shape)
        if inside.any():
            addresses = pointers.data[inside].astype(np.int64)
            lanes = self._lanes(inside)
            loaded[inside] = self._machine.load(self._others, addresses, dtype, lanes)
        return TensorHandle(loaded, kind)

    def create_masked_store(self, pointers: Any, value: Any, mask: Any, *_: Any) -> None:
        dtype = interpreter._get_np_dtype(pointers.get_element_ty())
        shape = pointers.data.shape
        inside = np.broadcast_to(mask.data, shape)
        if inside.any():
            values = np.broadcast_to(value.data, shape)[inside].astype(dtype)
            addresses = pointers.data[inside].astype(np.int64)
            self._machine.store(self._others, addresses, values, self._lanes(inside))

    def _lanes(self, inside: np.ndarray) -> np.ndarray:
        """Who of the other threads: told apart by an element's place in a tile of that shape."""
        shape = self._shapes.setdefault(inside.shape, len(self._shapes))
        return (shape << 32) + np.flatnonzero(inside)

    def create_atomic_rmw(
        self, operation: Any, pointer: Any, value: Any, mask: Any, sem: Any, scope: Any
    ) -> TensorHandle:
        if operation.name not in ("ADD", "FADD") or pointer.data.size != 1:
            raise NotImplementedError(
                f"interleaved/on_triton.py adds to one counter; teach it {operation.name} of "
                f"{pointer.data.size}"
            )
        before = np.zeros(1, value.data.dtype)
        if mask.data.all():
            before[0] = self._machine.add(
                self._first_thread,
                int(pointer.data[0]),
                value.data[0],
                SEMANTICS[sem.name],
                SCOPES[scope.name],
            )
        return TensorHandle(before, value.dtype.scalar)

    def create_barrier(self) -> None:
        self._machine.schedule.turn()
        self._machine.barrier(self._program)

    def create_inline_asm(
        self, text: str, constraints: str, values: list[Any], kinds: Any, *_: Any
    ) -> "_Results":
        if any(value.data.size != 1 for value in values):
            raise NotImplementedError("interleaved/on_triton.py runs assembly of scalars alone")
        results = constraints.count("=")
        inputs = [int(value.data[0]) for value in values]
        for agent in (self._others, self._first_thread):
            found = self._machine.assembly(agent, text, inputs, results)
            self._machine.end_of_poll(agent)
        return _Results(
            [
                TensorHandle(np.array([value], interpreter._get_np_dtype(kind)), kind)
                for value, kind in zip(found, kinds, strict=True)
            ]
        )


SEMANTICS = {
    "RELAXED": "relaxed",
    "ACQUIRE": "acquire",
    "RELEASE": "release",
    "ACQUIRE_RELEASE": "acq_rel",
}
SCOPES = {"CTA": "cta", "GPU": "gpu", "SYSTEM": "sys"}


class _Results:
    """What an operation of several results gives."""

    def __init__(self, handles: list[TensorHandle]) -> None:
        self._handles = handles

    def get_result(self, index: int) -> TensorHandle:
        return self._handles[index]
