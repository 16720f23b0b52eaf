"""The scalar LSTM of exponential gates. Source: Beck et al. 2024, "xLSTM", equations 8 to 19."""

from lstm_kernels.cells import cell, exp, maximum, sigmoid, tanh


@cell(gates="i f z o", states="h c n m", positive="n")
def slstm(p, h, c, n, m):
    """Both gates are exponential: m keeps them small, and h is c / n, where n sums the inputs."""
    most = maximum(p.f + m, p.i)
    i, f = exp(p.i - most), exp(p.f + m - most)
    c = f * c + i * tanh(p.z)
    n = f * n + i
    return sigmoid(p.o) * (c / n), c, n, most
