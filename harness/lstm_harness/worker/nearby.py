"""How far right results move if inputs do: no backend can be held to less.

Where a gradient nearly cancels, or a unit of a ReLU is so near 0 that a rounding switches it on or
off, right results for two inputs that differ by a rounding are far apart. A backend that errs by
as much has made no mistake.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lstm_harness.worker.inputs import Inputs, on_batched
from lstm_harness.worker.verify import judge
from lstm_kernels.stack import Weights

# How many inputs near the given ones are tried, and for how long: a layer that takes long has many
# units, and another draw would tell no more.
DRAWS = 8
MOST_S = 20.0
# Each number moves by up to the bound over this. An ordinary layer's results then move by as much.
NEARBY = 4.0
# A result may err by that many times the way that right ones were seen to move.
ROOM = 3.0

Results = Mapping[str, list[Tensor]]


def wider_bounds(
    execute: Callable[[Inputs], Results], inputs: Inputs, bound: float
) -> Iterator[dict[str, float]]:
    """The largest error each tensor may have, never below the bound; wider draw after draw.

    Args:
        execute: makes right results, of numbers in float64.
    """
    right = execute(inputs)
    generator = torch.Generator(inputs.x.device).manual_seed(DRAWS)
    bounds = dict.fromkeys(right, bound)
    started = time.monotonic()
    for _ in range(DRAWS):
        moved = judge(execute(_near(inputs, bound / NEARBY, generator)), right, bound).errors
        for name, distance in moved.items():
            bounds[name] = max(bounds[name], ROOM * (distance or 0.0))
        yield dict(bounds)
        if time.monotonic() - started > MOST_S:
            break


def _near(inputs: Inputs, most: float, generator: torch.Generator) -> Inputs:
    """The same inputs, each number changed by up to that part of itself."""

    def moved(tensor: Tensor) -> Tensor:
        drawn = torch.rand(tensor.shape, generator=generator, device=tensor.device)
        return tensor.double() * (1.0 + most * (2.0 * drawn.double() - 1.0))

    weights = tuple(
        Weights._make(None if tensor is None else moved(tensor) for tensor in group)
        for group in inputs.weights
    )
    return replace(on_batched(inputs, moved), weights=weights)
