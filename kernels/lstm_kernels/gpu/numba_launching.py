"""One launch of a Numba CUDA kernel, as data: run it, or compile it without a GPU.

Numba types the kernel and makes PTX of it, nvJitLink a cubin; that same cubin is launched and
inspected. Neither step needs the driver. It is launched through the driver's own interface, because
Numba has no cooperative launch of a kernel without its grid barrier, and not more than
48 KB of dynamic shared memory. Tensors are passed by address, on PyTorch's current stream and
in its context: nothing is copied.

Under Numba's simulator (NUMBA_ENABLE_CUDASIM=1, set before Numba is imported) `run` makes it run
the kernel's Python on the CPU (see `numba_simulator`).
"""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from numba import cuda, types
from numba.core import config
from torch import Tensor

from lstm_kernels.gpu.machine_code import KernelImage, architecture
from lstm_kernels.gpu.weight_lines import weight_lines

SIMULATED = bool(config.ENABLE_CUDASIM)

Function = TypeVar("Function", bound=Callable[..., Any])


def device_function(function: Function) -> Function:
    """Make a function that kernels can call.

    Its code counts to the line where the kernel calls it: it gets no line numbers of its
    own, because NVVM 13.5 then dropped all of them in some kernels. The simulator calls it
    directly, in a tenth of the time: if it names `cuda` itself, it must be in its kernel's module.
    """
    if SIMULATED:
        return function
    return cuda.jit(device=True)(function)  # type: ignore[no-any-return] # untyped


_POINTERS = {
    torch.float32: types.float32,
    torch.float64: types.float64,
    torch.int64: types.int64,
    torch.int32: types.int32,
}


@dataclass(frozen=True)
class NumbaLaunch:
    """A kernel, its grid and every argument by name.

    `make(**fixed)` gives the kernel, an undecorated function; the same `fixed`, the same one.
    `arguments` are contiguous tensors and numbers below 2^31, in the kernel's order; a tensor that
    is not there is an empty one. `threads` are a block's, `most_threads` what the kernel is
    compiled for, `shared_bytes` a block's dynamic shared memory. `regime` and `parameters` name the
    choice that was made, only for display.
    """

    make: Callable[..., Callable[..., None]]
    fixed: dict[str, Any]
    grid: tuple[int, int, int]
    threads: int
    arguments: dict[str, Tensor | int]
    most_threads: int
    shared_bytes: int = 0
    cooperative: bool = False
    regime: str = ""
    parameters: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The kernel's own name."""
        return self.make(**self.fixed).__name__

    def constants(self) -> dict[str, Any]:
        """The kernel's fixed values: with its arguments' types, all that changes its code."""
        return dict(self.fixed)

    def key(self, arch: str) -> str:
        """A key that is the same for two launches with the same machine code."""
        return f"{arch} {self.code()} {self.threads} {self.shared_bytes}"

    def code(self) -> tuple[Any, ...]:
        """A key that is the same for two launches exactly if they need the same compiled kernel."""
        return self.make, tuple(self.fixed.items()), self._signature(), self.most_threads

    def run(self) -> None:
        """Launch it on the current device and stream, or simulate it."""
        if SIMULATED:
            from lstm_kernels.gpu.numba_simulator import simulate

            kernel = _simulated(self.make, tuple(self.fixed.items()))
            simulate(
                kernel, self.grid, self.threads, self.shared_bytes, list(self.arguments.values())
            )
            return
        from cuda.bindings import driver

        device = torch.cuda.current_device()
        function = _function(*self.code(), device)
        values = tuple(
            a.data_ptr() if isinstance(a, Tensor) else a for a in self.arguments.values()
        )
        kinds = tuple(
            ctypes.c_void_p if isinstance(a, Tensor) else ctypes.c_int32
            for a in self.arguments.values()
        )
        start = driver.cuLaunchCooperativeKernel if self.cooperative else driver.cuLaunchKernel
        stream = torch.cuda.current_stream(device).cuda_stream
        rest = () if self.cooperative else (0,)
        block = (self.threads, 1, 1)
        _use_context_of(device)
        _checked(
            start(function, *self.grid, *block, self.shared_bytes, stream, (values, kinds), *rest)
        )

    def compile(self, arch: str) -> KernelImage:
        """Compile what a launch on a GPU would compile there, without a GPU.

        Args:
            arch: a name in `machine_code.ARCHITECTURES`.
        Raises:
            ValueError: an unknown architecture, or Numba simulates in this process.
            Exception: anything that Numba or nvJitLink raise if a kernel does not compile.
        """
        capability = architecture(arch).capability
        if SIMULATED:
            raise ValueError("Numba simulates kernels here, and compiles none; "
                             "unset NUMBA_ENABLE_CUDASIM")  # fmt: skip
        started = time.perf_counter()
        ptx, cubin = _compiled(*self.code(), capability)
        return KernelImage(
            kernel=_entry(ptx),
            arch=arch,
            cubin=cubin,
            ptx=ptx,
            shared_bytes=self.shared_bytes,
            threads=self.threads,
            compile_ms=(time.perf_counter() - started) * 1e3,
            cached=False,
            weight_lines=weight_lines(ptx),
        )

    def _signature(self) -> tuple[Any, ...]:
        return tuple(
            types.CPointer(_POINTERS[a.dtype]) if isinstance(a, Tensor) else types.int32
            for a in self.arguments.values()
        )


