"""One step's arithmetic, past the products, as Numba device functions: `gates` and its gradients.

The meaning is `lstm_kernels.common.gates.activate`'s; what is saved, and in which order, is that of
`lstm_kernels.gpu.fused_gates`, where the Triton kernels have the same arithmetic. Every number has
its kernel's dtype. The constants are float32, and exact: beside a float64 they become one, where a
bare 1.0 would make a float64 of every float32 that it touches.

Source: the derivatives of `gates.activate`, by hand.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import math

import numpy as np

from lstm_kernels.gpu.numba_launching import SIMULATED, device_function

# Of the simulator's numbers, which are NumPy's, `math` would make Python's own. Those take the
# dtype of what they meet: beside a constant a float64 would be lost.
exp, tanh = (np.exp, np.tanh) if SIMULATED else (math.exp, math.tanh)

ZERO = np.float32(0.0)
ONE = np.float32(1.0)


@device_function
def sigmoid(x):
    """1 / (1 + exp(-x)), from the exponential of a negative number alone: nothing overflows."""
    e = exp(-abs(x))
    if x >= ZERO:
        return ONE / (ONE + e)
    return e / (ONE + e)


@device_function
def _lstm_state(p0, p1, p2, p3, h, c):
    s0 = sigmoid(p0)
    s1 = sigmoid(p1)
    s2 = tanh(p2)
    s3 = sigmoid(p3)
    c = s1 * c + s0 * s2
    return s3 * tanh(c), c, s0, s1, s2, s3


@device_function
def _gru_state(p0, p1, p2, p3, h, c):
    s0 = sigmoid(p0)
    s1 = sigmoid(p1)
    s2 = tanh(p2 + s0 * p3)
    return s2 + s1 * (h - s2), c, s0, s1, s2, p3


@device_function
def _tanh_state(p0, p1, p2, p3, h, c):
    h = tanh(p0)
    return h, c, h, h, h, h


@device_function
def _relu_state(p0, p1, p2, p3, h, c):
    # Not max, which would turn a NaN into 0.
    h = ZERO if p0 < ZERO else p0
    return h, c, h, h, h, h


@device_function
def _lstm_gradients(dh, dc, s0, s1, s2, s3, c_before, c, h_before, h):
    t = tanh(c)
    dc = dc + dh * s3 * (ONE - t * t)
    g0 = dc * s2 * s0 * (ONE - s0)
    g1 = dc * c_before * s1 * (ONE - s1)
    g2 = dc * s0 * (ONE - s2 * s2)
    g3 = dh * t * s3 * (ONE - s3)
    return g0, g1, g2, g3, ZERO, dc * s1


@device_function
def _gru_gradients(dh, dc, s0, s1, s2, s3, c_before, c, h_before, h):
    g1 = dh * (h_before - s2) * s1 * (ONE - s1)
    g2 = dh * (ONE - s1) * (ONE - s2 * s2)
    return g2 * s3 * s0 * (ONE - s0), g1, g2, g2 * s0, dh * s1, dc


@device_function
def _tanh_gradients(dh, dc, s0, s1, s2, s3, c_before, c, h_before, h):
    g = dh * (ONE - h * h)
    return g, g, g, g, ZERO, dc


@device_function
def _relu_gradients(dh, dc, s0, s1, s2, s3, c_before, c, h_before, h):
    g = dh if h > ZERO else ZERO
    return g, g, g, g, ZERO, dc


# By cell: p0, p1, p2, p3, h, c -> h, c, s0, s1, s2, s3, as `fused_gates.next_state`.
NEXT_STATE = {
    "lstm": _lstm_state,
    "gru": _gru_state,
    "rnn_tanh": _tanh_state,
    "rnn_relu": _relu_state,
}
# dh, dc, s0..s3, c_before, c, h_before, h -> g0..g3, d_carry, dc_before, as its `gradients`.
GRADIENTS = {
    "lstm": _lstm_gradients,
    "gru": _gru_gradients,
    "rnn_tanh": _tanh_gradients,
    "rnn_relu": _relu_gradients,
}
assert NEXT_STATE.keys() == GRADIENTS.keys()
