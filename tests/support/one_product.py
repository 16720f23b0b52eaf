"""The cells whose step multiplies by W_hh once: those that kernels run."""

from lstm_kernels.cells import CELLS

ONE_PRODUCT = [name for name, cell in CELLS.items() if not cell.again]
