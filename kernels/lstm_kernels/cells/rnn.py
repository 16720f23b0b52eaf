"""The plain RNN, of both nonlinearities. Source: torch.nn.RNN's equations."""

from lstm_kernels.cells import cell, relu, tanh


@cell(gates="n", states="h")
def rnn_tanh(p, h):
    """Elman's."""
    return tanh(p.n)


@cell(gates="n", states="h")
def rnn_relu(p, h):
    """The same, without a ceiling."""
    return relu(p.n)
