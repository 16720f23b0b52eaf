"""Numba's simulator with all blocks of a launch at once.

    with interleaved(seed=3):
        fused_numba_cuda.layer(...)

has `held` run its whole sequence in one launch. A strand is one thread, and an agent too: within a
block a missing barrier is found as it is between blocks, and so is one that not all threads meet.
Shared memory is a block's own, and a race in it one as well. What blocks tell each other is told by
the PTX that `memory.py` has for a GPU; other loads and stores are Python, an element or four.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import patch

import numpy as np
from numba.cuda.np import numpy_support
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator import kernelapi
from torch import Tensor

from interleaved.defects import OutOfBounds, event
from interleaved.machine import Machine
from interleaved.mutants import Mutant, mutated
from lstm_kernels.backends import fused_numba_cuda
from lstm_kernels.backends.fused_numba_cuda import parameters, sequence
from lstm_kernels.gpu.numba_launching import NumbaLaunch

# What a mutant may change and what sees it, in the order in which they import each other.
MODULES = ("memory", "exchange", "points", "device_code", "step_code", "launches")
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
        not_yet = modules["memory"].NOT_YET_BITS
        run = partial(_run, seed=seed, numbers=numbers, machines=machines, not_yet=not_yet)
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
    launch: NumbaLaunch,
    *,
    seed: int,
    numbers: Iterator[int],
    machines: list[Machine],
    not_yet: dict[int, int],
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
    given = {name: _Array.of(machine, name, value) for name, value in arguments.items()}
    if arguments.get("waits"):
        told = given["d_gates" if "d_gates" in given else "y"]
        machine.exchange(told.address(0), not_yet)
    cuda = _Cuda(machine, launch, points)
    with ExitStack() as inside:
        inside.enter_context(patch.object(simulator, "_kernel_context", cuda))
        inside.enter_context(kernelapi.swapped_cuda_module(kernel, cuda))
        bodies = [partial(kernel, *given.values())] * (len(points) * launch.threads)
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

    def assembly(
        self, name: str, access: dict[str, Any], at: int, count: int, *values: Any
    ) -> list[Any]:
        """What the PTX of that name gives, run for an element or so many from one on."""
        machine, agent = self._machine, self._machine.schedule.current
        text = getattr(access[self._dtype.name], name)
        address = self.address(at)
        if count == 4 and address % 16:
            doing = event(machine.who(agent), f"loads four by `{text}`").told()
            where = machine.memory.where(address)
            raise OutOfBounds(f"{where} lies at no multiple of 16 bytes\n{doing}")
        given = [address, *(self._dtype.type(value) for value in values)]
        return machine.assembly(agent, text, given, count)

    def end_of_poll(self) -> None:
        """Whatever is polled next, begins to be."""
        self._machine.end_of_poll(self._machine.schedule.current)

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

    def load(array: _Array, at: int, count: int) -> list[Any]:
        return array.assembly("load" if count == 1 else "load_four", memory.ACCESS, at, count)

    def store(array: _Array, at: int, value: Any) -> None:
        array.end_of_poll()
        array.assembly("store", memory.ACCESS, at, 0, value)

    def trap() -> None:
        machine = machines[-1]
        limit = sys._getframe(1).f_locals.get("poll_limit")
        waits = f"what nobody wrote, {limit} times"
        machine.assembly(machine.schedule.current, memory.TRAP, [], 0, waits)

    return {
        "load_relaxed": lambda array, at: load(array, at, 1)[0],
        "load_four_relaxed": lambda array, at: tuple(load(array, at, 4)),
        "store_relaxed": store,
        "trap": trap,
        "load_four": lambda shared, at: tuple(shared.load(at, 4)),
        "store_four": lambda shared, at, *values: shared.store(at, *values),
    }
