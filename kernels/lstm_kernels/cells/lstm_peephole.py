"""The LSTM whose gates see the cell state. Source: Gers et al. 2002, "Learning Precise Timing"."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="i f g o", states="h c", per_unit="w_ci w_cf w_co")
def lstm_peephole(p, h, c, w_ci, w_cf, w_co):
    """The input and forget gates see c before the step, the output gate c after it."""
    i, f = sigmoid(p.i + w_ci * c), sigmoid(p.f + w_cf * c)
    c = f * c + i * tanh(p.g)
    return sigmoid(p.o + w_co * c) * tanh(c), c
