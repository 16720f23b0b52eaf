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
