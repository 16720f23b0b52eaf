"""The LSTM. Source: torch.nn.LSTM's equations."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="i f g o", states="h c")
def lstm(p, h, c):
    """A forget gate, and h is a squashed c."""
    c = sigmoid(p.f) * c + sigmoid(p.i) * tanh(p.g)
    return sigmoid(p.o) * tanh(c), c
