"""Normalisation within a step: over all units of a sequence, or over all sequences of a batch.

Both are (v - mean) / sqrt(variance + 1e-5), the variance's divisor the count; gains and shifts are
defined by the cell. Source: Ba et al. 2016, "Layer Normalization"; Ioffe and Szegedy 2015, "Batch
Normalization".
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

EPSILON = 1e-5

# Values [B, N] and which sequences still run, [B, 1] or None for all: the values normalised.
BatchNorm = Callable[[Tensor, Tensor | None], Tensor]


def over_units(values: Tensor) -> Tensor:
    """Each row of [B, N] normalised."""
    return layer_norm(values, values.shape[-1:], eps=EPSILON)


def over_batch(values: Tensor, alive: Tensor | None) -> Tensor:
    """Each column of [B, N] normalised by the rows that are alive (see `BatchNorm`)."""
    return normalised(values, *moments(values, alive))


def moments(values: Tensor, alive: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance [N] of those rows, in float32 at least; 0 if there are none."""
    wide = _wide(values)
    if alive is None:
        variance, mean = torch.var_mean(wide, 0, correction=0)
        return mean, variance
    # Values in the other rows reach neither a statistic nor a gradient.
    count = alive.sum().clamp(min=1)
    mean = torch.where(alive, wide, 0).sum(0) / count
    return mean, torch.where(alive, wide - mean, 0).square().sum(0) / count


def normalised(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Values [B, N] by a mean and a variance [N], in the values' dtype."""
    return ((_wide(values) - mean) * torch.rsqrt(variance + EPSILON)).to(values.dtype)


def several(norm: Callable[[Tensor], Tensor], like: Tensor) -> Callable[..., tuple[Tensor, ...]]:
    """A norm as a cell's step calls it: for values side by side, each as wide as `like` [B, H]."""

    def of(*values: Tensor) -> tuple[Tensor, ...]:
        together = torch.cat([value.expand_as(like) for value in values], -1)
        return norm(together).chunk(len(values), -1)

    return of


def _wide(values: Tensor) -> Tensor:
    """In float32 if the dtype is narrower: a difference from a mean has few digits left."""
    return values.float() if values.element_size() < 4 else values
