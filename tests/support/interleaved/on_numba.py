"""Numba's simulator with all blocks of a launch at once.

    with interleaved(seed=3):
        fused_numba_cuda.layer(...)

has `held` run its whole sequence in one launch. A strand is one thread, and an agent too: within a
block a missing barrier is found as it is between blocks, and so is one that not all threads meet.
Shared memory is a block's own, and a race in it one as well. The flags' assembly is run from the
text that `memory.py` has for a GPU; whatever else loads and stores is Python, an element or four.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator import kernelapi
from torch import Tensor

from interleaved.defects import event
from interleaved.machine import Machine
from interleaved.mutants import Mutant, mutated
from lstm_kernels.backends import fused_numba_cuda
from lstm_kernels.backends.fused_numba_cuda import parameters, sequence
from lstm_kernels.gpu.numba_launching import NumbaLaunch

# What a mutant may change and what sees it, in the order in which they import each other.
MODULES = ("memory", "points", "flags", "device_code", "step_code", "launches")
# What `sequence` has of them.
LAUNCHERS = ("held_forward", "held_backward", "forward_step", "backward_step")


@contextmanager
def interleaved(seed: int, made: dict[str, Any] | None = None) -> Iterator[list[Machine]]:
    """Have launches run so, and those of the backend wait for each other; the machines there were.

    Args:
        made: the backend's modules of MODULES, where they are not its own.
    """
    package = fused_numba_cuda.__name__
    modules = made or {name: sys.modules[f"{package}.{name}"] for name in MODULES}
    machines: list[Machine] = []
    numbers = count()
    with ExitStack() as patches:
        # Blocks at once may wait, which simulated ones else do not.
        patches.enter_context(patch.object(modules["launches"], "SIMULATED", False))
        for name, made_of in _stand_ins(modules["memory"], machines).items():
            for module in modules.values():
                if hasattr(module, name):
                    patches.enter_context(patch.object(module, name, made_of))
        run = partial(_run, seed=seed, numbers=numbers, machines=machines)
        patches.enter_context(patch.object(NumbaLaunch, "run", lambda launch: run(launch)))
        yield machines


@contextmanager
def interleaved_mutant(seed: int, mutant: Mutant) -> Iterator[list[Machine]]:
    """The same of kernels with a defect."""
    with ExitStack() as patches:
        made = patches.enter_context(mutated(fused_numba_cuda, MODULES, mutant.changes))
        for name in LAUNCHERS:
            patches.enter_context(patch.object(sequence, name, getattr(made["launches"], name)))
        if mutant.poll_limit is not None:
            launches = made["launches"]
            patches.enter_context(patch.object(launches, "POLL_LIMIT", mutant.poll_limit))
        yield patches.enter_context(interleaved(seed, made))


def _run(
    launch: NumbaLaunch, *, seed: int, numbers: Iterator[int], machines: list[Machine]
) -> None:
    points = list(np.ndindex(*launch.grid))
    arguments = launch.arguments
    steps = f"steps {arguments.get('first', arguments.get('step'))} to {arguments.get('last', '')}"
    machine = Machine(
        [f"block {tuple(map(int, point))}" for point in points],
        launch.threads,
        f"{launch.name}, {launch.regime}, grid {launch.grid}, {launch.threads} threads, {steps}",
        seed=f"{seed}, launch {next(numbers)}",
        resident=parameters.SIMULATOR.sm_count,
        strands=launch.threads,
    )
    machines.append(machine)
    kernel = launch.make(**launch.fixed)
    given = [_Array.of(machine, *each) for each in arguments.items()]
    cuda = _Cuda(machine, launch, points)
    with ExitStack() as inside:
        inside.enter_context(patch.object(simulator, "_kernel_context", cuda))
        inside.enter_context(kernelapi.swapped_cuda_module(kernel, cuda))
        bodies = [partial(kernel, *given)] * (len(points) * launch.threads)
        machine.run(bodies, at_once=launch.cooperative)


class _Array:
    """Elements of a tensor or of shared memory, as a kernel's Python loads and stores them."""

    def __init__(self, machine: Machine, address: int, dtype: np.dtype) -> None:
        self._machine, self._address, self._dtype = machine, address, dtype

    @classmethod
    def of(cls, machine: Machine, name: str, value: Any) -> Any:
        """An argument as the kernel takes it."""
        if not isinstance(value, Tensor):
            return value
        dtype = np.dtype(str(value.dtype).removeprefix("torch."))
        return cls(machine, machine.memory.add(name, value), dtype)

    def address(self, at: int) -> int:
        """Of an element."""
        return self._address + int(at) * self._dtype.itemsize

    def load(self, at: int, lanes: int) -> np.ndarray:
        """So many elements from one on, by one instruction."""
        agent = self._machine.schedule.current
        places = self.address(at) + self._dtype.itemsize * np.arange(lanes)
        self._machine.end_of_poll(agent)
        return self._machine.load(agent, places, self._dtype)

    def store(self, at: int, *values: Any) -> None:
        """The same, stored."""
        agent = self._machine.schedule.current
        places = self.address(at) + self._dtype.itemsize * np.arange(len(values))
        self._machine.end_of_poll(agent)
        self._machine.store(agent, places, np.array(values, self._dtype))

    def __getitem__(self, at: int) -> Any:
        return self.load(at, 1)[0]

    def __setitem__(self, at: int, value: Any) -> None:
        self.store(at, value)


