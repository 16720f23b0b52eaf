"""Cells as data: one file for each cell, from which the code of every backend is generated.

    from lstm_kernels.cells import cell, sigmoid, tanh

    @cell(gates="i f g o", states="h c")
    def lstm(p, h, c):
        c = sigmoid(p.f) * c + sigmoid(p.i) * tanh(p.g)
        return sigmoid(p.o) * tanh(c), c

A file in this folder is found automatically: a cell needs no other line anywhere.
"""

from lstm_kernels.cells.code.data import from_data, to_data
from lstm_kernels.cells.code.definition import Cell, Slot, cell
from lstm_kernels.cells.code.symbols import (
    batch_norm,
    exp,
    layer_norm,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    where,
)
from lstm_kernels.cells.known import CELLS, add_cells, add_files_beside

__all__ = [
    "BUILT_IN",
    "CELLS",
    "Cell",
    "Slot",
    "add_cells",
    "batch_norm",
    "cell",
    "exp",
    "from_data",
    "layer_norm",
    "log",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "tanh",
    "to_data",
    "where",
]

add_files_beside(__name__, __path__)

# The cells of this package; any other comes from a plugin, or from a run that raced it.
BUILT_IN = frozenset(CELLS)
