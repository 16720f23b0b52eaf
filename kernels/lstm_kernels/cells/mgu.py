"""The minimal gated unit that resets after the product.

Source: Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks"; the reset after the
product, and not before it, as torch.nn.GRU's.
"""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="f n", states="h", apart="n")
def mgu(p, h):
    """One gate for both: how much of h a new state sees, and how much of h it replaces."""
    f = sigmoid(p.f)
    return h + f * (tanh(p.n_x + f * p.n_h) - h)
