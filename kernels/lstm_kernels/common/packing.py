"""A ragged batch as a PackedSequence holds it, and padded.

Packed is [R, K]: the R = sum(lengths) existing steps, all sequences' first steps, then all
second steps and so on, rows by descending length. Padded is [T, B, K], zero past a sequence's end.
If all lengths are T, the two are views of the same memory.
"""

import torch
from torch import Tensor


def lengths_of(batch_sizes: Tensor) -> Tensor:
    """The lengths [B], descending, of a batch in which this many rows [T] have each step."""
    return _how_many_exceed(batch_sizes, int(batch_sizes[0]))


def batch_sizes_of(lengths: Tensor) -> Tensor:
    """How many rows have each step, int64 [T]; lengths [B], descending."""
    return _how_many_exceed(lengths, int(lengths[0]))


def first_pairs(lengths: Tensor) -> Tensor:
    """Where each step's rows begin, int64 [T]; lengths [B], descending."""
    rows = batch_sizes_of(lengths)
    return rows.cumsum(0) - rows


def padded(data: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, K] from [R, K]; lengths [B], descending, on the CPU, or None to change nothing."""
    if lengths is None:
        return data
    if _are_alike(lengths):
        return data.reshape(int(lengths[0]), len(lengths), -1)
    T, B = int(lengths[0]), len(lengths)
    rows = data.new_zeros(T * B, data.shape[1])
    return rows.index_copy(0, _rows(lengths, data.device), data).view(T, B, -1)


def packed(sequences: Tensor, lengths: Tensor | None) -> Tensor:
    """[R, K] from [T, B, K]; lengths as for `padded`."""
    if lengths is None:
        return sequences
    if _are_alike(lengths):
        return sequences.flatten(0, 1)
    return sequences.flatten(0, 1).index_select(0, _rows(lengths, sequences.device))


def _rows(lengths: Tensor, device: torch.device) -> Tensor:
    """For each row of the packed batch, its row in [T*B, K], int64 [R]."""
    steps = torch.repeat_interleave(batch_sizes_of(lengths))
    sequences = torch.arange(len(steps), device=steps.device) - first_pairs(lengths)[steps]
    return (steps * len(lengths) + sequences).to(device)


def _how_many_exceed(falling: Tensor, count: int) -> Tensor:
    """For each number below `count`, how many of these are greater, int64 [count].

    A batch's lengths by how many rows have each step, and the other way round.
    """
    found: Tensor = torch.searchsorted(
        falling.flip(0), torch.arange(count, device=falling.device), right=True
    )
    return len(falling) - found


def _are_alike(lengths: Tensor) -> bool:
    return int(lengths[0]) == int(lengths[-1])
