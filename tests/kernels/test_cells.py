"""Every cell on every backend that runs any, against the oracle; and a cell of one's own."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from any_cells import of_any_cell, variants
from by_oracle import check
from hypothesis import assume, given, note, settings
from in_a_fork import in_a_fork
from random_cells import random_layers
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.cells import (
    Cell,
    batch_norm,
    cell,
    exp,
    layer_norm,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    where,
)
from lstm_kernels.cells.code.emit import TORCH, source_of
from lstm_kernels.cells.code.trace import beyond_a_unit, mixes_batch

SHAPES = {
    "two ways": {"bidirectional": True, "num_layers": 2},
    "ragged": {"bidirectional": True, "lengths": "uniform:1:6"},
    "no bias": {"bias": False, "batch": 1, "hidden_size": 9},
}
# Random cells a run on a backend, in shares, each for a worker of its own: numba_cpu compiles five
# seconds for a cell, and torch.compile longer, which has fewer.
CELLS_A_RUN, COMPILED_CELLS = 50, 6
SHARES = {"numba_cpu": 5, "compiled": 2}


@cell(gates="b a", states="h c d e", per_unit="u", apart="b", positive="c")
def invented(p, h, c, d, e, u):
    """Of every kind something: each operation, a gate in parts that stands first, a quotient.

    Of its states the backward has no use for d, and e is the parameter's alone, one for all rows.
    """
    keep = sigmoid(p.a + u * h)
    after = tanh(p.b_h * keep / c) + minimum(u * e, log(2 + relu(p.a))) * h
    c = maximum(keep * c, 0.1) + exp(tanh(p.b_x))
    return after, c, where(p.a < 0.1, d, 1 - p.b_h), tanh(u)


# What compiles for a cell, or is interpreted, runs the variants in the slow tier. The cell of this
# page's own has every kind of thing a cell may have, and is run on all always.
EAGER = ("naive", "per_gate", "hoisted")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("on", "of"), variants(fast=EAGER))
def test_a_variant_is_the_oracles(on, of, shape, make_layer, assert_same):
    # Of two sequences a normalised value is nearly 1 or -1 whatever they are, and what is left of
    # a gradient is the difference of two that nearly cancel: float32 holds it to 1e-4.
    dtype = "float64" if mixes_batch(lk.CELLS[of]) else "float32"
    check(on, of, SHAPES[shape] | {"dtype": dtype}, make_layer, assert_same)


@pytest.mark.parametrize("on", [*(b for b in of_any_cell() if registry.get(b).any_step)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cell_of_ones_own_may_normalise(on, shape, make_layer, assert_same, monkeypatch):
    """Some gates bare, one not, one apart, one that meets W_hh again; and both norms."""

    @cell(gates="a b n r m", states="h c", per_unit="u v", bare="a b", apart="n", again="m")
    def normalising(p, h, c, u, v):
        x, y = layer_norm(p.a_x, p.b_x)
        of_h, of_c, of_u = batch_norm(p.a_h + p.b_h, c, v * h)
        c = sigmoid(p.r) * of_c + tanh(x * u + of_h + p.a_b)
        h = tanh(p.n_x + y * p.n_h + p.b_b) + p.m(layer_norm(c + v))
        return h + of_u, c

    monkeypatch.setitem(lk.CELLS, "normalising", normalising)
    check(on, "normalising", SHAPES[shape] | {"dtype": "float64"}, make_layer, assert_same)


def test_a_gate_may_be_named_as_a_part_of_a_bare_one(make_layer, assert_same, monkeypatch):
    @cell(gates="f f_out", states="h", bare="f")
    def parts(p, h):
        return tanh(p.f_x + p.f_h * sigmoid(p.f_out) + p.f_b)

    monkeypatch.setitem(lk.CELLS, "parts", parts)
    check("naive", "parts", {"dtype": "float64"}, make_layer, assert_same)


@pytest.mark.parametrize("on", of_any_cell())
def test_a_cell_of_ones_own_is_the_oracles(on, make_layer, assert_same, monkeypatch):
    monkeypatch.setitem(lk.CELLS, "invented", invented)
    # They compile for every shape, one of them for seconds.
    for shape in ["ragged"] if on in ("compiled", "jax") else SHAPES:
        fields = SHAPES[shape] | {"dtype": "float32"}
        check(on, "invented", fields, make_layer, assert_same)


def shares() -> list[tuple[str, int]]:
    return [(on, share) for on in of_any_cell() for share in range(SHARES.get(on, 1))]


@pytest.mark.slow
@pytest.mark.parametrize(("on", "share"), shares())
def test_random_cells_are_the_oracles(
    on, share, make_layer, assert_same, skip_where_refused, monkeypatch
):
    skip_where_refused(on, lk.Problem("lstm", 2, 2, 2, 2))
    of_a_run = COMPILED_CELLS if on in ("compiled", "jax") else CELLS_A_RUN

    @settings(max_examples=of_a_run // SHARES.get(on, 1))
    @given(random_layers())
    def are_the_oracles(layer: tuple[Cell, dict[str, Any]]) -> None:
        drawn, fields = layer
        note(source_of(drawn, TORCH))
        torch.manual_seed(0)
        with patch.dict(lk.CELLS, {drawn.name: drawn}):
            # One of more pre-activations than a backend has room for is drawn anew.
            assume(not registry.unsupported(on, lk.Problem(drawn.name, **fields), "cpu"))
            check(on, drawn.name, fields, make_layer, assert_same)

    if on == "numba_cpu":
        in_a_fork(lambda: without_optimising(are_the_oracles, monkeypatch))
    else:
        are_the_oracles()


def without_optimising(function: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a function with Numba compiling in half the time, and keeping nothing on disk.

    In a process of its own: others would go on with what was not optimised.
    """
    import numba

    made = numba.cfunc
    monkeypatch.setattr(numba, "cfunc", lambda *args, cache, **others: made(*args, **others))
    monkeypatch.setenv("NUMBA_OPT", "0")
    numba.config.reload_config()
    function()


