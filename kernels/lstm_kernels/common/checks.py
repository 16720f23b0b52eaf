"""Checks that the arguments of a layer fit together, once, at the entry."""

from collections.abc import Mapping, Sequence

from torch import Tensor


def check_tensors(expected: Mapping[str, tuple[Tensor | None, Sequence[int]]], x: Tensor) -> None:
    """Refuse a tensor with a wrong shape, or with another dtype or device than x.

    Args:
        expected: for each name a tensor, or None if there is none, and its shape.
    Raises:
        ValueError: one line with the first that does not fit.
    """
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {tuple(shape)}")
        if (tensor.dtype, tensor.device) != (x.dtype, x.device):
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}; "
                f"expected x's, {x.dtype} on {x.device}"
            )
