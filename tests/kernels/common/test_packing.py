"""Packed and padded: each what torch.nn.utils.rnn makes of the other."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_kernels.common.packing import lengths_of, packed, padded

BATCHES = {"ragged": [5, 3, 3, 1], "alike": [4, 4, 4], "one": [7], "one step": [1, 1]}


@pytest.fixture(params=BATCHES.values(), ids=BATCHES)
def lengths(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.tensor(request.param)


def test_packed_and_padded_are_as_torch_nns(lengths: torch.Tensor) -> None:
    x = torch.randn(int(lengths[0]), len(lengths), 2)
    x[torch.arange(len(x)).unsqueeze(1) >= lengths] = 0
    theirs = pack_padded_sequence(x, lengths)
    assert torch.equal(lengths_of(theirs.batch_sizes), lengths)
    assert torch.equal(packed(x, lengths), theirs.data)
    assert torch.equal(padded(theirs.data, lengths), x)


def test_what_is_alike_is_not_copied() -> None:
    lengths = torch.tensor([4, 4, 4])
    data = torch.randn(12, 2)
    assert padded(data, lengths).data_ptr() == data.data_ptr()
    assert packed(padded(data, lengths), lengths).data_ptr() == data.data_ptr()


def test_gradients_pass_both_ways(lengths: torch.Tensor) -> None:
    data = torch.randn(int(lengths.sum()), 2, requires_grad=True)
    weights = torch.randn_like(data)
    (packed(padded(data, lengths), lengths) * weights).sum().backward()
    assert torch.equal(data.grad, weights)
