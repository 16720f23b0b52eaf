"""How matrices are multiplied on this CPU: number by number, or bfloat16 in pairs; the host's side.

The kernels' side is `products`, which tells more of the layout. Nothing here imports Numba.
"""

import ctypes
import sys
from functools import cache
from typing import NamedTuple

from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS
from lstm_kernels.backends.numba_cpu.registers import registers

# The size of one product of pairs: 32 elements of K, 16 rows of a tile.
STEP = 32
TILE_ROWS = 16
# How many tiles' products are made before any is used: AMX that has not been used for half a
# microsecond takes 0.2 us to wake, as long as some products take (docs/numba-cpu-bfloat16.md).
TILES_AT_ONCE = 8
# Where a thread writes the addresses of a tile's rows.
TABLE_BYTES = 64

# Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
_ARCH_PRCTL = 158
_PERMISSION = 0x1023, 18


class Product(NamedTuple):
    """What follows from how matrices are multiplied, and from the registers there are."""

    name: str
    # The most rows that are multiplied number by number, and a vector's bytes.
    rows_by_number: int
    vector_bytes: int

    @property
    def in_pairs(self) -> bool:
        """Whether what is multiplied is bfloat16, two elements at a time."""
        return self.name != "fma"

    @property
    def rows(self) -> int:
        """How many rows are multiplied at once."""
        return TILE_ROWS if self.name == "amx" else self.rows_by_number

    @property
    def tiles_at_once(self) -> int:
        """How many products are made before any is used."""
        return TILES_AT_ONCE if self.name == "amx" else 1

    @property
    def tile_bytes(self) -> int:
        """Bytes of one product."""
        return self.rows * VECTORS * self.vector_bytes

    @property
    def scratch_bytes(self) -> int:
        """Bytes that a thread keeps to itself: addresses of rows, and their products."""
        # Of several heads two products are added up.
        return TABLE_BYTES + max(self.tiles_at_once, 2) * self.tile_bytes

    @property
    def rows_behind(self) -> int:
        """How many rows may be read behind the last one: a tile has all its rows."""
        return self.rows if self.in_pairs else 0

    def padded(self, elements: int) -> int:
        """How many elements of K a row has, those behind the last one zero."""
        return -(-elements // STEP) * STEP if self.in_pairs else elements

    def lines(self, elements: int) -> int:
        """How many lines of vectors a panel has, for this many elements of K."""
        return self.padded(elements) // 2 if self.in_pairs else elements


@cache
def product_of(dtype: str) -> Product:
    """How matrices of a dtype are multiplied on this CPU: "fma", or in pairs by "amx" or "dot"."""
    known = registers()
    name = "fma"
    if dtype == "bfloat16" and known.has_dots:
        name = "amx" if known.has_tiles and _may_use_tiles() else "dot"
    return Product(name, known.rows, known.vector_bytes)


@cache
def _may_use_tiles() -> bool:
    """Ask Linux for the tiles' registers, which a process has on request alone."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, *_PERMISSION) == 0
