"""One step's arithmetic, past the products: from pre-activations to the next state.

Plain PyTorch, shared by every backend that loops over time in Python. Gates come in PyTorch's
order, i, f, g, o and r, z, n, and the GRU resets after the product, as PyTorch's does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

State = tuple[Tensor, Tensor | None]


def next_state(
    cell: str, from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None, w_hr: Tensor | None
) -> State:
    """The state after a step, from the two products of all gates at once.

    Args:
        from_x, from_h: [B, G*H], x W_ih^T + b_ih and h W_hh^T + b_hh.
        h: [B, S], the state before; c: [B, H] or None.
        w_hr: [P, H] where h is projected, else None.
    Returns:
        h [B, S] and c [B, H] or None.
    """
    if cell == "gru":
        H = h.shape[-1]
        x_rz, x_n = torch.split(from_x, [2 * H, H], dim=-1)
        h_rz, h_n = torch.split(from_h, [2 * H, H], dim=-1)
        r, z = (x_rz + h_rz).chunk(2, dim=-1)
        return activate(cell, (r, z, x_n, h_n), h, c, w_hr)
    gates = from_x + from_h
    return activate(cell, gates.chunk(4, dim=-1) if cell == "lstm" else (gates,), h, c, w_hr)


def add_gates(cell: str, from_x: Sequence[Tensor], from_h: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What `activate` takes, from one pair of products a gate, each [B, H]."""
    if cell == "gru":
        return from_x[0] + from_h[0], from_x[1] + from_h[1], from_x[2], from_h[2]
    return tuple(x + h for x, h in zip(from_x, from_h, strict=True))


def activate(
    cell: str, gates: Sequence[Tensor], h: Tensor, c: Tensor | None, w_hr: Tensor | None
) -> State:
    """The next state from a step's pre-activations, each [B, H].

    Args:
        gates: LSTM i, f, g, o; GRU r, z and the two halves of n, from x and from h; else one.
    """
    if cell == "lstm":
        assert c is not None
        i, f, g, o = gates
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h if w_hr is None else linear(h, w_hr)), c
    if cell == "gru":
        r, z, x_n, h_n = gates
        n = torch.tanh(x_n + torch.sigmoid(r) * h_n)
        return n + torch.sigmoid(z) * (h - n), None
    return (torch.tanh if cell == "rnn_tanh" else torch.relu)(gates[0]), None


def gradients_of_saved(
    cell: str,
    d_h: Tensor,
    d_c: Tensor | None,
    d_saved: Tensor | None,
    saved: Tensor | None,
    c_before: Tensor | None,
    c: Tensor | None,
    h_before: Tensor | None,
    h: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of one step's two products and of the state before it, differentiable.

    As `gpu.fused_gates.gradients`, whose names these are, in float32 or wider; but what was saved
    may have a gradient of its own, as it has where these gradients are differentiated again.

    Args:
        d_h, d_c: [B, H], gradients of the state after the step.
        saved: [B, 4*H], LSTM's activated i, f, g, o; GRU's r, z, n and n's part from h; None for a
            plain cell. d_saved: their gradient, or None.
        c_before, c: LSTM, the cell state before and after. h_before: GRU. h: plain cells.
    Returns:
        d_from_x, d_from_h [B, G*H], d_h_before and d_c_before [B, H], None where h acts through
        its product alone, or the cell has no c.
    """
    dtype = d_h.dtype
    wide = torch.promote_types(dtype, torch.float32)

    def widened(tensor: Tensor | None) -> Tensor:
        # What the cell has no use for is left empty.
        return d_h.new_empty(0) if tensor is None else tensor.to(wide)

    dh, dc = widened(d_h), widened(d_c)
    if saved is None:
        h = widened(h)
        d = (dh * (1 - h * h) if cell == "rnn_tanh" else torch.where(h > 0, dh, 0)).to(dtype)
        return d, d, None, None
    s0, s1, s2, s3 = widened(saved).chunk(4, dim=-1)
    d0, d1, d2, d3 = (0, 0, 0, 0) if d_saved is None else widened(d_saved).chunk(4, dim=-1)
    if cell == "lstm":
        t = torch.tanh(widened(c))
        dc = dc + dh * s3 * (1 - t * t)
        g0 = (dc * s2 + d0) * s0 * (1 - s0)
        g1 = (dc * widened(c_before) + d1) * s1 * (1 - s1)
        g2 = (dc * s0 + d2) * (1 - s2 * s2)
        g3 = (dh * t + d3) * s3 * (1 - s3)
        d_from_x = torch.cat([g0, g1, g2, g3], dim=-1).to(dtype)
        return d_from_x, d_from_x, None, (dc * s1).to(dtype)
    g1 = (dh * (widened(h_before) - s2) + d1) * s1 * (1 - s1)
    g2 = (dh * (1 - s1) + d2) * (1 - s2 * s2)
    g0 = (g2 * s3 + d0) * s0 * (1 - s0)
    g3 = g2 * s0 + d3
    d_from_x, d_from_h = torch.cat([g0, g1, g2], dim=-1), torch.cat([g0, g1, g3], dim=-1)
    return d_from_x.to(dtype), d_from_h.to(dtype), (dh * s1).to(dtype), None
