"""A contestant's curves as one line: its course over the steps, from all its seeds."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lstm_harness.analysis.training import Contestant, shared_steps
from lstm_harness.model.training import Point


class Way(NamedTuple):
    """One seed's points from a step on; a value is None if it is not finite."""

    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Course:
    """A contestant's course, up to the last step that all its seeds reached, and what is beyond.

    Attributes:
        seconds: of training up to each step, the median over seeds.
        median, low, high: of a value over the seeds; None if one of them is not finite.
        beyond: for each seed that continued, its points from the last shared step on.
    """

    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    median: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    beyond: tuple[Way, ...]


def course(one: Contestant, value: Callable[[Point], float | None]) -> Course:
    """A contestant's course, for a value that its points have."""
    by_step = [{point.step: point for point in each.points} for each in one.curves]
    steps = shared_steps(one.curves)
    rows = [[points[step] for points in by_step] for step in steps]
    values = [[value(point) for point in row] for row in rows]

    def over_seeds(take: Callable[[list[float]], float]) -> tuple[float | None, ...]:
        known = ([each for each in row if each is not None] for row in values)
        return tuple(
            take(some) if len(some) == len(row) else None
            for some, row in zip(known, values, strict=True)
        )

    last = steps[-1] if steps else 0
    rests = [[point for point in each.points if point.step >= last] for each in one.curves]
    return Course(
        tuple(steps),
        tuple(statistics.median(point.seconds for point in row) for row in rows),
        over_seeds(statistics.median),
        over_seeds(min),
        over_seeds(max),
        tuple(_way(rest, value) for rest in rests if len(rest) > 1),
    )


def _way(points: Sequence[Point], value: Callable[[Point], float | None]) -> Way:
    return Way(
        tuple(point.step for point in points),
        tuple(point.seconds for point in points),
        tuple(map(value, points)),
    )
