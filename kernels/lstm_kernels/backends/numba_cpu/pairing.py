"""How matrices are multiplied on this CPU: number by number, or bfloat16 in pairs; the host's side.

The kernels' side is `products`, which tells more of the layout. Nothing here imports Numba.
"""

import ctypes
import sys
from functools import cache

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.registers import registers

# What a product of pairs takes at once: 32 elements of K, 16 rows of a tile.
STEP = 32
TILE_ROWS = 16
# How many tiles' products are made before any is used: AMX that has not been used for half a
# microsecond takes 0.2 us to wake, as long as some products take (docs/numba-cpu.md).
TILES_AT_ONCE = 8
# Where a thread writes the addresses of a tile's rows.
TABLE_BYTES = 64

# Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
_ARCH_PRCTL = 158
_PERMISSION = 0x1023, 18


@cache
def product_of(dtype: str) -> str:
    """How matrices of a dtype are multiplied on this CPU: "fma", or in pairs by "amx" or "dot"."""
    if dtype != "bfloat16" or not registers().has_dots:
        return "fma"
    return "amx" if registers().has_tiles and _may_use_tiles() else "dot"


@cache
def _may_use_tiles() -> bool:
    """Ask Linux for the tiles' registers, which a process has on request alone."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, *_PERMISSION) == 0


def tile_rows(product: str) -> int:
    """How many rows are multiplied at once."""
    return TILE_ROWS if product == "amx" else registers().rows


def tiles_at_once(product: str) -> int:
    """How many products are made before any is used."""
    return TILES_AT_ONCE if product == "amx" else 1


def tile_bytes(product: str) -> int:
    """Bytes of one product."""
    return tile_rows(product) * VECTORS * registers().vector_bytes


def scratch_bytes(product: str) -> int:
    """Bytes that a thread keeps to itself: addresses of rows, and their products."""
    return TABLE_BYTES + tiles_at_once(product) * tile_bytes(product)


def padded(product: str, elements: int) -> int:
    """How many elements of K a row has, those behind the last one zero."""
    return elements if product == "fma" else -(-elements // STEP) * STEP


def lines(product: str, elements: int) -> int:
    """How many lines of vectors a panel has, for so many elements of K."""
    return elements if product == "fma" else padded(product, elements) // 2
