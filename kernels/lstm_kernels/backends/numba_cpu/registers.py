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
    """Bytes of a vector, the most rows of a tile, and what multiplies bfloat16 in pairs.

    `int8` says how int8 is multiplied: by "vnni", four products at once, by "words", which are 16
    bits wide, or not at all.
    """

    vector_bytes: int
    rows: int
    has_dots: bool
    has_tiles: bool
    int8: str


@cache
def registers() -> Registers:
    """Those that kernels of this process are compiled for."""
    found = kept.read(_NAME)
    if found is not None:
        return Registers(*json.loads(found))
    from lstm_kernels.backends.numba_cpu import target
    from lstm_kernels.backends.numba_cpu.int8_products import how_multiplied
    from lstm_kernels.backends.numba_cpu.simd import VECTOR_BYTES
    from lstm_kernels.backends.numba_cpu.tile import ROWS

    has_dots = target.machine() == "x86_64" and target.has("avx512bf16")
    has_tiles = has_dots and target.has("amx-bf16")
    told = Registers(VECTOR_BYTES, ROWS, has_dots, has_tiles, how_multiplied())
    kept.write(_NAME, json.dumps(told).encode())
    return told
