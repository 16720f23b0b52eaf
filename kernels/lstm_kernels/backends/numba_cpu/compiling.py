"""Compiles the kernels: Numba's part of `compiled`.

If `compiled` stores objects, Numba stores none. Otherwise it does, in NUMBA_CACHE_DIR or
next to the sources. It checks the date of one source file only, and processes that add to one
index at the same time may swap what it points to. So every kernel's name, and with it its index,
holds a digest of all its sources: every process writes the same.
"""

from collections.abc import Callable
from functools import cache, partial
from types import FunctionType
from typing import Any

import llvmlite
import numba

from lstm_kernels.backends.numba_cpu import kept, target
from lstm_kernels.backends.numba_cpu.arguments import (
    BACKWARD,
    BACKWARD_NORMED,
    FORWARD,
    FORWARD_NORMED,
    FORWARD_W8,
    STAMPS,
    signature_of,
)
from lstm_kernels.backends.numba_cpu.backward import backward
from lstm_kernels.backends.numba_cpu.backward_normed import backward_normed
from lstm_kernels.backends.numba_cpu.cell_code import type_of
from lstm_kernels.backends.numba_cpu.forward import forward
from lstm_kernels.backends.numba_cpu.forward_normed import forward_normed
from lstm_kernels.backends.numba_cpu.forward_unpacked import forward_unpacked
from lstm_kernels.backends.numba_cpu.forward_w8 import forward_w8
from lstm_kernels.backends.numba_cpu.parts import KernelCompiler
from lstm_kernels.backends.numba_cpu.registers import registers
from lstm_kernels.backends.numba_cpu.simd import VECTOR_BYTES
from lstm_kernels.backends.numba_cpu.tile import ROWS
from lstm_kernels.cells import Cell
from lstm_kernels.stack import Unsupported

_KERNELS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "forward": (forward, FORWARD),
    "backward": (backward, BACKWARD),
    "forward_normed": (forward_normed, FORWARD_NORMED),
    "backward_normed": (backward_normed, BACKWARD_NORMED),
    "forward_w8": (forward_w8, FORWARD_W8),
    "forward_unpacked": (forward_unpacked, FORWARD),
}
# The same with time stamps: see `noting`.
_NOTED = {
    f"noted_{name}": (kernel, (*fields, STAMPS)) for name, (kernel, fields) in _KERNELS.items()
}
KERNELS = _KERNELS | _NOTED


def make(
    name: str, pass_name: str, dtype: str, product: str, cell: Cell, by_head: bool = False
) -> Any:
    """The C function of a pass of a cell on tensors of a dtype, under a name.

    Args:
        product: how matrices are multiplied, see `pairing.product_of`.
        by_head: whether W_hh has several heads.

    Raises:
        Unsupported: Numba's target CPU was changed after this process read it.
    """
    known = registers()
    if (known.vector_bytes, known.rows) != (VECTOR_BYTES, ROWS):
        raise Unsupported(
            f"kernels are compiled for vectors of {VECTOR_BYTES} bytes now, but were for "
            f"{known.vector_bytes} when this process began; set NUMBA_CPU_NAME and "
            "NUMBA_CPU_FEATURES before it does"
        )
    function, fields = KERNELS[pass_name]
    name = f"{name}_{_digest()}"
    named = FunctionType(function.__code__, function.__globals__, name)
    named.__qualname__ = name
    named.__module__ = function.__module__
    signature = signature_of(fields, dtype, product, type_of(cell, by_head))
    made = partial(numba.cfunc, signature, error_model="numpy", pipeline_class=KernelCompiler)
    if kept.is_used():
        return made(cache=False)(named)
    try:
        return made(cache=True)(named)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        # There is no place to store it: neither next to the sources nor in a home.
        return made(cache=False)(named)


def object_of(made: Any) -> tuple[str, bytes]:
    """The name of a compiled C function in its object file, and that file."""
    return made.native_name, made._library._get_compiled_object()


@cache
def _digest() -> str:
    # Code generated from a cell's definition has its own digest.
    return kept.digest_with(numba.__version__, llvmlite.__version__, *target.compiled_for())
