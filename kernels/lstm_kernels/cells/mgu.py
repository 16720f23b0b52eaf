"""The minimal gated unit that resets after the product. Source: Zhou et al. 2016, "MGU"."""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="f n", states="h", apart="n")
def mgu(p, h):
    """One gate for both: how much of h is kept from the new state, and how much it replaces."""
    f = sigmoid(p.f)
    return h + f * (tanh(p.n_x + f * p.n_h) - h)
