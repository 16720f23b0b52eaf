"""The oracle: every step in float64, written as in a textbook, never raced.

Source: the equations of the documentation of torch.nn.LSTM, GRU and RNN. It shares no arithmetic
with the other backends, so that a mistake of theirs is not a mistake of its own. Whatever the
dtype of x, it computes in float64 and casts back at the end. A ragged batch is run one sequence
at a time, each at its own length. Limits: speed.
"""

import torch
from torch import Tensor

from lstm_kernels.common.refusals import device_limit
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says."""
    x64, h64 = x.double(), h0.double()
    c64 = None if c0 is None else c0.double()
    weights64 = tuple(Weights._make(w if w is None else w.double() for w in ws) for ws in weights)
    if lengths is None:
        y, h_n, c_n = _full(x64, h64, c64, weights64, problem.cell)
    else:
        y, h_n, c_n = _ragged(x64, h64, c64, weights64, problem.cell, lengths)
    return y.to(x.dtype), h_n.to(x.dtype), None if c_n is None else c_n.to(x.dtype)


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return device_limit(problem, device)


def _ragged(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    cell: str,
    lengths: Tensor,
) -> Outputs:
    """Every sequence by itself."""
    rows = []
    for b, length in enumerate(lengths.tolist()):
        row = slice(b, b + 1)
        c_row = None if c0 is None else c0[:, row]
        y, h, c = _full(x[:length, row], h0[:, row], c_row, weights, cell)
        padding = y.new_zeros(len(x) - length, *y.shape[1:])
        rows.append((torch.cat([y, padding]), h, c))
    ys, hs, cs = zip(*rows, strict=True)
    return torch.cat(ys, dim=1), torch.cat(hs, dim=1), None if c0 is None else torch.cat(cs, dim=1)


def _full(
    x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...], cell: str
) -> Outputs:
    """A batch of sequences that all have T steps, T = 0 included."""
    T, B, _ = x.shape
    ys, hs, cs = [], [], []
    for direction, w in enumerate(weights):
        h = h0[direction]
        c = None if c0 is None else c0[direction]
        y = [h] * T
        for t in reversed(range(T)) if direction == 1 else range(T):
            h, c = _step(cell, x[t], h, c, w)
            y[t] = h
        ys.append(torch.stack(y) if T else x.new_zeros(0, B, h.shape[-1]))
        hs.append(h)
        cs.append(c)
    c_n = torch.stack([c for c in cs if c is not None]) if c0 is not None else None
    return torch.cat(ys, dim=2), torch.stack(hs), c_n


def _step(
    cell: str, x: Tensor, h: Tensor, c: Tensor | None, w: Weights
) -> tuple[Tensor, Tensor | None]:
    H = w.w_ih.shape[0] // {"lstm": 4, "gru": 3}.get(cell, 1)
    from_x = x @ w.w_ih.T  # [B, G*H]
    from_h = h @ w.w_hh.T
    if w.b_ih is not None and w.b_hh is not None:
        from_x = from_x + w.b_ih
        from_h = from_h + w.b_hh
    if cell == "lstm":
        assert c is not None
        gates = from_x + from_h
        i = torch.sigmoid(gates[:, :H])
        f = torch.sigmoid(gates[:, H : 2 * H])
        g = torch.tanh(gates[:, 2 * H : 3 * H])
        o = torch.sigmoid(gates[:, 3 * H :])
        c = f * c + i * g
        h = o * torch.tanh(c)
        return (h if w.w_hr is None else h @ w.w_hr.T), c
    if cell == "gru":
        r = torch.sigmoid(from_x[:, :H] + from_h[:, :H])
        z = torch.sigmoid(from_x[:, H : 2 * H] + from_h[:, H : 2 * H])
        n = torch.tanh(from_x[:, 2 * H :] + r * from_h[:, 2 * H :])
        return (1 - z) * n + z * h, None
    total = from_x + from_h
    return (torch.tanh(total) if cell == "rnn_tanh" else total.clamp(min=0)), None