@cache
def _simulated(make: Callable[..., Any], fixed: tuple[tuple[str, Any], ...]) -> Any:
    return cuda.jit(make(**dict(fixed)))


@cache
def _compiled(
    make: Callable[..., Any],
    fixed: tuple[tuple[str, Any], ...],
    signature: tuple[Any, ...],
    most_threads: int,
    capability: int,
) -> tuple[str, bytes]:
    """PTX and cubin of a kernel, for a compute capability times ten."""
    cc = divmod(capability, 10)
    with _planning_for(cc):
        ptx, _ = cuda.compile(
            make(**dict(fixed)),
            types.void(*signature),
            device=False,
            abi="numba",
            cc=cc,
            lineinfo=True,
            launch_bounds=most_threads,
        )
    return ptx, _linked(ptx, capability)


@contextmanager
def _planning_for(cc: tuple[int, int]) -> Iterator[None]:
    """Work around two limits of numba-cuda 0.30.

    It compiles device functions for the capability of a GPU that it asks the driver for, instead of
    what `cuda.compile` requests; and with line numbers it also makes NVVM record variables, which
    in some kernels ends in "Symbol name with unsupported characters".
    """
    from numba.cuda import debuginfo, dispatcher

    notes = debuginfo.CUDADIBuilder
    with ExitStack() as patches:
        for place, name, value in (
            (dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=cc)),
            (notes, "mark_variable", lambda *_, **__: None),
            (notes, "update_variable", lambda *_, **__: None),
        ):
            patches.enter_context(patch.object(place, name, value))
        yield


def _linked(ptx: str, capability: int) -> bytes:
    """The cubin that nvJitLink makes of PTX: ptxas of the toolkit whose NVVM wrote it."""
    from cuda.bindings import nvjitlink

    text = ptx.encode()
    options = [f"-arch=sm_{capability}", "-lineinfo"]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, text, len(text), "kernel.ptx")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
    finally:
        nvjitlink.destroy(handle)
    return bytes(cubin)


def _entry(ptx: str) -> str:
    """The kernel's name in its PTX."""
    return ptx.partition(".visible .entry ")[2].partition("(")[0].strip()


@cache
def _function(
    make: Callable[..., Any],
    fixed: tuple[tuple[str, Any], ...],
    signature: tuple[Any, ...],
    most_threads: int,
    device: int,
) -> Any:
    """The kernel, compiled and loaded, once for each device."""
    from cuda.bindings import driver

    # torch's types lack shared_memory_per_block_optin.
    facts: Any = torch.cuda.get_device_properties(device)
    capability = 10 * facts.major + facts.minor
    ptx, cubin = _compiled(make, fixed, signature, most_threads, capability)
    _use_context_of(device)
    (module,) = _checked(driver.cuModuleLoadData(cubin))
    (function,) = _checked(driver.cuModuleGetFunction(module, _entry(ptx).encode()))
    most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _checked(driver.cuFuncSetAttribute(function, most, facts.shared_memory_per_block_optin))
    return function


def _use_context_of(device: int) -> None:
    """Make PyTorch's context current, which it is not in a thread without a CUDA call so far."""
    from cuda.bindings import driver

    (current,) = _checked(driver.cuCtxGetCurrent())
    if not int(current):
        _checked(driver.cuCtxSetCurrent(_primary_context(device)))


@cache
def _primary_context(device: int) -> Any:
    from cuda.bindings import driver

    (handle,) = _checked(driver.cuDeviceGet(device))
    return _checked(driver.cuDevicePrimaryCtxRetain(handle))[0]


def _checked(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """The results of a driver call without its status.

    Raises:
        RuntimeError: with the driver's own words if the status is an error.
    """
    from cuda.bindings import driver

    status, *found = result
    if status != driver.CUresult.CUDA_SUCCESS:
        _, text = driver.cuGetErrorString(status)
        raise RuntimeError(f"CUDA driver: {text.decode() if text else status} ({status.name})")
    return tuple(found)
