"""The oracle: every step in float64, written as in a textbook, never raced.

Source: the equations of the documentation of torch.nn.LSTM, GRU and RNN, and of the papers that
`lstm_kernels.cells` names. It shares no arithmetic with the other backends, so that it does not
repeat their mistakes; for a user's own cell it runs the definition, operation by operation, under
PyTorch's autograd. For any dtype of x, it computes in float64 and casts back at the end. A ragged
batch is run one sequence at a time, each at its own length; if sequences depend on each other, it
is run step by step with those that still run. Limits: speed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.cells.code.symbols import CHOICES, FUNCTIONS
from lstm_kernels.cells.code.trace import in_order, traced
from lstm_kernels.common.refusals import device_limit
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights

# The result of a product, by gate: [B, H] each.
Gates = tuple[Tensor, ...]


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
    elif problem.mixes_batch:
        y, h_n, c_n = _ragged_together(x64, h64, c64, weights64, problem.cell, lengths)
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


def _ragged_together(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    cell: str,
    lengths: Tensor,
) -> Outputs:
    """Step by step, all sequences that have the step; each has its own end and beginning."""
    T, B, _ = x.shape
    ends = lengths.tolist()
    ys, hs, cs = [], [], []
    for direction, w in enumerate(weights):
        h = list(h0[direction])
        c = [] if c0 is None else list(c0[direction])
        y = [[torch.zeros_like(h[0])] * B for _ in range(T)]
        for step in range(max(ends)):
            rows = [b for b in range(B) if step < ends[b]]
            at = {b: ends[b] - 1 - step if direction == 1 else step for b in rows}
            x_t, h_t = torch.stack([x[at[b], b] for b in rows]), torch.stack([h[b] for b in rows])
            c_t = torch.stack([c[b] for b in rows]) if c else None
            h_t, c_t = _step(cell, x_t, h_t, c_t, w)
            for row, b in enumerate(rows):
                h[b] = y[at[b]][b] = h_t[row]
                if c_t is not None:
                    c[b] = c_t[row]
        ys.append(torch.stack([torch.stack(row) for row in y]))
        hs.append(torch.stack(h))
        cs += [torch.stack(c)] if c else []
    return torch.cat(ys, dim=2), torch.stack(hs), torch.stack(cs) if cs else None


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
    if cell == "gru_reset_before":
        return _gru_reset_before(x, h, w), None
    if cell in _NORMALISED and c is not None:
        return _normalised_lstm(_NORMALISED[cell], x, h, c, w)
    if cell not in _STEPS:
        return _defined_step(cell, x, h, c, w)
    from_x = x @ w.w_ih.T  # [B, G*H]
    from_h = _from_h(h, w.w_hh)
    if w.b_ih is not None and w.b_hh is not None:
        from_x = from_x + w.b_ih
        from_h = from_h + w.b_hh
    H = h.shape[1] if w.w_hr is None else w.w_hr.shape[1]
    own = () if c is None else c.split(H, dim=1)
    units = () if w.per_unit is None else w.per_unit.split(H)
    h, *own = _STEPS[cell](from_x.split(H, dim=1), from_h.split(H, dim=1), h, *own, *units)
    return (h if w.w_hr is None else h @ w.w_hr.T), torch.cat(own, dim=1) if own else None


def _from_h(h: Tensor, w_hh: Tensor) -> Tensor:
    """[B, G*H]: each gate's part from h [B, S], or for each head from its own h."""
    met = w_hh.shape[1]
    if met == h.shape[1]:
        return h @ w_hh.T
    of_gates = []
    for gate in w_hh.split(h.shape[1]):
        parts = zip(h.split(met, dim=1), gate.split(met), strict=True)
        of_gates.append(torch.cat([h_n @ w_n.T for h_n, w_n in parts], dim=1))
    return torch.cat(of_gates, dim=1)


