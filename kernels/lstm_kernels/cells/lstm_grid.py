"""The LSTM of a grid. Source: Kalchbrenner et al. 2015, "Grid Long Short-Term Memory"."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="i f g o", states="h c")
def lstm_grid(p, h, c):
    """An LSTM whose h is tanh(o * c) and not o * tanh(c)."""
    c = sigmoid(p.f) * c + sigmoid(p.i) * tanh(p.g)
    return tanh(sigmoid(p.o) * c), c
