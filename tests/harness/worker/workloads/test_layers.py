"""The recurrent layers of workloads, against loops written by hand."""

import pytest
import torch
from text_tasks import CELLS
from torch import nn

import lstm_kernels as lk
from lstm_harness.worker.workloads.layers import Layers, ends, keeping

STEPS, B, INPUTS, H = 7, 4, 3, 5
LENGTHS = torch.tensor([7, 1, 4, 6])


def run_of(cell="lstm", backend="naive", layers=1, **how):
    torch.manual_seed(1)
    return Layers(cell, backend, **how)(INPUTS, H, num_layers=layers).double()


def x_of(steps=STEPS):
    return torch.randn(steps, B, INPUTS, generator=torch.Generator().manual_seed(2)).double()


def gradients(run, y):
    # A weight a number, lest one step's part cancel another's.
    weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view_as(y)
    run.zero_grad()
    (y * weights).sum().backward()
    return [each.grad.clone() for each in run.parameters()]


def by_hand(run, x, steps):
    outputs, states = [], None
    for step, x_t in enumerate(x):
        if step and step % steps == 0:
            alone = isinstance(states, torch.Tensor)
            states = states.detach() if alone else tuple(each.detach() for each in states)
        y, states = run.layers(x_t[None], states)
        outputs.append(y)
    return torch.cat(outputs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 3, 7, 50])
def test_bptt_of_k_steps_is_detaching_every_k_steps(cell, steps):
    run, x = run_of(cell, layers=2, bptt=steps), x_of()
    y, _ = run(x)
    expected = by_hand(run, x, steps)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for found, real in zip(gradients(run, y), gradients(run, expected), strict=True):
        torch.testing.assert_close(found, real, rtol=1e-10, atol=1e-10)


def test_bptt_cuts_gradients_and_nothing_else():
    x = x_of()
    whole, cut = run_of(), run_of(bptt=3)
    y, y_cut = whole(x)[0], cut(x)[0]
    torch.testing.assert_close(y, y_cut, rtol=0, atol=1e-12)
    w_hh = [name for name, _ in whole.named_parameters()].index("layers.weight_hh_l0")
    apart = gradients(whole, y)[w_hh] - gradients(cut, y_cut)[w_hh]
    assert apart.abs().max() > 1e-3


@pytest.mark.parametrize("backend", ["naive", "aten", "numba_cpu"])
def test_bptt_of_every_backend(backend):
    x = x_of().float()
    naive, run = run_of(bptt=3).float(), run_of(backend=backend, bptt=3).float()
    for found, real in zip(gradients(run, run(x)[0]), gradients(naive, naive(x)[0]), strict=True):
        torch.testing.assert_close(found, real, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_computed_or_left_out_is_the_same_to_y_and_gradients(cell):
    x = x_of()
    packed, masked = run_of(cell), run_of(cell, packed=False)
    y, y_masked = packed(x, LENGTHS)[0], masked(x, LENGTHS)[0]
    torch.testing.assert_close(y, y_masked, rtol=0, atol=1e-12)
    for found, real in zip(gradients(masked, y_masked), gradients(packed, y), strict=True):
        torch.testing.assert_close(found, real, rtol=1e-10, atol=1e-10)


def test_ends_are_h_after_the_last_step_of_each_sequence():
    x, run = x_of(), run_of()
    y, states = run(x, LENGTHS)
    torch.testing.assert_close(ends(y, LENGTHS), states[0][0], rtol=0, atol=1e-12)


def forget_biases(run, cell):
    at = lk.CELLS[cell].gates.index("f")
    return dict(run.named_parameters())["layers.bias_ih_l0"].view(-1, H)[at]


@pytest.mark.parametrize("cell", ["lstm", "lstm_cifg", "lstm_peephole", "slstm"])
def test_keeping_opens_the_forget_gate_and_no_other(cell):
    plain, run = run_of(cell), keeping(run_of(cell), 3.0)
    both = zip(plain.parameters(), run.parameters(), strict=True)
    assert sum(float((b - a).detach().sum()) for a, b in both) == pytest.approx(3.0 * H)
    torch.testing.assert_close(forget_biases(run, cell), forget_biases(plain, cell) + 3.0)


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "mgu"])
def test_a_cell_without_c_is_left_as_it_is(cell):
    plain, run = run_of(cell), keeping(run_of(cell), 3.0)
    assert all(map(torch.equal, plain.parameters(), run.parameters()))


def test_lstm_is_that_of_torch():
    torch.manual_seed(1)
    theirs = nn.LSTM(INPUTS, H).double()
    ours = run_of()
    ours.layers.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x_of())[0], theirs(x_of())[0], rtol=0, atol=1e-12)