def _lstm(x: Gates, h: Gates, _: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    i = torch.sigmoid(x[0] + h[0])
    f = torch.sigmoid(x[1] + h[1])
    g = torch.tanh(x[2] + h[2])
    o = torch.sigmoid(x[3] + h[3])
    c = f * c + i * g
    return o * torch.tanh(c), c


def _gru(x: Gates, h: Gates, before: Tensor) -> tuple[Tensor, ...]:
    r = torch.sigmoid(x[0] + h[0])
    z = torch.sigmoid(x[1] + h[1])
    n = torch.tanh(x[2] + r * h[2])
    return ((1 - z) * n + z * before,)


def _rnn_tanh(x: Gates, h: Gates, _: Tensor) -> tuple[Tensor, ...]:
    return (torch.tanh(x[0] + h[0]),)


def _rnn_relu(x: Gates, h: Gates, _: Tensor) -> tuple[Tensor, ...]:
    return ((x[0] + h[0]).clamp(min=0),)


def _lstm_peephole(
    x: Gates, h: Gates, _: Tensor, c: Tensor, w_ci: Tensor, w_cf: Tensor, w_co: Tensor
) -> tuple[Tensor, ...]:
    i = torch.sigmoid(x[0] + h[0] + w_ci * c)
    f = torch.sigmoid(x[1] + h[1] + w_cf * c)
    g = torch.tanh(x[2] + h[2])
    c = f * c + i * g
    o = torch.sigmoid(x[3] + h[3] + w_co * c)
    return o * torch.tanh(c), c


def _lstm_cifg(x: Gates, h: Gates, _: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    f = torch.sigmoid(x[0] + h[0])
    g = torch.tanh(x[1] + h[1])
    o = torch.sigmoid(x[2] + h[2])
    c = f * c + (1 - f) * g
    return o * torch.tanh(c), c


def _lstm_grid(x: Gates, h: Gates, _: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    i = torch.sigmoid(x[0] + h[0])
    f = torch.sigmoid(x[1] + h[1])
    g = torch.tanh(x[2] + h[2])
    o = torch.sigmoid(x[3] + h[3])
    c = f * c + i * g
    return torch.tanh(o * c), c


def _indrnn(x: Gates, _: Gates, h: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    return ((x[0] + u * h).clamp(min=0),)


def _slstm(x: Gates, h: Gates, _: Tensor, c: Tensor, n: Tensor, m: Tensor) -> tuple[Tensor, ...]:
    log_i, log_f = x[0] + h[0], x[1] + h[1]
    z = torch.tanh(x[2] + h[2])
    o = torch.sigmoid(x[3] + h[3])
    following = torch.maximum(log_f + m, log_i)
    i = torch.exp(log_i - following)
    f = torch.exp(log_f + m - following)
    c = f * c + i * z
    n = f * n + i
    return o * c / n, c, n, following


def _ugrnn(x: Gates, h: Gates, before: Tensor) -> tuple[Tensor, ...]:
    g = torch.sigmoid(x[0] + h[0])
    n = torch.tanh(x[1] + h[1])
    return ((1 - g) * n + g * before,)


def _mgu(x: Gates, h: Gates, before: Tensor) -> tuple[Tensor, ...]:
    f = torch.sigmoid(x[0] + h[0])
    n = torch.tanh(x[1] + f * h[1])
    return ((1 - f) * before + f * n,)


def _gru_reset_before(x: Tensor, h: Tensor, w: Weights) -> Tensor:
    H = h.shape[1]
    w_i, w_h = w.w_ih.split(H), w.w_hh.split(H)
    nothing = (x.new_zeros(H),) * 3
    b_i = nothing if w.b_ih is None else w.b_ih.split(H)
    b_h = nothing if w.b_hh is None else w.b_hh.split(H)
    r = torch.sigmoid(x @ w_i[0].T + b_i[0] + h @ w_h[0].T + b_h[0])
    z = torch.sigmoid(x @ w_i[1].T + b_i[1] + h @ w_h[1].T + b_h[1])
    n = torch.tanh(x @ w_i[2].T + b_i[2] + (r * h) @ w_h[2].T + b_h[2])
    return (1 - z) * n + z * h


def _over_units(v: Tensor) -> Tensor:
    return (v - v.mean(1, keepdim=True)) / (v.var(1, keepdim=True, correction=0) + 1e-5).sqrt()


def _over_batch(v: Tensor) -> Tensor:
    return (v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt()


_NORMALISED = {"lstm_layernorm": _over_units, "lstm_batchnorm": _over_batch}


def _normalised_lstm(
    norm: Callable[[Tensor], Tensor], x: Tensor, h: Tensor, c: Tensor, w: Weights
) -> tuple[Tensor, Tensor]:
    H = h.shape[1]
    assert w.per_unit is not None
    gain_x, gain_h, gain_c, shift_c = w.per_unit.split([4 * H, 4 * H, H, H])
    v = norm(x @ w.w_ih.T) * gain_x + norm(_from_h(h, w.w_hh)) * gain_h
    if w.b_ih is not None and w.b_hh is not None:
        v = v + w.b_ih + w.b_hh
    i, f, g, o = v.split(H, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(norm(c) * gain_c + shift_c), c


# Takes the products by gate, h, then the other states and per-unit parameters; returns h and the
# others.
_STEPS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _rnn_tanh,
    "rnn_relu": _rnn_relu,
    "lstm_peephole": _lstm_peephole,
    "lstm_cifg": _lstm_cifg,
    "lstm_grid": _lstm_grid,
    "indrnn": _indrnn,
    "slstm": _slstm,
    "ugrnn": _ugrnn,
    "mgu": _mgu,
}


def _defined_step(
    cell: str, x: Tensor, h: Tensor, c: Tensor | None, w: Weights
) -> tuple[Tensor, Tensor | None]:
    """A user's own cell: its definition, one operation of PyTorch after another."""
    definition, step = CELLS[cell], traced(CELLS[cell])
    H = h.shape[1]
    own = () if c is None else c.split(H, dim=1)
    units = () if w.per_unit is None else w.per_unit.split(H)
    p = _preactivations(definition, x, h, w)
    values = dict(zip(step.inputs, (*p, h, *own, *units), strict=True))
    for node in in_order(step.after, values):
        if node.op == "constant":
            values[node] = torch.full_like(h, node.value)
        elif node.op == "product":
            at = definition.h_blocks - len(definition.again) + definition.again.index(node.name)
            values[node] = values[node.args[0]] @ w.w_hh.split(H)[at].T
            values[node] += 0 if w.b_hh is None else w.b_hh.split(H)[at]
        elif node.op == "part":
            of = torch.cat([values[each].expand_as(h) for each in node.args[0].args], dim=1)
            values[node] = _NORMS[node.args[0].op](of).split(H, dim=1)[int(node.value)]
        elif node not in values and node.op not in _NORMS:
            values[node] = _OPERATIONS[node.op](*(values[each] for each in node.args))
    # A state may be a parameter a unit, the same in every row.
    h, *own = (values[node].expand_as(h) for node in step.after)
    return h, torch.cat(own, dim=1) if own else None


def _preactivations(cell: Cell, x: Tensor, h: Tensor, w: Weights) -> list[Tensor]:
    """A definition's `p`, in the order of its slots."""
    H = h.shape[1]
    from_x, from_h = (x @ w.w_ih.T).split(H, dim=1), _from_h(h, w.w_hh).split(H, dim=1)
    b_ih = (x.new_zeros(len(w.w_ih)) if w.b_ih is None else w.b_ih).split(H)
    b_hh = (x.new_zeros(len(w.w_hh)) if w.b_hh is None else w.b_hh).split(H)
    found = []
    for name, of_x, of_h in cell.slots:
        gate, _, part = name.rpartition("_")
        if gate in cell.bare and name not in cell.gates:
            at = cell.gates.index(gate)
            bias = (b_ih[at] + b_hh[at]).expand_as(h)
            found.append({"x": from_x[at], "h": from_h[at], "b": bias}[part])
        else:
            parts = [] if of_x is None else [from_x[of_x] + b_ih[of_x]]
            parts += [] if of_h is None else [from_h[of_h] + b_hh[of_h]]
            found.append(sum(parts, torch.zeros_like(h)))
    return found


_NORMS = {"layer_norm": _over_units, "batch_norm": _over_batch}

_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "less": torch.lt,
    "less_equal": torch.le,
    **{name: getattr(torch, name) for name in (*FUNCTIONS, *CHOICES)},
}
