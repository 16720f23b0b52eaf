"""The kernels as C functions: compiled when first needed, and kept on disk for the next process.

A process that finds one there loads it without Numba, which takes longer to import than a first
call may. If there is none, `compiling` makes it.
"""

import ctypes
import json
import mmap
import warnings
from functools import cache
from typing import Any, NamedTuple

from lstm_kernels.backends.numba_cpu import kept, team
from lstm_kernels.backends.numba_cpu.cell_source import digest_of
from lstm_kernels.backends.numba_cpu.object_file import Unloadable, load
from lstm_kernels.cells import CELLS
from lstm_kernels.stack import Unsupported

# What Numba's own part of an object would call if a kernel raised something, which none does.
_NEVER_CALLED = ("numba_", "NRT_", "Py")


class Kernel(NamedTuple):
    """The address of a kernel, and the fields of the record it takes.

    `owner` must live as long as the kernel: Numba's function, or memory that a file was loaded
    into.
    """

    address: int
    fields: tuple[str, ...]
    owner: Any

    @property
    def is_loaded(self) -> bool:
        """Whether a process before this one had compiled it."""
        return isinstance(self.owner, mmap.mmap)


@cache
def compiled(pass_name: str, dtype: str, product: str, cell: str, by_head: bool = False) -> Kernel:
    """The C function of a pass, a name of `compiling.KERNELS`, of a cell on tensors of a dtype.

    Args:
        product: how matrices are multiplied, see `pairing.product_of`.
        by_head: whether W_hh has several heads.

    Raises:
        Unsupported: this CPU lacks what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES ask for.
    """
    reason = reason_against()
    if reason is not None:
        raise Unsupported(reason)
    definition = CELLS[cell]
    name = f"{pass_name}_{cell}_{dtype}_{product}_{digest_of(definition, by_head)}"
    loaded = _kept(name)
    if loaded is not None:
        return loaded
    from lstm_kernels.backends.numba_cpu import compiling

    made = compiling.make(name, pass_name, dtype, product, definition, by_head)
    fields = compiling.KERNELS[pass_name][1]
    if kept.is_used():
        _keep(name, fields, *compiling.object_of(made))
    return Kernel(made.address, fields, made)


def _kept(name: str) -> Kernel | None:
    """A kernel from an earlier process, or None; one that cannot be used here gives a warning."""
    found = kept.read(name)
    if found is None:
        return None
    head, _, content = found.partition(b"\n")
    symbol, fields = json.loads(head)
    try:
        loaded = load(content, symbol, _address_of)
    except Unloadable as reason:
        warnings.warn(f"the stored kernel {name} is compiled again: {reason}", stacklevel=3)
        return None
    return Kernel(loaded.address, tuple(fields), loaded.memory)


def _keep(name: str, fields: tuple[str, ...], symbol: str, content: bytes) -> None:
    """Store an object that the next process will be able to load."""
    try:
        load(content, symbol, _address_of)
    except Unloadable as reason:
        warnings.warn(f"the kernel {name} is not stored on disk: {reason}", stacklevel=2)
        return
    kept.write(name, json.dumps([symbol, fields]).encode() + b"\n" + content)


@cache
def reason_against() -> str | None:
    """Why this CPU cannot run what is compiled, or None."""
    # It has its own features, and asking LLVM would take longer than a first call may.
    if not kept.is_told():
        return None
    from lstm_kernels.backends.numba_cpu import target

    return target.reason_against()


def _address_of(symbol: str) -> int:
    """The address of a function that a kernel calls."""
    if symbol in team.TOLD_BY_OPENMP:
        return team.TOLD_BY_OPENMP[symbol]
    name = "abort" if symbol.startswith(_NEVER_CALLED) else symbol
    function = getattr(ctypes.CDLL(None), name, None)
    if function is None:
        raise Unloadable(f"it calls {symbol!r}, which no library of this process has")
    return ctypes.cast(function, ctypes.c_void_p).value or 0
