"""What the host's side must know of the registers that kernels are compiled for.

Numba, which decides it, takes half a second to import. Where a process before this one has kept
what it found (`kept`), nothing here imports it.
"""

import json
from functools import cache
from typing import NamedTuple

from lstm_kernels.backends.numba_cpu import kept

_NAME = "registers"


class Registers(NamedTuple):
    """Bytes of a vector, the most rows of a tile, and the bytes a thread keeps to itself."""

    vector_bytes: int
    rows: int
    scratch_bytes: int


@cache
def registers() -> Registers:
    """Those that kernels of this process are compiled for."""
    found = kept.read(_NAME)
    if found is not None:
        return Registers(*json.loads(found))
    from lstm_kernels.backends.numba_cpu.simd import VECTOR_BYTES
    from lstm_kernels.backends.numba_cpu.tile import ROWS, SCRATCH_BYTES

    told = Registers(VECTOR_BYTES, ROWS, SCRATCH_BYTES)
    kept.write(_NAME, json.dumps(told).encode())
    return told
