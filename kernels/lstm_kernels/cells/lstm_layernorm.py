"""The LSTM that normalises over its units.

Source: Ba et al. 2016, "Layer Normalization", in the form of haste (lmnt-com): the products of all
four gates are normalised as one, and the biases are added after.
"""

from lstm_kernels.cells import cell, layer_norm, sigmoid, tanh

GAINS = "gain_xi gain_xf gain_xg gain_xo gain_hi gain_hf gain_hg gain_ho gain_c"


@cell(
    gates="i f g o",
    states="h c",
    bare="i f g o",
    per_unit=f"{GAINS} shift_c",
    starts=dict.fromkeys(GAINS.split(), 1) | {"shift_c": 0},
)
def lstm_layernorm(p, h, c, *units):
    """Both products and c are normalised, each with gains of its own; c itself is kept as it is."""
    *gains, gain_c, shift_c = units
    of_x = layer_norm(p.i_x, p.f_x, p.g_x, p.o_x)
    of_h = layer_norm(p.i_h, p.f_h, p.g_h, p.o_h)
    biases = (p.i_b, p.f_b, p.g_b, p.o_b)
    i, f, g, o = (
        gain_x * x + gain_h * h + b
        for gain_x, x, gain_h, h, b in zip(gains[:4], of_x, gains[4:], of_h, biases, strict=True)
    )
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(gain_c * layer_norm(c) + shift_c), c
