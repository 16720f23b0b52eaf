"""Sequences that are reset within a batch, as a batch of more and shorter ones.

After a reset, a sequence's state is the initial one again: the steps between two resets have
nothing to do with the rest, and are a sequence of their own. So a batch with resets is a ragged
batch of its segments, packed, and every backend runs it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lstm_kernels.common.packing import batch_sizes_of, first_pairs


class Segments(NamedTuple):
    """A batch of T steps and B sequences, cut.

    Segments are ordered by descending length. `rows` [T*B] says which row of x [T*B, I] is at
    each place of the packed batch, and `places` [T*B] the reverse; `sequences` says for
    each segment which sequence it belongs to, and `last` [B] for each sequence its last segment.
    `lengths` is on the CPU, the others where the resets are.
    """

    lengths: Tensor
    rows: Tensor
    places: Tensor
    sequences: Tensor
    last: Tensor


def cut(resets: Tensor) -> Segments:
    """The segments of a batch.

    Args:
        resets: bool [T, B], True where the state before that step is the initial one. It is read on
            the host, which waits for the device.
    """
    T, B = resets.shape
    begins = resets.detach().t().cpu().clone()  # [B, T]
    begins[:, 0] = True
    begin = begins.flatten().nonzero().squeeze(1)
    ends = torch.cat([begin[1:], torch.tensor([T * B], device="cpu")])
    lengths, order = torch.sort(ends - begin, descending=True, stable=True)
    sequences, first = begin[order] // T, begin[order] % T
    steps = torch.repeat_interleave(batch_sizes_of(lengths))
    segments = torch.arange(T * B, device="cpu") - first_pairs(lengths)[steps]
    rows = (first[segments] + steps) * B + sequences[segments]
    last = torch.empty(B, dtype=torch.int64, device="cpu")
    is_last = first + lengths == T
    last[sequences[is_last]] = is_last.nonzero().squeeze(1)
    on_device = (each.to(resets.device) for each in (rows, rows.argsort(), sequences, last))
    return Segments(lengths, *on_device)
