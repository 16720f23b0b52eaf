"""The LSTM that normalises over its units.

Source: Ba et al. 2016, "Layer Normalization", in the form of haste (lmnt-com): the products of all
four gates are normalised together, and the biases are added afterwards.
"""

from collections.abc import Callable
from typing import Any

from lstm_kernels.cells import cell, layer_norm, sigmoid, tanh

GAINS = "gain_xi gain_xf gain_xg gain_xo gain_hi gain_hf gain_hg gain_ho gain_c"


def normalised(norm: Callable[..., Any], p: Any, c: Any, *units: Any) -> tuple[Any, Any]:
    """An LSTM's step with that norm of both products and of c; c itself is kept as it is."""
    *gains, gain_c, shift_c = units
    of_x = norm(p.i_x, p.f_x, p.g_x, p.o_x)
    of_h = norm(p.i_h, p.f_h, p.g_h, p.o_h)
    biases = (p.i_b, p.f_b, p.g_b, p.o_b)
    i, f, g, o = (
        gain_x * x + gain_h * h + b
        for gain_x, x, gain_h, h, b in zip(gains[:4], of_x, gains[4:], of_h, biases, strict=True)
    )
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(gain_c * norm(c) + shift_c), c


@cell(
    gates="i f g o",
    states="h c",
    bare="i f g o",
    per_unit=f"{GAINS} shift_c",
    starts=dict.fromkeys(GAINS.split(), 1) | {"shift_c": 0},
)
def lstm_layernorm(p, h, c, *units):
    """Every gate's products and c have their own per-unit gains."""
    return normalised(layer_norm, p, c, *units)