@pytest.mark.parametrize("of", ["lstm_peephole", "lstm_layernorm", "lstm_batchnorm"])
@pytest.mark.parametrize("on", ["aten", "cudnn"])
def test_a_backend_is_not_asked_for_a_cell_that_it_does_not_know(on, of):
    reason = registry.unsupported(on, lk.Problem(of, 2, 1, 3, 4), "cpu")
    assert reason == f"it has PyTorch's cells (lstm, gru, rnn_tanh, rnn_relu), and this is {of}"


BEYOND = {
    "gru_reset_before": "multiplies by W_hh again",
    "lstm_layernorm": "normalises over all units",
    "lstm_batchnorm": "normalises over the batch",
}
# Backends whose kernels normalise, and the cells that they therefore run.
NORMED = {"numba_cpu": ("lstm_layernorm", "lstm_batchnorm")}


@pytest.mark.parametrize("of", BEYOND)
@pytest.mark.parametrize("on", ["pointwise", "triton", "numba_cpu", "numba_cuda", "jax"])
def test_a_backend_of_pointwise_cells_says_so(on, of):
    if of in NORMED.get(on, ()):
        assert registry.unknown_kind(on, lk.Problem(of, 2, 1, 3, 4)) is None
        return
    problem = lk.Problem(of, 2, 1, 3, 4)
    expected = f"it runs cells that work unit by unit after the products, and {of} {BEYOND[of]}"
    assert registry.unsupported(on, problem, "cpu") == expected
    if not registry.missing(on):
        with pytest.raises(lk.Unsupported, match=f"{of} {BEYOND[of]}"):
            lk.Recurrent(of, 3, 4, backend=on)(torch.zeros(2, 1, 3))


def test_every_other_backend_runs_every_cell():
    able = {b.name for b in registry.BUILT_IN if b.any_step}
    assert able == {"reference", "per_gate", "naive", "hoisted", "compiled", "graphed"}
    for name in able:
        for of in lk.CELLS:
            assert registry.unknown_kind(name, lk.Problem(of, 2, 1, 3, 4)) is None
    assert {of for of, each in lk.CELLS.items() if beyond_a_unit(each)} == set(BEYOND)


def test_a_cell_of_ones_own_may_meet_its_weights_again(make_layer, assert_same, monkeypatch):
    @cell(gates="z a n", states="h c", again="a n")
    def twice(p, h, c):
        first = tanh(p.a(sigmoid(p.z) * h))
        return first + p.n(first * c), c * sigmoid(p.z)

    monkeypatch.setitem(lk.CELLS, "twice", twice)
    for on in ("naive", "per_gate"):
        check(on, "twice", SHAPES["two ways"] | {"dtype": "float32"}, make_layer, assert_same)


