"""`BatchNormLSTM`: the cell while training, and by what was kept of each step after."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_kernels as lk
from lstm_kernels.batch_norm_lstm import CELL

T, B, I, H = 6, 4, 3, 5  # noqa: E741 - the field's name of the input's size
KEPT = ("running_mean", "running_var", "batches")


def made(**settings: Any) -> lk.BatchNormLSTM:
    """A module in float64, with gains and shifts away from where they start."""
    module = lk.BatchNormLSTM(I, H, **settings).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def stepwise(
    module: lk.BatchNormLSTM, x: Tensor, statistics: Any
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """A layer of one direction from the paper's equations; each step's h, and what was normalised.

    Args:
        statistics: the mean and variance by which a step normalises one of its three values.
    """
    w = dict(module.named_parameters())
    gain_x, gain_h = (torch.cat([w[f"gain_{of}{g}_l0"] for g in "ifgo"]) for of in "xh")
    h = c = x.new_zeros(x.shape[1], H)
    hs, values = [], []
    for t, x_t in enumerate(x):
        seen: list[Tensor] = []

        def norm(value: Tensor, t: int = t, seen: list[Tensor] = seen) -> Tensor:
            seen.append(value.detach())
            mean, variance = statistics(t, len(seen) - 1, value)
            return (value - mean) / (variance + 1e-5).sqrt()

        v = gain_x * norm(x_t @ w["weight_ih_l0"].T) + gain_h * norm(h @ w["weight_hh_l0"].T)
        i, f, g, o = (v + w["bias_ih_l0"] + w["bias_hh_l0"]).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (w["gain_c_l0"] * norm(c) + w["shift_c_l0"]).tanh()
        hs.append(h)
        values.append(seen)
    return hs, values


def of_the_batch(_: int, __: int, value: Tensor) -> tuple[Tensor, Tensor]:
    return value.mean(0), value.var(0, correction=0)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_training_takes_the_batchs_statistics_and_keeps_them(momentum):
    module = made(max_steps=4, momentum=momentum)
    kept = torch.zeros(4, 9 * H).double(), torch.ones(4, 9 * H).double()
    for batch in range(1, 4):
        x = torch.randn(T, B, I).double()
        hs, values = stepwise(module, x, of_the_batch)
        torch.testing.assert_close(module(x)[0], torch.stack(hs))
        part = 1 / batch if momentum is None else momentum
        for t in range(4):
            found = [of_the_batch(t, 0, value) for value in values[t]]
            for row, new in zip(kept, zip(*found, strict=True), strict=True):
                row[t] += part * (torch.cat(new) - row[t])
        torch.testing.assert_close((module.running_mean_l0, module.running_var_l0), kept)
        assert module.batches_l0.tolist() == [batch] * 4


@pytest.mark.parametrize(("trained", "max_steps"), [(T, 4), (2, 10), (T, 1)])
def test_evaluation_takes_what_was_kept_of_a_step_and_the_last_there_is_beyond(trained, max_steps):
    module = made(max_steps=max_steps)
    for _ in range(3):
        module(torch.randn(trained, B, I).double())
    module.eval()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    rows = min(trained, max_steps)

    def of_a_row(t: int, place: int, _: Tensor) -> tuple[Tensor, Tensor]:
        part = slice(*((0, 4 * H), (4 * H, 8 * H), (8 * H, 9 * H))[place])
        row = min(t, rows - 1)
        return module.running_mean_l0[row, part], module.running_var_l0[row, part]

    x = torch.randn(T, B, I).double()
    expected = torch.stack(stepwise(module, x, of_a_row)[0])
    torch.testing.assert_close(module(x)[0], expected)
    # A sequence's result is its own then.
    torch.testing.assert_close(module(x[:, 2:3])[0], expected[:, 2:3])
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, before[name])
    assert not torch.allclose(module.train()(x)[0], expected)


def test_nothing_kept_is_a_mean_of_0_and_a_variance_of_1():
    module = made().eval()
    x = torch.randn(T, B, I).double()
    ones = torch.zeros(()), torch.ones(())
    hs, _ = stepwise(module, x, lambda *_: ones)
    torch.testing.assert_close(module(x)[0], torch.stack(hs))


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
def test_training_is_the_cell_on_a_backend(settings, run_module, assert_same):
    module = made(**settings)
    cell = lk.Recurrent(CELL, I, H, backend="naive", **settings).double()
    cell.load_state_dict({n: p for n, p in module.state_dict().items() if n[:4] not in "runn batc"})
    rows = cell.num_layers * (2 if cell.bidirectional else 1)
    states = torch.randn(rows, B, H).double(), torch.randn(rows, B, H).double()
    x = torch.randn(T, B, I).double()
    for lengths in (None, torch.tensor([3, 6, 5, 5])):
        got = run_module(module, x, states, lengths)
        assert_same(got, run_module(cell, x, states, lengths), 1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing(training):
    module = made(bidirectional=True, num_layers=2, max_steps=5)
    module(torch.randn(T, B, I).double())
    module.train(training)
    lengths, x = torch.tensor([2, 6, 3, 3]), torch.randn(T, B, I).double()
    kept = []
    for filling in (0.0, torch.nan):
        for b, length in enumerate(lengths):
            x[length:, b] = filling
        one = lk.BatchNormLSTM(I, H, 2, bidirectional=True, max_steps=5).double().train(training)
        one.load_state_dict(module.state_dict())
        y, last = one(pack_padded_sequence(x, lengths, enforce_sorted=False))
        kept.append((pad_packed_sequence(y)[0], last, [*one.buffers()]))
    torch.testing.assert_close(*kept, rtol=0, atol=0)


def test_of_sequences_that_end_the_others_are_kept():
    module = made(max_steps=10)
    x, lengths = torch.randn(T, B, I).double(), torch.tensor([6, 4, 3, 3])
    module(pack_padded_sequence(x, lengths))
    # At the fifth and sixth step one sequence runs alone, which has no variance.
    assert module.batches_l0.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    value = x[3, :2] @ module.weight_ih_l0.T
    torch.testing.assert_close(module.running_mean_l0[3, : 4 * H], 0.1 * value.mean(0))
    of_two = 0.9 + 0.1 * value.var(0, correction=0)
    torch.testing.assert_close(module.running_var_l0[3, : 4 * H], of_two)


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}])
def test_off_it_is_torchs(settings, run_module, assert_same):
    module = lk.BatchNormLSTM(I, H, normalise=False, **settings)
    theirs = torch.nn.LSTM(I, H, **settings)
    theirs.load_state_dict(module.state_dict())
    rows = module.num_layers * (2 if module.bidirectional else 1)
    states = torch.randn(rows, B, H), torch.randn(rows, B, H)
    x = torch.randn(T, B, I)
    for lengths in (None, torch.tensor([3, 6, 5, 5])):
        got = run_module(module, x, states, lengths)
        assert_same(got, run_module(theirs, x, states, lengths), 1e-6)
    assert "normalise=False" in repr(module)


def test_what_was_kept_goes_through_the_state_dict():
    module = made(num_layers=2, bidirectional=True, max_steps=8)
    for _ in range(2):
        module(torch.randn(T, B, I).double())
    state = module.state_dict()
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert {f"{name}{suffix}" for name in KEPT for suffix in suffixes} < set(state)
    assert state["running_mean_l0"].shape == (8, 9 * H)
    other = made(num_layers=2, bidirectional=True, max_steps=8)
    other.load_state_dict(state)
    x = torch.randn(T, B, I).double()
    assert torch.equal(other.eval()(x)[0], module.eval()(x)[0])
    other.reset_running_stats()
    assert not other.batches_l0.any()
    assert not torch.allclose(other(x)[0], module(x)[0])


def test_layouts_are_one_module():
    module, first = made(), made(batch_first=True)
    first.load_state_dict(module.state_dict())
    x = torch.randn(T, B, I).double()
    y, (h, c) = module.eval()(x)
    again, last = first.eval()(x.transpose(0, 1))
    torch.testing.assert_close((again.transpose(0, 1), last), (y, (h, c)))
    one, last = module(x[:, 1])
    torch.testing.assert_close((one, last), (y[:, 1], (h[:, 1], c[:, 1])))


def test_under_autocast_statistics_stay_as_wide_as_they_are():
    module = lk.BatchNormLSTM(I, H)
    plain = lk.BatchNormLSTM(I, H)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(x)
    plain(x)
    assert y.dtype == torch.bfloat16
    assert module.running_mean_l0.dtype == torch.float32
    torch.testing.assert_close(module.running_mean_l0, plain.running_mean_l0, atol=2e-3, rtol=0)


def test_it_learns_and_keeps_what_it_learnt():
    """Whether the first number of a sequence is above 0, told at its end."""
    module, head = lk.BatchNormLSTM(1, 12, max_steps=8), torch.nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], 0.02)
    losses = []

    def loss_of(x: Tensor) -> Tensor:
        told = head(module(x)[0][-1]).squeeze(-1)
        return torch.nn.functional.binary_cross_entropy_with_logits(told, (x[0, :, 0] > 0).float())

    for _ in range(80):
        loss = loss_of(torch.randn(8, 32, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.6
    assert sum(losses[-5:]) / 5 < 0.35
    with torch.no_grad():
        # What is kept lags behind weights that change fast.
        for _ in range(30):
            module(torch.randn(8, 32, 1))
        module.eval()
        assert loss_of(torch.randn(8, 256, 1)).item() < 0.45


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "max_steps=0: expected a whole number from 1 on"),
        ({"max_steps": 2.5}, "max_steps=2.5: expected a whole number from 1 on"),
        ({"momentum": 1.5}, "momentum=1.5: expected from 0 to 1, or None"),
        ({"num_layers": 0}, "num_layers=0"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        lk.BatchNormLSTM(I, H, **settings)
