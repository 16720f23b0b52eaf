"""The first tensor that does not fit is named, with what was expected."""

import pytest
import torch

from lstm_kernels.common.checks import check_tensors

X = torch.zeros(2, 3)


def test_what_fits_passes_and_what_is_not_there_too() -> None:
    check_tensors({"h0": (torch.zeros(4, 5), (4, 5)), "c0": (None, (4, 5))}, X)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.zeros(5, 4), r"h0 has shape \(5, 4\); expected \(4, 5\)"),
        (torch.zeros(4, 5).double(), "h0 is torch.float64 on cpu; expected x's, torch.float32"),
        (torch.zeros(4, 5, device="meta"), "h0 is torch.float32 on meta; expected x's"),
    ],
)
def test_what_does_not_fit_is_named(tensor: torch.Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_tensors({"h0": (tensor, (4, 5))}, X)