def test_a_backend_of_a_stranger_is_not_asked_either(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_plugins", {})
    file = tmp_path / "theirs.py"
    file.write_text(
        "from lstm_kernels import Backend\n"
        "BACKENDS = [Backend('theirs', __name__, 'takes all')]\n"
        "def unsupported(problem, device): return None\n"
        "def layer(): raise NotImplementedError\n"
    )
    registry.add_plugin(file)
    assert registry.unsupported("theirs", lk.Problem("lstm", 2, 1, 3, 4), "cpu") is None
    assert "slstm" in registry.unsupported("theirs", lk.Problem("slstm", 2, 1, 3, 4), "cpu")


@pytest.mark.parametrize("of", lk.CELLS)
def test_the_module_is_the_functional_form(of):
    definition = lk.CELLS[of]
    module = lk.Recurrent(of, 3, 5, backend="naive")
    x = torch.randn(4, 2, 3)
    states = [torch.rand(1, 2, 5) + 0.5 for _ in definition.states]
    y, last = module(x, tuple(states))
    last = last if isinstance(last, tuple) else (last,)
    weights = dict(module.named_parameters())
    found = lk.recurrent(
        of,
        x,
        [state[0] for state in states],
        *(weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        per_unit=[weights[f"{name}_l0"] for name in definition.per_unit],
        backend="naive",
    )
    assert torch.equal(found[0], y)
    assert len(last) == len(found) - 1 == len(definition.states)
    assert all(torch.equal(a, b[0]) for a, b in zip(found[1:], last, strict=True))
    assert module.chosen_backend == "naive"


@pytest.mark.parametrize(("of", "theirs"), [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)])
def test_the_module_is_torchs_where_torch_has_the_cell(of, theirs):
    settings = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    module, plain = lk.Recurrent(of, 3, 5, **settings), theirs(3, 5, **settings)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(4, 6, 3)
    lengths = torch.tensor([6, 2, 4, 1])
    batch = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    for each in (x, x[0], batch):
        y, last = module(each)
        expected, expected_last = plain(each)
        if each is batch:
            y, _ = pad_packed_sequence(y)
            expected, _ = pad_packed_sequence(expected)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(last, expected_last)


def test_a_module_of_ones_own_cell_trains(monkeypatch):
    @cell(gates="f n", states="h", apart="n")
    def minimal_of_this_test(p, h):
        f = sigmoid(p.f)
        return h + f * (tanh(p.n_x + f * p.n_h) - h)

    # Gone again after this test.
    monkeypatch.setitem(lk.CELLS, "minimal_of_this_test", minimal_of_this_test)
    module = lk.Recurrent(minimal_of_this_test, 3, 8, backend="hoisted")
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    x = torch.randn(5, 4, 3)
    losses = []
    for _ in range(30):
        y, _ = module(x)
        loss = (y.mean(-1) - 0.5).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lsmt", 3, 5), "unknown cell 'lsmt'"),
        (("lstm", 0, 5), "input_size=0"),
        (("lstm", 3, -5), "hidden_size=-5"),
    ],
)
def test_a_module_refuses_what_is_not_there(arguments, message):
    with pytest.raises(ValueError, match=message):
        lk.Recurrent(*arguments)


def test_where_there_is_no_sequence_states_are_as_they_were_given():
    module = lk.Recurrent("slstm", 3, 5, bidirectional=True, backend="naive")
    y, last = module(torch.randn(4, 0, 3))
    assert y.shape == (4, 0, 10)
    assert [state.shape for state in last] == [(2, 0, 5)] * 4


def test_states_that_do_not_fit_are_named():
    module = lk.Recurrent("slstm", 3, 5, backend="naive")
    x, one = torch.randn(4, 2, 3), torch.zeros(1, 2, 5)
    with pytest.raises(ValueError, match="hx holds 2 states; slstm has 4: h, c, n, m"):
        module(x, (one, one))
    with pytest.raises(ValueError, match=r"n has shape \(1, 2, 4\); expected \(1, 2, 5\)"):
        module(x, (one, one, one[..., :4], one))
    with pytest.raises(ValueError, match="the input has 4 features; expected 3"):
        module(torch.randn(4, 2, 4))
    with pytest.raises(ValueError, match=r"per_unit holds 0 tensors; indrnn has u"):
        lk.recurrent("indrnn", x, [one[0]], torch.zeros(5, 3), torch.zeros(0, 5))


def test_two_cells_of_one_name_are_refused():
    @cell(gates="n", states="h")
    def lstm(p, h):
        return p.n

    with pytest.raises(ValueError, match="another cell of that name"):
        lk.Recurrent(lstm, 3, 5)
