"""The update-gate RNN. Source: Collins et al. 2017, "Capacity and Trainability in RNNs"."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="g n", states="h")
def ugrnn(p, h):
    """Interpolates between the old state and a new one, by one gate."""
    n = tanh(p.n)
    return n + sigmoid(p.g) * (h - n)
