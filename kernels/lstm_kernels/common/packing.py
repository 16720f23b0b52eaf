"""A ragged batch as a PackedSequence holds it, and padded.

Packed is [R, K]: the R = sum(lengths) steps that there are, all sequences' first ones, then all
second ones and so on, rows by falling length. Padded is [T, B, K], zero past a sequence's end.
Where all lengths are T, the two are one memory seen in two ways.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def lengths_of(batch_sizes: Tensor) -> Tensor:
    """The lengths [B], falling, of a batch of which so many rows [T] have each step."""
    return _how_many_exceed(batch_sizes, int(batch_sizes[0]))


def batch_sizes_of(lengths: Tensor) -> Tensor:
    """How many rows have each step, int64 [T]; lengths [B], falling."""
    return _how_many_exceed(lengths, int(lengths[0]))


def first_pairs(lengths: Tensor) -> Tensor:
    """Where each step's rows begin, int64 [T]; lengths [B], falling."""
    rows = batch_sizes_of(lengths)
    return rows.cumsum(0) - rows


def padded(data: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, K] of [R, K]; lengths [B], falling, on the CPU, or None where nothing is to change."""
    if lengths is None:
        return data
    if _are_alike(lengths):
        return data.reshape(int(lengths[0]), len(lengths), -1)
    sequences: Tensor = pad_packed_sequence(PackedSequence(data, batch_sizes_of(lengths)))[0]
    return sequences


def packed(sequences: Tensor, lengths: Tensor | None) -> Tensor:
    """[R, K] of [T, B, K]; lengths as of `padded`."""
    if lengths is None:
        return sequences
    if _are_alike(lengths):
        return sequences.flatten(0, 1)
    data: Tensor = pack_padded_sequence(sequences, lengths).data
    return data


def _how_many_exceed(falling: Tensor, count: int) -> Tensor:
    """Of each number below `count`, how many of these are greater, int64 [count].

    A batch's lengths by how many rows have each step, and the other way round.
    """
    found: Tensor = torch.searchsorted(falling.flip(0), torch.arange(count), right=True)
    return len(falling) - found


def _are_alike(lengths: Tensor) -> bool:
    return int(lengths[0]) == int(lengths[-1])
