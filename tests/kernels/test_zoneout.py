"""Zoneout and recurrent dropout: on every backend of any cell, as a loop with the same masks."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import linear
from torch.nn.utils.rnn import pack_padded_sequence

import lstm_kernels as lk
from lstm_kernels import any_cell, registry
from lstm_kernels.cells import cell, sigmoid, tanh
from lstm_kernels.zoneout import zoned

T, B, I, H = 7, 3, 4, 5  # noqa: E741 - the field's name of the input's size
ANY = [b.name for b in registry.registered().values() if b.any_cell and b.raced]


def skip_where_refused(on: str) -> None:
    if registry.missing(on):
        pytest.skip(f"{on} needs {registry.missing(on)}")
    problem = lk.Problem("lstm", T, B, I, H, bidirectional=True)
    zoned_lstm = zoned(lk.CELLS["lstm"]).name
    reason = registry.unsupported(on, replace(problem, cell=zoned_lstm), "cpu")
    if reason:
        pytest.skip(reason)


def looped(module: lk.Recurrent, x: torch.Tensor, kept: torch.Tensor) -> list[torch.Tensor]:
    """An LSTM of one layer in both directions, written out; kept [T, B, D*2*H]."""
    named = dict(module.named_parameters())
    ys, ends = [], []
    for direction, suffix in enumerate(("_l0", "_l0_reverse")):
        w = [named[n + suffix] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        h = c = x.new_zeros(B, H)
        y = {}
        for t in reversed(range(T)) if direction else range(T):
            keep_h, keep_c = kept[t, :, direction * 2 * H :].split(H, 1)[:2]
            i, f, g, o = (linear(x[t], w[0], w[2]) + linear(h, w[1], w[3])).chunk(4, 1)
            new = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = keep_h * h + (1 - keep_h) * o.sigmoid() * new.tanh()
            c = keep_c * c + (1 - keep_c) * new
            y[t] = h
        ys.append(torch.stack([y[t] for t in range(T)]))
        ends.append((h, c))
    h_n, c_n = (torch.stack(each) for each in zip(*ends, strict=True))
    return [torch.cat(ys, -1), h_n, c_n]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "on",
    # They compile, one for seconds, and zoneout is no step of its own: its cell is another.
    [pytest.param(on, marks=pytest.mark.slow) if on in ("compiled", "jax") else on for on in ANY],
)
def test_zoneout_is_a_loop_with_the_same_masks(on, training, monkeypatch):
    skip_where_refused(on)
    seen = []
    make = any_cell.masks
    monkeypatch.setattr(any_cell, "masks", lambda *a, **k: seen.append(make(*a, **k)) or seen[-1])
    module = lk.Recurrent("lstm", I, H, bidirectional=True, zoneout=(0.3, 0.6), backend=on)
    module.train(training)
    x = torch.randn(T, B, I, requires_grad=True)
    y, (h, c) = module(x)
    (kept,) = seen
    if training:
        assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert kept.view(T, B, 2, 2, H).mean((0, 1, 2, 4)).tolist() == pytest.approx(
        [0.3, 0.6], abs=0.15 if training else 1e-6
    )
    expected = looped(module, x, kept)
    for found, wanted in zip((y, h, c), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    inputs = [x, *module.parameters()]
    starts = [torch.linspace(-1, 1, t.numel()).view_as(t) for t in expected]
    got = torch.autograd.grad((y, h, c), inputs, starts)
    for found, wanted in zip(got, torch.autograd.grad(expected, inputs, starts), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_each_layer_draws_its_own():
    module = lk.Recurrent("gru", I, H, num_layers=2, zoneout=0.5, backend="naive")
    x = torch.randn(T, B, I)
    first, second = module(x)[0], module(x)[0]
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


def test_zoneout_goes_with_packed_input():
    module = lk.Recurrent("gru", I, H, zoneout=0.5, backend="naive").eval()
    x, lengths = torch.randn(T, B, I), torch.tensor([T, 2, 5])
    _, h = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
    for b, length in enumerate(lengths):
        torch.testing.assert_close(h[:, b], module(x[:length, b])[1])


@pytest.mark.parametrize("of", ["lstm_layernorm", "lstm_batchnorm"])
def test_zoneout_goes_with_a_cell_that_normalises(of):
    module = lk.Recurrent(of, I, H, zoneout=(0.3, 0.4), backend="hoisted").eval()
    oracle = lk.Recurrent(of, I, H, zoneout=(0.3, 0.4), backend="reference").eval()
    oracle.load_state_dict(module.state_dict())
    packed = pack_padded_sequence(torch.randn(T, 3, I), torch.tensor([T, 5, 2]))
    (y, last), (expected, expected_last) = module(packed), oracle(packed)
    torch.testing.assert_close((y.data, last), (expected.data, expected_last))
    plain = lk.Recurrent(of, I, H, backend="hoisted")
    plain.load_state_dict(module.state_dict())
    assert not torch.allclose(plain(packed)[0].data, y.data)
    module.train()(packed)[0].data.sum().backward()
    assert module.gain_c_l0.grad.isfinite().all()


def test_a_cell_that_meets_its_weights_again_has_no_zoneout():
    with pytest.raises(ValueError, match="zoneout with cell 'gru_reset_before', which multiplies"):
        lk.Recurrent("gru_reset_before", I, H, zoneout=0.2)


def test_recurrent_weights_are_dropped_while_training():
    module = lk.Recurrent("rnn_tanh", I, H, recurrent_dropout=0.5, backend="naive")
    plain = lk.Recurrent("rnn_tanh", I, H, backend="naive")
    plain.load_state_dict(module.state_dict())
    x = torch.randn(T, B, I)
    torch.manual_seed(3)
    y, _ = module(x)
    torch.manual_seed(3)
    dropped = torch.nn.functional.dropout(plain.weight_hh_l0, 0.5)
    assert 0 < int((dropped == 0).sum()) < dropped.numel()
    plain.weight_hh_l0.data = dropped.detach()
    torch.testing.assert_close(y, plain(x)[0])
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(module.eval()(x)[0], plain(x)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoneout": 1.0}, r"zoneout=1.0: expected from 0 to below 1, one or 2 of them"),
        ({"zoneout": (0.1,)}, r"zoneout=\(0.1,\): .* one or 2"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout=-0.1"),
    ],
)
def test_what_is_no_probability_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        lk.Recurrent("lstm", I, H, **settings)


def test_pytorchs_own_refuse_it_by_name():
    module = lk.Recurrent("lstm", I, H, zoneout=0.1, backend="aten")
    with pytest.raises(lk.Unsupported, match=r"PyTorch's cells .* this is lstm_zoneout"):
        module(torch.randn(T, B, I))


def test_a_cell_whose_gate_has_the_name_of_one_of_zoneouts_is_refused():
    @cell(gates="keep n", states="h", apart="keep")
    def keeping(p, h):
        return tanh(p.n + p.keep_x) * sigmoid(p.keep_h)

    with pytest.raises(
        ValueError, match="zoneout with cell 'keeping', which already has a gate 'keep_h'"
    ):
        lk.Recurrent(keeping, 3, 4, zoneout=0.3)
