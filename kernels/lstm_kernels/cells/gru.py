"""The GRU that resets after the product. Source: torch.nn.GRU's equations."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="r z n", states="h", apart="n")
def gru(p, h):
    """Interpolates between the old state and a new one, whose part from h is reset."""
    n = tanh(p.n_x + sigmoid(p.r) * p.n_h)
    return n + sigmoid(p.z) * (h - n)