class _Shared:
    """Shared memory: one for each block, its bytes NaN as a GPU's may be."""

    def __init__(self, machine: Machine, launch: NumbaLaunch) -> None:
        self._machine, self._threads = machine, launch.threads
        self._addresses = [
            machine.memory.add_private("shared", np.full(launch.shared_bytes, 255, np.uint8))
            for _ in machine.names
        ]

    def array(self, shape: int, dtype: Any) -> _Array:
        if shape != 0:
            raise NotImplementedError("interleaved/on_numba.py has dynamic shared memory alone")
        block = self._machine.schedule.current // self._threads
        return _Array(self._machine, self._addresses[block], numpy_support.as_dtype(dtype))


class _Cuda(kernelapi.FakeCUDAModule):
    """What `cuda` is within a kernel."""

    def __init__(
        self, machine: Machine, launch: NumbaLaunch, points: list[tuple[int, ...]]
    ) -> None:
        super().__init__(launch.grid, (launch.threads, 1, 1), 0)
        self._machine, self._threads = machine, launch.threads
        self._blocks = [kernelapi.Dim3(*point) for point in points]
        self._places = [kernelapi.Dim3(thread, 0, 0) for thread in range(launch.threads)]
        self._shared = _Shared(machine, launch)
        self._arrived = [0] * len(points)
        self._rounds = [0] * len(points)

    @property
    def threadIdx(self) -> kernelapi.Dim3:  # noqa: N802 - Numba's name
        return self._places[self._machine.schedule.current % self._threads]

    @property
    def blockIdx(self) -> kernelapi.Dim3:  # noqa: N802 - Numba's name
        return self._blocks[self._machine.schedule.current // self._threads]

    def syncthreads(self) -> None:
        machine = self._machine
        machine.schedule.turn()
        agent = machine.schedule.current
        machine.end_of_poll(agent)
        block = agent // self._threads
        self._arrived[block] += 1
        key = "barrier", block, self._rounds[block]
        if self._arrived[block] == self._threads:
            self._arrived[block] = 0
            self._rounds[block] += 1
            machine.barrier(block)
            machine.schedule.wake(key)
        else:
            told = event(machine.name(agent), f"waits at a barrier of {self._threads} threads")
            machine.sleep(key, told.told())

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"interleaved/on_numba.py has no cuda.{name}; teach it to")


def _stand_ins(memory: Any, machines: list[Machine]) -> dict[str, Callable[..., Any]]:
    """What `memory.py` has for the simulator, by name, on the machine that runs now."""
    texts = assembly_of(Path(memory.__file__))

    def load_acquire(counters: _Array, at: int) -> Any:
        machine = machines[-1]
        agent = machine.schedule.current
        target = sys._getframe(1).f_locals.get("target")
        address = counters.address(at)
        waits = f"until it is {target}, and it is {machine.memory.value(address, 4)}"
        return np.int32(machine.assembly(agent, texts["load_acquire"], [address], 1, waits)[0])

    def add_release(counters: _Array, at: int) -> None:
        machine = machines[-1]
        agent = machine.schedule.current
        machine.end_of_poll(agent)
        machine.assembly(agent, texts["add_release"], [counters.address(at)], 0)

    def trap() -> None:
        machine = machines[-1]
        frame = sys._getframe(1).f_locals
        waits = f"{frame.get('target')} arrivals, {frame.get('poll_limit')} times"
        machine.assembly(machine.schedule.current, texts["trap"], [], 0, waits)

    return {
        "load_acquire": load_acquire,
        "add_release": add_release,
        "trap": trap,
        "load_four": lambda shared, at: tuple(shared.load(at, 4)),
        "store_four": lambda shared, at, *values: shared.store(at, *values),
        "load_four_past_l1": lambda array, at: tuple(array.load(at, 4)),
    }


def assembly_of(file: Path) -> dict[str, str]:
    """The assembly of each function of a file that has some, by its name."""
    texts = {}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            found = [
                each.value
                for each in ast.walk(node)
                if isinstance(each, ast.Constant)
                and isinstance(each.value, str)
                and each.value.endswith(";")
            ]
            if found:
                (texts[node.name],) = dict.fromkeys(found)
    return {name: text for name, text in texts.items() if name != "generate"}
