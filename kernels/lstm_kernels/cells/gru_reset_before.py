"""The GRU that resets before the product: ONNX's default, Keras's `reset_after=False`.

Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder".
"""

from lstm_kernels.cells import cell, sigmoid, tanh


@cell(gates="r z n", states="h", again="n")
def gru_reset_before(p, h):
    """The new state multiplies W_hh with the reset h, so that a step makes two products."""
    n = tanh(p.n(sigmoid(p.r) * h))
    return n + sigmoid(p.z) * (h - n)
