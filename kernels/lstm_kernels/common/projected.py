"""A projected LSTM as a plain one, for kernels that have no projection between their steps.

With m the state before its projection, h = W_hr m and W_hh h = (W_hh W_hr) m. So a plain layer with
the recurrent weights W_hh W_hr [4H, H] makes m, from which y, h_n and the gradients of W_hr follow
in products over all steps. Only h0 is not W_hr m: it comes in through further columns of x [D*P],
which hold it at a sequence's first step and are zero elsewhere, with W_hh as their weights.

A step's product is 4H x H in place of 4H x P and P x H, so it does more arithmetic where P is
small, and the steps wait for each other once, not twice.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.common.packing import first_pairs
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights


def plain(problem: Problem) -> Problem:
    """The problem that replaces a projected one; any other does not change."""
    if not problem.proj_size:
        return problem
    columns = problem.input_size + problem.directions * problem.proj_size
    return replace(problem, input_size=columns, proj_size=0)


def projected(
    layer: Callable[..., Outputs],
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None,
    **wish: Any,
) -> Outputs:
    """A layer with projections by a `layer` without support for them; see `lstm_kernels.stack`.

    Args:
        x: [T, B, I], or [R, I] packed; wish: passed to `layer`.
    """
    first = _first_rows(x, h0.shape[1], lengths, len(weights))
    given = [
        x.new_zeros(x.shape[:-1].numel(), problem.proj_size).index_copy(0, rows, h)
        for rows, h in zip(first, h0, strict=True)
    ]
    y, m_n, c_n = layer(
        torch.cat([x, *(each.view(*x.shape[:-1], -1) for each in given)], -1),
        h0.new_zeros(*h0.shape[:2], problem.hidden_size),
        c0,
        tuple(_plain_weights(each, d, len(weights)) for d, each in enumerate(weights)),
        problem=plain(problem),
        lengths=lengths,
        **wish,
    )
    projections = [each.w_hr for each in weights if each.w_hr is not None]
    y = torch.cat(
        [m @ w.t() for m, w in zip(y.chunk(len(weights), -1), projections, strict=True)], -1
    )
    h_n = torch.stack([m @ w.t() for m, w in zip(m_n, projections, strict=True)])
    if lengths is not None:
        # Without a step a sequence ends with its initial state.
        h_n = torch.where(lengths.to(h0.device).view(1, -1, 1) == 0, h0, h_n)
    return y, h_n, c_n


def _plain_weights(weights: Weights, direction: int, directions: int) -> Weights:
    """The weights that make m from the longer x: each direction's W_hh is at its own columns."""
    w_ih, w_hh, b_ih, b_hh, w_hr, _ = weights
    assert w_hr is not None
    columns = [w_hh if d == direction else torch.zeros_like(w_hh) for d in range(directions)]
    return Weights(torch.cat([w_ih, *columns], -1), w_hh @ w_hr, b_ih, b_hh)


def _first_rows(x: Tensor, B: int, lengths: Tensor | None, directions: int) -> list[Tensor]:
    """For each direction, which rows of x, steps and sequences together, are first steps: [B]."""
    sequences = torch.arange(B, device=x.device)
    if directions == 1:
        return [sequences]
    if lengths is None:
        return [sequences, sequences + (len(x) - 1) * B]
    last = lengths.to(x.device).sub(1).clamp(min=0)
    if x.dim() == 3:
        return [sequences, last * B + sequences]
    return [sequences, first_pairs(lengths)[last] + sequences]
