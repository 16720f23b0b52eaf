"""The independently recurrent network. Source: Li et al. 2018, "Independently RNN" (IndRNN)."""

from lstm_kernels.cells import cell, relu


@cell(gates="n", states="h", per_unit="u", from_x="n")
def indrnn(p, h, u):
    """A unit sees only its own state: there is no product with h."""
    return relu(p.n + u * h)
