"""`FlopCounterMode` counts the products that a layer's operators make, and no others."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import lstm_kernels as lk

T, B, I, H = 3, 2, 3, 5  # noqa: E741 - the field's name of the input's size


def a_problem(cell: str, **fields: Any) -> lk.Problem:
    return lk.Problem(cell, T, B, I, H, **{"bidirectional": True} | fields)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_products_are_counted(operator_backend: str, cell: str) -> None:
    name = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN"}[cell]
    settings = {"num_layers": 2, "bidirectional": True}
    rnn = getattr(lk, name)(I, H, backend=operator_backend, **settings)
    problem = a_problem(cell, num_layers=2)
    x = torch.randn(T, B, I, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        y, _ = rnn(x)
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert forward.get_total_flops() == problem.flops("forward")
    assert backward.get_total_flops() == problem.flops("backward")


def test_products_that_are_not_made_are_not_counted() -> None:
    pytest.importorskip("numba")
    rnn, x = lk.LSTM(I, H, backend="numba_cpu"), torch.randn(T, B, I)
    rnn.weight_ih_l0.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        y, _ = rnn(x)
        y.sum().backward()
    through_w_hh = 2 * T * B * 4 * H * H
    forward = through_w_hh + 2 * T * B * 4 * H * I
    assert counter.get_total_flops() == forward + 2 * through_w_hh
    assert rnn.weight_ih_l0.grad is None


def test_what_is_made_again_is_counted() -> None:
    pytest.importorskip("triton")
    rnn = lk.LSTM(I, H, backend="triton", recompute=True)
    x = torch.randn(T, B, I, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        rnn(x)[0].sum().backward()
    problem = a_problem("lstm", bidirectional=False)
    assert counter.get_total_flops() == problem.flops("train") + problem.flops("forward")
