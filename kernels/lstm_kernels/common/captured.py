"""What CUDA graphs of layers need: a stream of the device to capture on, and weights that stay."""

from collections.abc import Hashable
from functools import cache

import torch

# At how many places the weights of one kind of call may be before they count as moving. A model's
# layers of one shape have a place each; what is cast, or made contiguous, another at every call.
MOST_PLACES = 8
# Kinds of calls remembered.
MOST_KINDS = 1024


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Where graphs of a device are captured.

    `torch.cuda.graph` makes one stream at its first call, and so would capture every other device's
    graphs on the first device.
    """
    return torch.cuda.Stream(device)


class Places:
    """Where weights were found, by kind of call: those that move are copied into the graph."""

    def __init__(self) -> None:
        self._found: dict[Hashable, set[Hashable]] = {}

    def of(self, kind: Hashable, place: Hashable) -> Hashable | None:
        """The place itself, where a graph can read the weights; None where they move.

        Args:
            kind: all but the place that a graph is captured for.
        """
        found = self._found.setdefault(kind, set())
        if len(self._found) > MOST_KINDS:
            del self._found[next(iter(self._found))]
        if place in found:
            return place
        if len(found) == MOST_PLACES:
            return None
        found.add(place)
        return place
