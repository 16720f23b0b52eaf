"""One layer, one direction, on a backend of choice: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`.

`recurrent` is the form for every other cell, also your own.
Under torch.autocast the arguments may differ in dtype; results are as those of the modules.
torch.compile traces a function if compiled code calls it, as it does a module.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lstm_kernels import registry
from lstm_kernels.autocast import under_autocast
from lstm_kernels.cells import CELLS, Cell, add_cells
from lstm_kernels.choose import AUTO, check_backend, choose, number_format, problem_of
from lstm_kernels.common import operators
from lstm_kernels.common.checks import check_tensors
from lstm_kernels.compiling import alone, has_operators, in_graph, traced_where_called
from lstm_kernels.problem import check_size
from lstm_kernels.registry import cell_named
from lstm_kernels.stack import Outputs, Unsupported, Weights, run


def lstm(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    *,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer over a sequence.

    Args:
        x: [T, B, I].
        h0, c0: [B, H], the state before step 0; not modified.
        w_ih: [4H, I], w_hh: [4H, H], gates i, f, g, o.
        b_ih, b_hh: [4H], both or neither.
    Returns:
        y [T, B, H], h_n and c_n [B, H].
    Raises:
        ValueError: a shape or dtype does not fit, or the backend is unknown.
        Unsupported: with the reason the backend gives.
    """
    y, h_n, c_n = _one_layer("lstm", x, h0, c0, Weights(w_ih, w_hh, b_ih, b_hh), backend)
    assert c_n is not None
    return y, h_n[0], c_n[0]


def gru(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    *,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """Run one GRU layer: as `lstm`, without c, gates r, z, n in w_ih [3H, I] and w_hh [3H, H]."""
    y, h_n, _ = _one_layer("gru", x, h0, None, Weights(w_ih, w_hh, b_ih, b_hh), backend)
    return y, h_n[0]


def rnn_tanh(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    *,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """Run one plain layer, h = tanh(...): as `lstm`, without c, w_ih [H, I] and w_hh [H, H]."""
    y, h_n, _ = _one_layer("rnn_tanh", x, h0, None, Weights(w_ih, w_hh, b_ih, b_hh), backend)
    return y, h_n[0]


def rnn_relu(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    *,
    backend: str = AUTO,
) -> tuple[Tensor, Tensor]:
    """Run one plain layer, h = relu(...): as `lstm`, without c, w_ih [H, I] and w_hh [H, H]."""
    y, h_n, _ = _one_layer("rnn_relu", x, h0, None, Weights(w_ih, w_hh, b_ih, b_hh), backend)
    return y, h_n[0]


def recurrent(
    cell: str | Cell,
    x: Tensor,
    states: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    per_unit: Sequence[Tensor] = (),
    *,
    heads: int = 1,
    backend: str = AUTO,
) -> tuple[Tensor, ...]:
    """Run one layer of any cell over a sequence.

    Args:
        cell: a name of `lk.CELLS`, or what `lstm_kernels.cells.cell` makes.
        x: [T, B, I].
        states: the cell's, in its order, [B, H] each: before step 0; not modified.
        w_ih: [G*H, I]; w_hh: [G*H, H/N], of the gates that meet h; biases [G*H], both or neither.
        per_unit: the cell's per-unit parameters, in its order, [H] each.
        heads: N: the gates of a unit see only the h of its own head, H/N units.
    Returns:
        y [T, B, H], then the states after the last step.
    Raises:
        ValueError: the cell or backend is unknown, or a number, shape or dtype does not fit.
        Unsupported: with the reason the backend gives.
    """
    check_size("heads", heads, minimum=1)
    if isinstance(cell, Cell):
        add_cells([cell], "recurrent")
        cell = cell.name
    definition = CELLS[cell_named(cell)]
    for what, given, names in (
        ("states", states, definition.states),
        ("per_unit", per_unit, definition.per_unit),
    ):
        if len(given) != len(names):
            expected = ", ".join(names) or "none"
            raise ValueError(f"{what} holds {len(given)} tensors; {cell} has {expected}")
    h0, *own = states
    weights = Weights(w_ih, w_hh, b_ih, b_hh, per_unit=torch.cat([*per_unit]) if per_unit else None)
    c0 = torch.cat(own, -1) if own else None
    y, h_n, c_n = _one_layer(cell, x, h0, c0, weights, backend, heads)
    return y, h_n[0], *(() if c_n is None else c_n[0].split(h0.shape[-1], -1))


def _one_layer(
    cell: str,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: Weights,
    backend: str,
    heads: int = 1,
) -> Outputs:
    if in_graph():
        device = weights.w_hh.device.type
        # Only some backends with operators have heads.
        if heads > 1 or not has_operators(backend, cell, 0, device, **number_format(weights.w_hh)):
            return alone("_one_layer")(cell, x, h0, c0, weights, backend, heads)  # type: ignore[no-any-return] # its
    else:
        check_backend(backend)
    layers = partial(_in_one_dtype, cell, heads, backend)
    return under_autocast(layers, x, h0, c0, (weights,), cell=cell)


def _in_one_dtype(
    cell: str,
    heads: int,
    backend: str,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    by_direction: tuple[Weights, ...],
) -> Outputs:
    (weights,) = by_direction
    _check(cell, heads, x, h0, c0, weights)
    if in_graph():
        if not has_operators(backend, cell, 0, x.device.type, **number_format(x)):
            raise Unsupported(f"backend {backend!r} does not compute in {x.dtype}")
        c0 = None if c0 is None else c0.unsqueeze(0)
        return operators.layer(backend, x, h0.unsqueeze(0), c0, by_direction, cell=cell)
    T, B, input_size = x.shape
    problem = problem_of(
        cell=cell,
        seq_len=T,
        batch=B,
        input_size=input_size,
        hidden_size=weights.w_hh.shape[1] * heads,
        bias=weights.b_ih is not None,
        heads=heads,
        **number_format(x),
    )
    choice = choose(backend, problem, x.device, (x, h0, c0, *weights))
    return run(
        choice.implementation,
        x.contiguous(),
        h0.unsqueeze(0),
        None if c0 is None else c0.unsqueeze(0),
        by_direction,
        problem=problem,
        look=registry.get(choice.name).copies,
    )


def _check(
    cell: str, heads: int, x: Tensor, h0: Tensor, c0: Tensor | None, weights: Weights
) -> None:
    if x.dim() != 3 or weights.w_hh.dim() != 2:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and w_hh {tuple(weights.w_hh.shape)}; "
            "expected [T, B, I] and [G*H, H/heads]"
        )
    if (weights.b_ih is None) != (weights.b_hh is None):
        raise ValueError("one of b_ih and b_hh is given without the other; give both or neither")
    _, B, input_size = x.shape
    met, definition = weights.w_hh.shape[1], CELLS[cell]
    H = met * heads
    rows, rows_h = definition.x_blocks * H, definition.h_blocks * H
    expected = {
        "h0": (h0, (B, H)),
        "c0": (c0, (B, definition.own_states * H)),
        "w_ih": (weights.w_ih, (rows, input_size)),
        "w_hh": (weights.w_hh, (rows_h, met)),
        "b_ih": (weights.b_ih, (rows,)),
        "b_hh": (weights.b_hh, (rows_h,)),
        "per_unit": (weights.per_unit, (len(definition.per_unit) * H,)),
    }
    check_tensors(expected, x)


traced_where_called(lstm, gru, rnn_tanh, rnn_relu, recurrent, _one_layer)
