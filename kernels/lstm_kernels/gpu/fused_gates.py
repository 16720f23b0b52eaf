"""One step's arithmetic, past the products, as Triton device functions: `gates` and its gradients.

For tiles of any shape, all float32 or all float64, in and out; what a cell has no use for costs
nothing. No call of libdevice and no assembly, so that Triton's interpreter runs it too. The meaning
is `gates.activate`'s.

Source: the derivatives of `gates.activate`, by hand; `tanh` near 0 from Cephes, `tanhf` and `tanh`.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def widened(value):
    """A value in the type that is computed in: float64 as it is, whatever else in float32."""
    if value.dtype != tl.float64:
        value = value.to(tl.float32)
    return value


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), from the exponential of a negative number alone: nothing overflows."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x):
    """The hyperbolic tangent, small x to full relative precision too."""
    a = tl.abs(x)
    e = tl.exp(-2.0 * a)
    far = (1.0 - e) / (1.0 + e)
    # Where 1 - e would cancel; held below 0.625, so that the branch not taken cannot overflow.
    near = tl.minimum(a, 0.625)
    q = near * near
    p = _near_0_float64(q) if x.dtype == tl.float64 else _near_0_float32(q)
    near += near * (q * p)
    t = tl.where(a < 0.625, near, far)
    return tl.where(x < 0, -t, t)


@triton.jit
def _near_0_float32(q):
    """(tanh(x) / x - 1) / x^2 of q = x^2, below 0.625: a polynomial."""
    p = -5.70498872745e-3
    p = p * q + 2.06390887954e-2
    p = p * q - 5.37397155531e-2
    p = p * q + 1.33314422036e-1
    return p * q - 3.33332819422e-1


@triton.jit
def _near_0_float64(q):
    """The same by a quotient of polynomials."""
    p = -9.64399179425052238628e-1 * q - 9.92877231001918586564e1
    p = p * q - 1.61468768441708447952e3
    d = q + 1.12811678491632931402e2
    d = d * q + 2.23548839060100448583e3
    d = d * q + 4.84406305325125486048e3
    return p / d


@triton.jit
def next_state(p0, p1, p2, p3, h, c, CELL: tl.constexpr):
    """The state after a step, and what its gradients need.

    Args:
        p0, p1, p2, p3: pre-activations. LSTM i, f, g, o; GRU r, z and the two parts of n, from x
            (with b_ih) and from h (with b_hh); plain cells p0 alone. Give p0 for the unused.
        h, c: the state before; where the cell has no c, anything.
        CELL: "lstm", "gru", "rnn_tanh" or "rnn_relu".
    Returns:
        h, c, s0, s1, s2, s3: c is unchanged where the cell has none. Saved are LSTM's activated
        i, f, g, o, and GRU's r, z, n and p3; plain cells need h alone, and all s are h.
    """
    if CELL == "lstm":
        s0 = sigmoid(p0)
        s1 = sigmoid(p1)
        s2 = tanh(p2)
        s3 = sigmoid(p3)
        c = s1 * c + s0 * s2
        h = s3 * tanh(c)
    elif CELL == "gru":
        s0 = sigmoid(p0)
        s1 = sigmoid(p1)
        s2 = tanh(p2 + s0 * p3)
        s3 = p3
        h = s2 + s1 * (h - s2)
    else:
        tl.static_assert(CELL == "rnn_tanh" or CELL == "rnn_relu")
        # Not maximum, which would turn a NaN into 0.
        h = tanh(p0) if CELL == "rnn_tanh" else tl.where(p0 < 0, 0.0, p0)
        s0 = h
        s1 = h
        s2 = h
        s3 = h
    return h, c, s0, s1, s2, s3


@triton.jit
def gradients(dh, dc, s0, s1, s2, s3, c_before, c, h_before, h, CELL: tl.constexpr):
    """The gradients of a step's pre-activations and of the state before it.

    Args:
        dh, dc: gradients of the state after the step, everything that reads it counted.
        s0, s1, s2, s3: what `next_state` saved.
        c_before, c: LSTM, the cell state before and after. h_before: GRU. h: plain cells.
            What a cell does not name here may be anything.
    Returns:
        g0, g1, g2, g3: of p0 to p3; g0 stands for the unused.
        d_carry: the part of h_before's gradient that passes no product: GRU's dh * z, else 0.
        dc_before: of c_before; dc where the cell has no c.
    """
    if CELL == "lstm":
        t = tanh(c)
        dc += dh * s3 * (1.0 - t * t)
        g0 = dc * s2 * s0 * (1.0 - s0)
        g1 = dc * c_before * s1 * (1.0 - s1)
        g2 = dc * s0 * (1.0 - s2 * s2)
        g3 = dh * t * s3 * (1.0 - s3)
        d_carry = tl.zeros_like(dh)
        dc_before = dc * s1
    elif CELL == "gru":
        g1 = dh * (h_before - s2) * s1 * (1.0 - s1)
        g2 = dh * (1.0 - s1) * (1.0 - s2 * s2)
        g3 = g2 * s0
        g0 = g2 * s3 * s0 * (1.0 - s0)
        d_carry = dh * s1
        dc_before = dc
    else:
        tl.static_assert(CELL == "rnn_tanh" or CELL == "rnn_relu")
        g0 = dh * (1.0 - h * h) if CELL == "rnn_tanh" else tl.where(h > 0, dh, 0.0)
        g1 = g0
        g2 = g0
        g3 = g0
        d_carry = tl.zeros_like(dh)
        dc_before = dc
    return g0, g1, g2, g3, d_carry, dc_before
