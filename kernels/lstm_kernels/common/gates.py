"""One step's arithmetic after the products: from pre-activations to the next state.

Plain PyTorch, shared by every backend that loops over time in Python; written from the cell's
definition (`lstm_kernels.cells`). Gates come in the definition's order, which for an LSTM and a GRU
is PyTorch's: i, f, g, o and r, z, n.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.cells.code.emit import TORCH, compiled
from lstm_kernels.cells.code.trace import mixes_batch, traced
from lstm_kernels.common.norms import BatchNorm, over_batch, over_units, several
from lstm_kernels.stack import Weights

State = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class StepCode:
    """A cell as a loop in Python runs it: its function, and where its pre-activations come from.

    Made before the loop, so that torch.compile sees numbers and a function, and no search.
    """

    function: Callable[..., Any]
    x_blocks: int
    h_blocks: int
    own_states: int
    units: int
    # Slots with the same place in both products, from the first one on: added together.
    both: int
    # Gates of W_hh's last blocks, which a step multiplies with values it makes itself.
    again: tuple[str, ...]
    # The first blocks of both products, which come without their biases.
    bare: int
    # The block of each other slot in each product, counted from there; None if it has no part. The
    # biases of bare gates come after them.
    others: tuple[tuple[int | None, int | None], ...]
    # Whether the function takes functions, and whether one of them uses the whole batch.
    calls: bool
    mixes_batch: bool
    # The function for a norm over the batch; a module with statistics has its own.
    batch_norm: BatchNorm = over_batch


@cache
def step_code(cell: str) -> StepCode:
    """The code of a cell by its name."""
    definition = CELLS[cell]
    both = _in_both(definition)
    bare = len(definition.bare)
    slots = definition.slots[both : len(definition.slots) - bare]
    return StepCode(
        torch_code(definition)["next_state"],
        definition.x_blocks,
        definition.h_blocks,
        definition.own_states,
        len(definition.per_unit),
        both,
        definition.again,
        bare,
        tuple(
            (None if s.x is None else s.x - both, None if s.h is None else s.h - both)
            for s in slots
        ),
        bool(traced(definition).functions),
        mixes_batch(definition),
    )


@cache
def torch_code(definition: Cell) -> dict[str, Any]:
    """The functions of a cell in PyTorch, by name: see `lstm_kernels.cells.code.emit`."""
    return compiled(definition, TORCH, {"torch": torch})


def _in_both(definition: Cell) -> int:
    count = 0
    for slot in definition.slots:
        if not slot.x == slot.h == count:
            break
        count += 1
    return count


def input_product(code: StepCode, x: Tensor, weights: Weights) -> Tensor:
    """Return x W_ih^T + b_ih, for all steps or one, [.., G*H]; bare gates without b_ih."""
    return linear(x, weights.w_ih, bias_of_product(code, weights.b_ih, code.x_blocks))


def bias_of_product(code: StepCode, bias: Tensor | None, blocks: int) -> Tensor | None:
    """A bias of this many blocks, as it is added to the product: 0 for bare gates."""
    if bias is None or not code.bare:
        return bias
    rows = len(bias) // blocks * code.bare
    return None if rows == len(bias) else pad(bias[rows:], (rows, 0))


def next_state(
    code: StepCode,
    from_x: Tensor,
    h: Tensor,
    c: Tensor | None,
    weights: Weights,
    alive: Tensor | None = None,
) -> State:
    """The state after a step: one product with W_hh, then the rest.

    Args:
        from_x: [B, G*H], of `input_product`.
        h: [B, S], the state before; c: [B, K*H], a unit's own states side by side, or None.
        alive: [B, 1], True where a sequence still runs, or None if all do.
        weights: with several heads as `by_head` returns them.
    Returns:
        h [B, S] and c [B, K*H] or None.
    """
    w_hh, b_hh = weights.w_hh, bias_of_product(code, weights.b_hh, code.h_blocks)
    if code.again:
        rows = w_hh.shape[0] - len(code.again) * w_hh.shape[1]
        w_hh, b_hh = w_hh[:rows], None if b_hh is None else b_hh[:rows]
    from_h = product(h, w_hh, b_hh)
    p = _summed(code, from_x, from_h) if code.others else (from_x + from_h).chunk(code.both, -1)
    return activate(code, p, h, c, weights, alive)


def by_head(weights: tuple[Weights, ...], heads: int) -> tuple[Weights, ...]:
    """The weights in the form for a loop: with several heads each w_hh is [N, G*H/N, H/N].

    Made before the loop: at every step it would copy the weights.
    """
    if heads == 1:
        return weights
    return tuple(one._replace(w_hh=_by_head(one.w_hh, heads)) for one in weights)


def _by_head(w_hh: Tensor, heads: int) -> Tensor:
    met = w_hh.shape[1]
    of_heads: Tensor = w_hh.unflatten(0, (-1, heads, met)).transpose(0, 1)
    return of_heads.flatten(1, 2)


def product(h: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """The part of some gates from h: [B, G*H] from h [B, S] and rows of W_hh, or `by_head` rows."""
    if w.dim() == 2:
        return linear(h, w, b)
    heads, _, met = w.shape
    of_heads = torch.bmm(h.unflatten(1, (heads, met)).transpose(0, 1), w.transpose(1, 2))
    from_h: Tensor = of_heads.unflatten(2, (-1, met)).permute(1, 2, 0, 3).flatten(1)
    return from_h if b is None else from_h + b


def add_gates(
    code: StepCode, from_x: Sequence[Tensor], from_h: Sequence[Tensor]
) -> Sequence[Tensor]:
    """The arguments of `activate`, from the products of each gate, each [B, H]."""
    alike = [from_x[at] + from_h[at] for at in range(code.both)]
    return [*alike, *_others(code, from_x[code.both :], from_h[code.both :])]


def activate(
    code: StepCode,
    p: Sequence[Tensor],
    h: Tensor,
    c: Tensor | None,
    weights: Weights,
    alive: Tensor | None = None,
) -> State:
    """The next state from a step's pre-activations; arguments as of `next_state`.

    Args:
        p: [B, H] each, in the order of `Cell.slots`, without the biases of bare gates.
    """
    if code.bare:
        p = [*p, *_biases(code, h, weights)]
    if c is None:
        before: tuple[Tensor, ...] = (h,)
    elif code.own_states == 1:
        before = (h, c)
    else:
        before = (h, *c.chunk(code.own_states, -1))
    units = () if weights.per_unit is None else weights.per_unit.chunk(code.units)
    functions = (_functions(code, h, weights, alive),) if code.calls else ()
    (h, *own), _ = code.function(p, before, units, *functions)
    if c is not None:
        c = own[0] if len(own) == 1 else torch.cat(own, -1)
    return (h if weights.w_hr is None else linear(h, weights.w_hr)), c


def _summed(code: StepCode, from_x: Tensor, from_h: Tensor) -> Sequence[Tensor]:
    """Pre-activations: those in both products by one addition, then the others."""
    H, both = from_x.shape[-1] // code.x_blocks, code.both
    if not both:
        return _others(code, from_x.split(H, -1), from_h.split(H, -1))
    x, *of_x = from_x.split([both * H] + [H] * (code.x_blocks - both), -1)
    h, *of_h = from_h.split([both * H] + [H] * (code.h_blocks - len(code.again) - both), -1)
    return [*(x + h).chunk(both, -1), *_others(code, of_x, of_h)]


def _others(code: StepCode, of_x: Sequence[Tensor], of_h: Sequence[Tensor]) -> list[Tensor]:
    """The pre-activations that are not in both products, from the other blocks."""
    return [
        (of_x[x] if h is None else of_x[x] + of_h[h]) if x is not None else of_h[h or 0]
        for x, h in code.others
    ]


def _biases(code: StepCode, h: Tensor, weights: Weights) -> Sequence[Tensor]:
    """The biases of bare gates, [B, H] each; 0 if there are none."""
    rows = code.bare * h.shape[-1]
    if weights.b_ih is None or weights.b_hh is None:
        biases = h.new_zeros(rows)
    else:
        biases = weights.b_ih[:rows] + weights.b_hh[:rows]
    return biases.expand(len(h), -1).chunk(code.bare, -1)


def _functions(
    code: StepCode, h: Tensor, weights: Weights, alive: Tensor | None
) -> dict[str, Callable[..., Any]]:
    """The functions that a step may call, by name: see `lstm_kernels.cells.code.emit`."""
    found: dict[str, Callable[..., Any]] = {
        "layer_norm": several(over_units, h),
        "batch_norm": several(lambda values: code.batch_norm(values, alive), h),
    }
    if code.again:
        H, count = weights.w_hh.shape[1], len(code.again)
        blocks = weights.w_hh.split(H)[-count:]
        biases = [None] * count if weights.b_hh is None else weights.b_hh.split(H)[-count:]
        for gate, w, b in zip(code.again, blocks, biases, strict=True):
            found[gate] = partial(linear, weight=w, bias=b)
    return found
