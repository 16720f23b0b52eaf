"""How this backend spells a cell's definition, and a digest of its kernels' sources."""

import hashlib

from lstm_kernels.backends.numba_cpu.cell_layout import layout_of
from lstm_kernels.cells import Cell
from lstm_kernels.cells.code.emit import Dialect, source_of

NUMBA_CPU = Dialect("numba_cpu", decorator="@inlined", staged=True)


def digest_of(cell: Cell, by_head: bool = False) -> str:
    """A digest of all sources of a cell's kernels, except the package's own."""
    parts = (source_of(cell, NUMBA_CPU), str(layout_of(cell, by_head)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
