"""Inputs that no execution had before, drawn in the same way by two processes.

A worker draws the inputs to execute, and the oracle draws them again to find the right result. Both
know the nonce that seeds them only once the sample is due.
"""

import random
from dataclasses import replace
from functools import cached_property
from math import pi
from typing import Any

import torch
from torch import Tensor

from lstm_harness.worker.inputs import STATE_SCALE, Inputs, keep_positive
from lstm_kernels.stack import Weights

# Inputs are made of windows of these pools; the largest window is drawn at once.
POOL = 1 << 19
WINDOW = POOL // 2
# The gradients that a backward starts from.
STARTS = ("d_y", "d_h_n", "d_c_n")
# Weights are changed by up to that part of themselves, or by this many times the error that is
# allowed; and by at least half of it. A result that ignores the change is then wrong.
MOST_CHANGE = 0.02
TIMES_TOLERANCE = 8.0


class Mixer:
    """Draws standard normal numbers at the speed of memory.

    Two windows of a pool of normal numbers are mixed by angles from a third, element by element:
    the result is normal too, and not a sum of earlier ones.
    """

    def __init__(self, device: str) -> None:
        self._device = device

    @cached_property
    def _pools(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(POOL)
        normal = torch.randn(POOL, generator=generator)
        angles = torch.rand(POOL, generator=generator).mul_(2 * pi)
        here = self._device
        return normal.to(here), angles.cos().to(here), angles.sin().to(here)

    def fill(self, room: Tensor, chance: random.Random, scale: float = 1.0) -> None:
        """Fill a contiguous tensor, of any floating dtype."""
        normal, cosines, sines = self._pools
        flat = room.view(-1)
        for start in range(0, flat.numel(), WINDOW):
            part = flat[start : start + WINDOW]
            windows = [chance.randrange(WINDOW) for _ in range(3)]
            one, other, angle = (slice(first, first + len(part)) for first in windows)
            is_single = part.dtype == torch.float32
            drawn = torch.mul(normal[one], cosines[angle], out=part if is_single else None)
            drawn.addcmul_(normal[other], sines[angle])
            if scale != 1.0:
                drawn.mul_(scale)
            if not is_single:
                part.copy_(drawn)

    def inputs(self, like: Inputs, nonce: str, execution: int, with_room: bool) -> Inputs:
        """The inputs of one execution of a sample.

        Args:
            with_room: for the output gradients; `gradients` draws them.
        """
        chance = random.Random(f"{nonce}/{execution}")
        fresh: dict[str, Any] = {}
        for name, scale in (("x", 1.0), ("h0", STATE_SCALE), ("c0", STATE_SCALE)):
            if getattr(like, name) is not None:
                fresh[name] = torch.empty_like(getattr(like, name))
                self.fill(fresh[name], chance, scale)
        if with_room:
            rooms = {name: getattr(like, name) for name in STARTS}
            fresh |= {n: torch.empty_like(t) for n, t in rooms.items() if t is not None}
        made = replace(like, **fresh)
        keep_positive(made)
        return made

    def gradients(self, inputs: Inputs, nonce: str, execution: int) -> None:
        """Draw the output gradients of one execution, into the room for them."""
        chance = random.Random(f"{nonce}/{execution}")
        for tensor in inputs.d_outputs():
            self.fill(tensor, chance)


def changed_weights(weights: tuple[Weights, ...], nonce: str, bound: float) -> tuple[Weights, ...]:
    """Weights that are each changed by a small part of themselves.

    Args:
        bound: the largest relative error that is right.
    """
    chance = random.Random(nonce)
    most = max(MOST_CHANGE, TIMES_TOLERANCE * bound)

    def factor() -> float:
        return 1.0 + chance.choice((-1, 1)) * chance.uniform(most / 2, most)

    return tuple(
        Weights._make(None if tensor is None else tensor * factor() for tensor in group)
        for group in weights
    )


def change_weights(weights: tuple[Weights, ...], nonce: str, bound: float) -> None:
    """Change weights in place, as a step of training would; see `changed_weights`."""
    for group, changed in zip(weights, changed_weights(weights, nonce, bound), strict=True):
        for tensor, new in zip(group, changed, strict=True):
            if tensor is not None and new is not None:
                tensor.copy_(new)
