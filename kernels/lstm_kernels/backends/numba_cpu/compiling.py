"""Compiles the kernels: Numba's part of `compiled`.

Where objects are kept by `compiled`, Numba keeps none. Elsewhere it does, in NUMBA_CACHE_DIR or
beside the sources. It looks at the date of one source file only, and processes that add to one
index at once may swap what it points to. So every kernel's name, and with it its index, holds a
digest of all it is made of: whoever writes it writes the same.
"""

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba

from lstm_kernels.backends.numba_cpu import kept, target
from lstm_kernels.backends.numba_cpu.arguments import BACKWARD, FORWARD, signature_of
from lstm_kernels.backends.numba_cpu.backward import backward
from lstm_kernels.backends.numba_cpu.cell_code import type_of
from lstm_kernels.backends.numba_cpu.forward import forward
from lstm_kernels.cells import Cell

KERNELS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "forward": (forward, FORWARD),
    "backward": (backward, BACKWARD),
}


def make(name: str, pass_name: str, dtype: str, product: str, cell: Cell) -> Any:
    """The C function of a pass of a cell on tensors of a dtype, under a name.

    Args:
        product: how matrices are multiplied, see `pairing.product_of`.
    """
    function, fields = KERNELS[pass_name]
    name = f"{name}_{_digest()}"
    named = FunctionType(function.__code__, function.__globals__, name)
    named.__qualname__ = name
    named.__module__ = function.__module__
    signature = signature_of(fields, dtype, product, type_of(cell))
    made = partial(numba.cfunc, signature, error_model="numpy")
    if kept.is_used():
        return made(cache=False)(named)
    try:
        return made(cache=True)(named)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        # Nowhere to keep it: neither beside the sources nor in a home.
        return made(cache=False)(named)


def object_of(made: Any) -> tuple[str, bytes]:
    """The name of a compiled C function in its object file, and that file."""
    return made.native_name, made._library._get_compiled_object()


@cache
def _digest() -> str:
    """Of this package's sources, of what compiles them, and of what they are compiled for.

    What a cell's definition makes of them has a digest of its own.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    parts = [source.read_bytes() for source in sources]
    compilers = (numba.__version__, llvmlite.__version__)
    parts.append("\0".join([*compilers, *target.compiled_for()]).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
