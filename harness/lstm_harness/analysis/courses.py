"""A contestant's curves as one line: its way over the steps, from all its seeds."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from lstm_harness.analysis.training import Contestant, shared_steps
from lstm_harness.model.training import Point


@dataclass(frozen=True)
class Course:
    """A contestant's way over its steps, as far as all its seeds came, and of each what is beyond.

    Attributes:
        seconds: of training up to each step, the median over seeds.
        median, low, high: of a value over the seeds; None where one of them is not finite.
        beyond: of each seed that went on: steps, seconds and values, from the last shared step on.
    """

    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    median: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    beyond: tuple[tuple[tuple[int, float, float | None], ...], ...]


def course(one: Contestant, value: Callable[[Point], float | None]) -> Course:
    """A contestant's way, of a value that its points have."""
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
    beyond = [
        tuple((p.step, p.seconds, value(p)) for p in each.points if p.step >= last)
        for each in one.curves
    ]
    return Course(
        tuple(steps),
        tuple(statistics.median(point.seconds for point in row) for row in rows),
        over_seeds(statistics.median),
        over_seeds(min),
        over_seeds(max),
        tuple(points for points in beyond if len(points) > 1),
    )
