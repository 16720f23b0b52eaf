"""From one layer to a network: what the modules, the functional forms and the harness call.

A backend's module offers either of

    layer(x, h0, c0, weights, *, problem, lengths=None) -> (y, h_n, c_n)
    stack(x, h0, c0, weights, *, problem, lengths=None, dropout=0.0, training=False) -> same

with x [T, B, I], y [T, B, D*S], h0 and h_n [L*D, B, S], c0 and c_n [L*D, B, H] or None if the
cell has no c; S is P if projected, else H. `layer` has L = 1. `weights` is a tuple of L*D
`Weights`, layer by layer, forward direction first. `lengths` is an int64 [B] tensor on the CPU,
or None if every sequence has T steps; y is zero past a sequence's end, h_n and c_n are the
states at its own end, and the reverse direction starts there.

A backend whose record says `packed` also takes a ragged batch without its padding: `lengths` by
descending length, x [R, I] with the R = sum(lengths) existing steps, all sequences' first steps,
then all second steps and so on, as in a PackedSequence; y is then [R, D*S].

A backend whose record says `recompute` takes that keyword too: with True it saves less for
the backward and computes the rest again there.

A backend whose record says `copies` computes with copies of the weights that it keeps, and makes
them again if PyTorch counted an in-place change of the weights (`Tensor._version`), such as an
optimiser's step. With the keyword `look` True it also compares their content, to find uncounted
writes through `Tensor.data` or NumPy; the modules and functions do so.

A backend whose record says `w8` also computes with int8 weights, if the problem's precision is
`w8`: tensors are float32, and weights and activations are rounded to int8 where they are
multiplied. There are no gradients then.

Gradients are correct if they are differentiated again (`create_graph=True`), or a backward raises:
a backend with an autograd Function of its own has `common.second_derivatives` for it.

A backend whose record says `operators` also offers what `common.operators` needs.

It may also offer `in_phases(note)`, to tell where its time goes: see `lstm_kernels.phases`.

It may also offer `flatten(weights, problem)`: change the layout of the weights' memory, their
values unchanged, in place. The owner of the weights calls it once, before the first run.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_kernels.problem import Problem

Outputs = tuple[Tensor, Tensor, Tensor | None]


class Weights(NamedTuple):
    """One layer, one direction, gates in PyTorch's order (LSTM i, f, g, o; GRU r, z, n).

    w_ih [G*H, I], w_hh [G*H, S/N], b_ih and b_hh [G*H] or None, w_hr [P, H] or None; per_unit
    [U*H], the cell's per-unit parameters side by side, or None. With N heads, row g*H + k of w_hh
    is for gate g of unit k, and its columns are the H/N units of that unit's head.
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None
    per_unit: Tensor | None = None


OneLayer = Callable[[int, Tensor, Tensor, Tensor | None, tuple[Weights, ...]], Outputs]


def unflatten(flat: Sequence[Tensor | None]) -> tuple[Weights, ...]:
    """The weights of every layer and direction, from their tensors one after another."""
    fields = len(Weights._fields)
    return tuple(Weights._make(flat[i : i + fields]) for i in range(0, len(flat), fields))


class Unsupported(RuntimeError):  # noqa: N818 - a name the design fixes
    """A backend was asked for a problem it does not run; the message is its reason."""


def run(
    implementation: Any,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
    training: bool = False,
    recompute: bool = False,
    look: bool = False,
) -> Outputs:
    """Run a whole network on one backend, layer by layer if the backend has no `stack`.

    Args:
        implementation: what `registry.load` returns.
        dropout: probability, applied between layers while training.
        recompute, look: passed to the backend if they are True; see `Backend.recompute` and
            `Backend.copies`.
        The rest, and the returned y, h_n, c_n: as on this module's page.
    Raises:
        Unsupported: gradients may be needed, and the problem's precision has none.
    """
    reason = problem.reason_against("forward") if torch.is_grad_enabled() else None
    if reason is not None and _needs_gradients(x, h0, c0, weights):
        raise Unsupported(f"{reason}: call it under torch.no_grad()")
    wishes = {"recompute": recompute, "look": look}
    wish = {name: True for name, is_wished in wishes.items() if is_wished}
    if hasattr(implementation, "stack"):
        return implementation.stack(  # type: ignore[no-any-return]
            x,
            h0,
            c0,
            weights,
            problem=problem,
            lengths=lengths,
            dropout=dropout,
            training=training,
            **wish,
        )

    def layer(
        index: int, x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]
    ) -> Outputs:
        one = problem.layer(index)
        return implementation.layer(  # type: ignore[no-any-return] # a module's
            x, h0, c0, weights, problem=one, lengths=lengths, **wish
        )

    return run_layers(
        layer,
        x,
        h0,
        c0,
        weights,
        directions=problem.directions,
        lengths=lengths,
        dropout=dropout if training else 0.0,
    )


def _needs_gradients(
    x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]
) -> bool:
    tensors = (x, h0, c0, *(tensor for one in weights for tensor in one))
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def run_layers(
    layer: OneLayer,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    directions: int,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
) -> Outputs:
    """Run one layer after another, each on the output of the one before.

    Args:
        layer: called with a layer's number, from 0 on, its input, states and weights.
        dropout: probability, applied between layers.
    """
    if len(weights) == directions:
        return layer(0, x, h0, c0, weights)
    last_states = []
    for index in range(len(weights) // directions):
        rows = slice(index * directions, (index + 1) * directions)
        if index and dropout:
            x = _dropout(x, dropout, lengths)
        x, h_n, c_n = layer(index, x, h0[rows], None if c0 is None else c0[rows], weights[rows])
        last_states.append((h_n, c_n))
    h_n = torch.cat([h for h, _ in last_states])
    c_n = None if c0 is None else torch.cat([c for _, c in last_states if c is not None])
    return x, h_n, c_n


def _dropout(x: Tensor, probability: float, lengths: Tensor | None) -> Tensor:
    """Dropout between layers, with the random numbers that torch.nn would draw on a CPU.

    In a ragged batch numbers are drawn only for steps before a sequence's end, in packed order.
    """
    if lengths is None or x.dim() == 2:
        return torch.nn.functional.dropout(x, probability)
    steps = torch.arange(len(x), device=x.device).unsqueeze(1)
    alive = (steps < lengths.to(x.device)).nonzero(as_tuple=True)
    dropped = torch.nn.functional.dropout(x[alive], probability)
    return torch.zeros_like(x).index_put(alive, dropped)
