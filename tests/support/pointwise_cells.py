"""The cells whose step is each unit's own arithmetic past the products: those that kernels run."""

from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.trace import beyond_a_unit

POINTWISE = [name for name, cell in CELLS.items() if beyond_a_unit(cell) is None]
