"""Masks and reversal of ragged sequences."""

import torch

from lstm_kernels.common.unroll import alive_steps, reverse_steps

LENGTHS = torch.tensor([3, 0, 1])


def test_alive_steps() -> None:
    alive = alive_steps(LENGTHS, 3, torch.device("cpu"))
    assert alive.T.tolist() == [[True, True, True], [False] * 3, [True, False, False]]


def test_each_sequence_is_reversed_within_its_length() -> None:
    x = torch.arange(9.0).reshape(3, 3, 1)  # [T, B, 1]: column b counts b, b + 3, b + 6
    assert reverse_steps(x, LENGTHS)[..., 0].T.tolist() == [[6, 3, 0], [1, 4, 7], [2, 5, 8]]
    assert torch.equal(reverse_steps(reverse_steps(x, LENGTHS), LENGTHS), x)
    assert torch.equal(reverse_steps(x, None), x.flip(0))
