"""The LSTM that normalises over its batch, by the statistics of each step.

Source: Cooijmans et al. 2016, "Recurrent Batch Normalization": gains start at 0.1, and what is made
of x and h has no shift but the bias. `lk.BatchNormLSTM` has running statistics beside.
"""

from lstm_kernels.cells import batch_norm, cell, sigmoid, tanh

GAINS = "gain_xi gain_xf gain_xg gain_xo gain_hi gain_hf gain_hg gain_ho gain_c"


@cell(
    gates="i f g o",
    states="h c",
    bare="i f g o",
    per_unit=f"{GAINS} shift_c",
    starts=dict.fromkeys(GAINS.split(), 0.1) | {"shift_c": 0},
)
def lstm_batchnorm(p, h, c, *units):
    """Both products and c are normalised, each with gains of its own; c itself is kept as it is."""
    *gains, gain_c, shift_c = units
    of_x = batch_norm(p.i_x, p.f_x, p.g_x, p.o_x)
    of_h = batch_norm(p.i_h, p.f_h, p.g_h, p.o_h)
    biases = (p.i_b, p.f_b, p.g_b, p.o_b)
    i, f, g, o = (
        gain_x * x + gain_h * h + b
        for gain_x, x, gain_h, h, b in zip(gains[:4], of_x, gains[4:], of_h, biases, strict=True)
    )
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(gain_c * batch_norm(c) + shift_c), c
