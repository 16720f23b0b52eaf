"""Floating point operations of a layer's operators, for `FlopCounterMode`: from shapes alone.

Arguments are those of the operators (`common.operators`), with shapes instead of tensors.
"""

from collections.abc import Sequence
from typing import Any

from lstm_kernels.stack import Weights

Shape = Sequence[int]


def forward_flops(
    x: Shape, h0: Shape, c0: Shape | None, weights: Sequence[Shape], *_: Any, **__: Any
) -> int:
    """Floating point operations of a forward's products, from its arguments' shapes."""
    return 2 * x[0] * x[1] * sum(rows * columns for rows, columns in _matrices(weights))


def backward_flops(
    x: Shape, h0: Shape, c0: Shape | None, weights: Sequence[Shape], *rest: Any, **__: Any
) -> int:
    """The same of a backward: through W_hh at every step, and for each gradient that is needed.

    What was not saved is computed again by the products of one more forward.
    """
    *_, recompute, needed = rest
    directions = h0[0]
    need_x, need_weights = needed[0], needed[3:]
    fields = len(Weights._fields)
    elements = 0
    for direction in range(directions):
        (rows, inputs), (_, H) = _matrices(weights)[2 * direction : 2 * direction + 2]
        need_w_ih, need_w_hh = need_weights[fields * direction : fields * direction + 2]
        elements += rows * inputs * (need_x + need_w_ih) + rows * H * (1 + need_w_hh)
    again = forward_flops(x, h0, c0, weights) if recompute and rows > H else 0
    return int(2 * x[0] * x[1] * elements + again)


def _matrices(weights: Sequence[Shape]) -> list[Shape]:
    """The shapes of w_ih and w_hh of each direction."""
    return [shape for shape in weights if len(shape) == 2]
