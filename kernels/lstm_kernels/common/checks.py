"""What a layer is given fits together: checked once, where it comes in."""

from collections.abc import Mapping, Sequence

from torch import Tensor


def check_tensors(expected: Mapping[str, tuple[Tensor | None, Sequence[int]]], x: Tensor) -> None:
    """Refuse a tensor of another shape than its name's, or of another dtype or device than x.

    Args:
        expected: by name a tensor, or None where there is none, and its shape.
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
