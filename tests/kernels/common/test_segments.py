"""A batch cut where its sequences are reset."""

import torch

from lstm_kernels.common.segments import cut


def test_every_segment_is_packed_in_order() -> None:
    resets = torch.zeros(6, 3, dtype=torch.bool)
    resets[2, 0] = resets[5, 0] = resets[0, 1] = resets[3, 2] = True
    segments = cut(resets)
    # Sequence 0 is cut into 2, 3 and 1 steps, 1 stays whole, 2 is cut into halves.
    assert segments.lengths.tolist() == [6, 3, 3, 3, 2, 1]
    assert segments.sequences.tolist() == [1, 0, 2, 2, 0, 0]
    assert segments.last.tolist() == [5, 0, 3]
    at = [divmod(row, 3) for row in segments.rows.tolist()]
    first = [(0, 1), (2, 0), (0, 2), (3, 2), (0, 0), (5, 0)]
    assert at[:6] == first
    assert at[6:11] == [(step + 1, sequence) for step, sequence in first[:5]]
    assert at[-1] == (5, 1)


def test_places_and_rows_undo_each_other() -> None:
    segments = cut(torch.rand(40, 7) < 0.1)
    assert torch.equal(segments.rows[segments.places], torch.arange(280))
    assert torch.equal(segments.places[segments.rows], torch.arange(280))
    assert int(segments.lengths.sum()) == 280


def test_the_mask_is_left_as_it_is() -> None:
    resets = torch.zeros(3, 2, dtype=torch.bool)
    cut(resets)
    assert not resets.any()
