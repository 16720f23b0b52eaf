"""int8 weights of a layer: quantised row by row, packed for `forward_w8`, and kept.

A row of W_ih or W_hh is its largest element / 127 times whole numbers from -127 to 127. Quantising
takes longer than a short layer's steps; so what was made is kept until the weights change
(`common.kept_copies`). Nothing here imports Numba.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lstm_kernels.backends.numba_cpu.cell_layout import layout_of
from lstm_kernels.backends.numba_cpu.registers import registers
from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.stages import staged
from lstm_kernels.common.kept_copies import KeptCopies
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights

MOST = 127
# As many products of two numbers of 127 as an int32 holds.
MOST_COLUMNS = (2**31 - 1) // MOST**2
# What an element is at least divided by; a row of zeros would be divided by 0.
_LEAST = 2.0**-100


class Packs(NamedTuple):
    """The panels of both matrices, [D, panels, 2 + K/4, vectors, W, 4] bytes: `int8_products`."""

    w_ih: Tensor
    w_hh: Tensor


_kept: KeptCopies[Packs] = KeptCopies()


def row_bytes(K: int) -> int:
    """Bytes of a row of activations, `int8_products.row_bytes`."""
    return _padded(K) + _lanes()


def packs_of(problem: Problem, weights: tuple[Weights, ...], *, look: bool) -> Packs:
    """The packs of a layer's weights, kept or made now.

    Args:
        look: whether to compare the weights' content too, to see if they changed.
    """
    matrices = tuple(Weights(one.w_ih, one.w_hh) for one in weights)
    return _kept.get(matrices, problem.cell, lambda: _packs(problem, matrices), look=look)


def reason_against(problem: Problem) -> str | None:
    """Why int8 weights of this problem cannot be multiplied here, or None."""
    if not registers().int8:
        return "its int8 products need AVX2, and kernels are compiled for a CPU without it"
    if problem.heads > 1:
        return f"its int8 products are of one head, and this has {problem.heads}"
    if problem.proj_size:
        return f"its int8 weights have no projection, and P={problem.proj_size}"
    if staged(CELLS[problem.cell]) is not None:
        return f"its int8 kernels have no norms, and {problem.cell} normalises"
    columns = max(problem.input_size, problem.hidden_size)
    if columns > MOST_COLUMNS:
        return f"an int32 holds the sum of {MOST_COLUMNS} int8 products, and a row has {columns}"
    return None


def _packs(problem: Problem, matrices: tuple[Weights, ...]) -> Packs:
    gates, h_gates = problem.gates, problem.h_gates
    blocks = layout_of(problem.definition).blocks
    return Packs(
        torch.stack([_panels(one.w_ih.detach(), gates, blocks) for one in matrices]),
        torch.stack([_panels(one.w_hh.detach(), h_gates, blocks) for one in matrices]),
    )


def _panels(w: Tensor, gates: int, blocks: int) -> Tensor:
    """The panels of a matrix [G*H, K]."""
    W, (rows, K) = _lanes(), w.shape
    H = rows // max(gates, 1)
    panels = -(-H // (blocks * W))
    scale = w.abs().amax(1) / MOST
    q = (w / scale.clamp(min=_LEAST).unsqueeze(1)).round().to(torch.int8)
    # What activations of 128 more than they are add to a product.
    added = q.sum(1, dtype=torch.int32) * -128

    def by_panel(found: Tensor, *columns: int) -> Tensor:
        """[panels, blocks, gates, W, columns], zeros where there are no units or columns."""
        units = found.new_zeros(gates, panels * blocks * W, *columns)
        inner = tuple(slice(size) for size in found.shape[1:])
        units[:, :H, *inner] = found.view(gates, H, *found.shape[1:])
        return units.view(gates, panels, blocks, W, *columns).movedim(0, 2)

    fours = by_panel(q, _padded(K)).unflatten(-1, (-1, 4)).movedim(4, 1)
    line = 4 * blocks * gates * W
    lines = [
        by_panel(scale).contiguous().view(torch.int8).reshape(panels, 1, line),
        by_panel(added).contiguous().view(torch.int8).reshape(panels, 1, line),
        fours.reshape(panels, _padded(K) // 4, line),
    ]
    return torch.cat(lines, 1)


def _lanes() -> int:
    return registers().vector_bytes // 4


def _padded(K: int) -> int:
    return -(-K // _lanes()) * _lanes()
