"""The norm of dL_T/dh_t, against loops written by hand and against runs that begin at step t."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from lstm_harness.worker.gradients import norms_back
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.passes import Malformed
from lstm_kernels import CELLS, Problem, cells, registry
from lstm_kernels.stack import run

SEED = 3
CLOSE = {"rel": 1e-9}
ON_CPU = [
    each.name
    for each in registry.BUILT_IN
    if "cpu" in each.devices and "backward" in each.passes and not registry.missing(each.name)
]


def problem(cell="lstm", T=7, **more):
    return Problem(cell, T, 3, 4, 5, **{"dtype": "float64", **more})


def norms(of, backend="naive", seed=SEED):
    return norms_back(registry.load(backend), of, seed, "cpu")


def back_by_hand_rnn(x, h, _, w, d_h):
    """dL/dh_t at t = T ... 0 of h' = tanh(W x + U h), by the chain rule alone."""
    after = []
    for x_t in x:
        h = (x_t @ w.w_ih.T + w.b_ih + h @ w.w_hh.T + w.b_hh).tanh()
        after.append(h)
    found = [d_h]
    for h in reversed(after):
        found.append((found[-1] * (1 - h * h)) @ w.w_hh)
    return found


def back_by_hand_lstm(x, h, c, w, d_h):
    steps = []
    for x_t in x:
        gates = x_t @ w.w_ih.T + w.b_ih + h @ w.w_hh.T + w.b_hh
        i, f, g, o = gates.chunk(4, 1)
        i, f, g, o, before = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid(), c
        c = f * c + i * g
        h = o * c.tanh()
        steps.append((i, f, g, o, before, c))
    found, d_c = [d_h], torch.zeros_like(d_h)
    for i, f, g, o, before, c in reversed(steps):
        d_c = d_c + found[-1] * o * (1 - c.tanh() ** 2)
        d_i, d_f, d_g = d_c * g * i * (1 - i), d_c * before * f * (1 - f), d_c * i * (1 - g * g)
        d_o = found[-1] * c.tanh() * o * (1 - o)
        d_c = d_c * f
        found.append(torch.cat([d_i, d_f, d_g, d_o], 1) @ w.w_hh)
    return found


def back_by_hand_gru(x, h, _, w, d_h):
    steps = []
    for x_t in x:
        from_x, from_h = (x_t @ w.w_ih.T + w.b_ih), (h @ w.w_hh.T + w.b_hh)
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, 1), from_h.chunk(3, 1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        n = (n_x + r * n_h).tanh()
        steps.append((r, z, n, n_h, h))
        h = (1 - z) * n + z * h
    found = [d_h]
    for r, z, n, n_h, h in reversed(steps):
        d_n = found[-1] * (1 - z) * (1 - n * n)
        d_z = found[-1] * (h - n) * z * (1 - z)
        d_r = d_n * n_h * r * (1 - r)
        found.append(found[-1] * z + torch.cat([d_r, d_z, d_n * r], 1) @ w.w_hh)
    return found


BY_HAND = {"rnn_tanh": back_by_hand_rnn, "lstm": back_by_hand_lstm, "gru": back_by_hand_gru}


@pytest.mark.parametrize("cell", BY_HAND)
def test_norms_are_those_of_a_loop_written_by_hand(cell):
    of = problem(cell, T=30)
    drawn = make_inputs(of, SEED, 0, "cpu")
    c = None if drawn.c0 is None else drawn.c0[0]
    found = BY_HAND[cell](drawn.x, drawn.h0[0], c, drawn.weights[0], drawn.d_h_n[0])
    assert norms(of) == pytest.approx([float(d_h.norm()) for d_h in found], **CLOSE)


def norm_of_the_rest(of, t):
    """That of the gradient by the initial state of a run that begins at step t, with c_t fixed."""
    drawn, oracle = make_inputs(of, SEED, 0, "cpu"), registry.load("reference")
    h, c = drawn.h0, drawn.c0
    if t:
        first = replace(of, seq_len=t)
        _, h, c = run(oracle, drawn.x[:t], h, c, drawn.weights, problem=first)
    if t == of.seq_len:
        return float(drawn.d_h_n.norm())
    h.requires_grad_()
    rest = replace(of, seq_len=of.seq_len - t)
    _, h_n, _ = run(oracle, drawn.x[t:], h, c, drawn.weights, problem=rest)
    (d_h,) = torch.autograd.grad(h_n, h, drawn.d_h_n)
    return float(d_h.norm())


@pytest.mark.parametrize("cell", [*CELLS, "projected"])
def test_norms_are_those_of_the_rest_of_the_sequence_for_every_cell(cell):
    of = problem("lstm", proj_size=2) if cell == "projected" else problem(cell)
    expected = [norm_of_the_rest(of, t) for t in reversed(range(of.seq_len + 1))]
    assert norms(of) == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_backend_says_the_same(backend, dtype):
    of = problem(dtype=dtype)
    right = norms(of, "reference")
    bound = 1e-9 if dtype == "float64" else 1e-4
    assert norms(of, backend) == pytest.approx(right, rel=bound)
    # What it is held against tells it from other seeds, and from a step less.
    assert norms(of, seed=SEED + 1) != pytest.approx(right, rel=0.01)
    assert right[1:] != pytest.approx(right[:-1], rel=0.01)


def added(step, name, **more):
    """A cell of one's own, known for this test."""
    step.__name__ = name
    made = cells.cell(gates="n", states="h", **more)(step)
    cells.add_cells([made], "this test")
    return name


def test_a_cell_that_keeps_its_state_keeps_the_gradient():
    of = problem(added(lambda p, h: h + 1e-6 * cells.tanh(p.n), "keeps"), T=50)
    found = norms(of)
    assert found == pytest.approx([found[0]] * 51, rel=1e-3)


def test_a_saturated_cell_loses_it_at_once():
    of = problem(added(lambda p, h: cells.tanh(p.n + 8), "saturated"), T=5)
    found = norms(of)
    assert all(later < 1e-3 * earlier for earlier, later in pairwise(found))
    assert found[-1] > 0


def test_a_state_that_nothing_hangs_on_has_no_gradient():
    of = problem(added(lambda p, h: cells.tanh(p.n), "forgets", from_x="n"), T=3)
    found = norms(of)
    assert found[0] > 0
    assert found[1:] == [0, 0, 0]


def test_norms_too_small_to_be_squared_are_told():
    of = problem(added(lambda p, h: 1e-40 * h, "shrinks"), T=6)
    found = norms(of)
    assert found == pytest.approx([found[0] * 10.0 ** (-40 * step) for step in range(7)], **CLOSE)


def test_norms_that_are_not_finite_are_told_as_they_are():
    of = problem(added(lambda p, h: 1e80 * h, "grows"), T=5)
    found = norms(of)
    assert found[3] == pytest.approx(found[0] * 1e240, **CLOSE)
    assert not math.isfinite(found[4])


class Detaches:
    """Its last state depends on no graph."""

    @staticmethod
    def layer(*given, **named):
        y, h, c = registry.load("naive").layer(*given, **named)
        return y, h.detach(), c


def test_a_backend_whose_state_hangs_on_no_graph_is_refused():
    with pytest.raises(Malformed, match="h_n depends on None; expected a graph"):
        norms_back(Detaches, problem(), SEED, "cpu")
