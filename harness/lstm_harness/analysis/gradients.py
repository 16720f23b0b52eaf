"""What is left of a gradient on its way back through time, from the norms of several seeds.

Each seed's norms are divided by its norm at the last step, so that every line starts at 1.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_kernels.problem import Problem

Norms = tuple[float | None, ...]


@dataclass(frozen=True)
class Followed:
    """The result of following a gradient through one problem on one backend.

    Attributes:
        status: a record's status; `reason` says why it is not `ok`.
        norms: for each seed, the norm of dL_T/dh_t by T - t, from 0 to T; None if it is not finite.
    """

    backend: str
    problem: Problem
    status: str = "ok"
    reason: str = ""
    norms: tuple[Norms, ...] = ()


@dataclass(frozen=True)
class Gradients:
    """All gradients followed together, by which command and on which machine.

    Attributes:
        seeds: the seed of each of a line's norms.
        environment: as a run's manifest has it.
        absent: plugins that were not used, each with the reason.
    """

    followed: tuple[Followed, ...]
    seeds: tuple[int, ...]
    device: str
    environment: Mapping[str, Any]
    command: tuple[str, ...]
    start: str
    absent: Mapping[str, str]


@dataclass(frozen=True)
class Fading:
    """What is left of a gradient, as a share of its norm at the last step, by T - t.

    Attributes:
        name: what distinguishes it from the others that were followed with it.
        median, low, high: over the seeds; None if one of them is not finite.
    """

    name: str
    of: Followed
    median: Norms
    low: Norms
    high: Norms

    @property
    def half_life_steps(self) -> float | None:
        """The number of steps in which the median halves, by a line through its logarithms.

        None if it does not fall.
        """
        points = [(step, math.log2(share)) for step, share in enumerate(self.median) if share]
        if len(points) < 2:
            return None
        slope, _ = statistics.linear_regression(*zip(*points, strict=True))
        return -1 / slope if slope < 0 else None

    @property
    def gone_at(self) -> int | None:
        """The first T - t at which the median is 0: too small for the dtype, or cut by a relu."""
        return self.median.index(0.0) if 0.0 in self.median else None


def fadings(followed: Sequence[Followed]) -> list[Fading]:
    """What is left of every gradient that could be followed, each under a name of its own."""
    rows = zip(names(followed), followed, strict=True)
    return [_fading(name, one) for name, one in rows if one.status == "ok"]


def names(followed: Sequence[Followed]) -> list[str]:
    """A name for each: the cell, and everything else that is not the same in all."""
    words = [[*one.problem.label().split(), one.backend] for one in followed]
    shared = set(words[0]).intersection(*words) if words else set()
    return [" ".join([own[0], *(w for w in own[1:] if w not in shared)]) for own in words]


def steps_told(longest: int) -> list[int]:
    """The T - t that a table has for a sequence of this length: 0, 1, 2, 5, 10 ... and T itself."""
    decades = [10**power for power in range(len(str(longest)))]
    round_ones = [digit * decade for decade in decades for digit in (1, 2, 5)]
    return [0, *(step for step in round_ones if step < longest), longest]


def _fading(name: str, one: Followed) -> Fading:
    by_step = list(zip(*map(_shares, one.norms), strict=True))

    def over_seeds(take: Callable[[tuple[Any, ...]], float]) -> Norms:
        return tuple(None if None in shares else take(shares) for shares in by_step)

    return Fading(name, one, over_seeds(statistics.median), over_seeds(min), over_seeds(max))


def _shares(norms: Norms) -> Norms:
    """The same norms, divided by the norm at the last step."""
    last = norms[0]
    return tuple(None if norm is None or not last else norm / last for norm in norms)
