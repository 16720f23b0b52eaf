"""The LSTM of coupled gates. Source: Greff et al. 2015, "LSTM: A Search Space Odyssey", CIFG."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="f g o", states="h c")
def lstm_cifg(p, h, c):
    """What is not kept is replaced: i = 1 - f."""
    f = sigmoid(p.f)
    c = f * c + (1 - f) * tanh(p.g)
    return sigmoid(p.o) * tanh(c), c
