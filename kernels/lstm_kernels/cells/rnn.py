"""The plain RNN, of both nonlinearities. Source: torch.nn.RNN's equations."""

from lstm_kernels.cells import cell, relu, tanh


@cell(gates="n", states="h")
def rnn_tanh(p, h):
    """The Elman network, with tanh."""
    return tanh(p.n)


@cell(gates="n", states="h")
def rnn_relu(p, h):
    """The same with relu."""
    return relu(p.n)
