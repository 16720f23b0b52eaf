"""In which order a grid's cases are measured so that a run cut short still covers the grid.

Like a picture that loads coarsely first: the grid's corners, then the middles between them, then
the quarters, axis by axis and all axes together.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from lstm_harness.model.case import Case


def coarse_first(cases: Sequence[Case], seed: int) -> list[Case]:
    """The same cases: corners of the grid before its middles, the middles before what is between.

    Cases of one level come in random order, seeded, so that whatever prefix is measured is spread
    over the grid.
    """
    points = [_coordinates(case) for case in cases]
    levels = [_levels_of(values) for values in zip(*points, strict=True)]
    coarseness = [
        max(level[value] for level, value in zip(levels, point, strict=True)) for point in points
    ]
    shuffled = random.Random(f"{seed}/coverage").sample(range(len(cases)), len(cases))
    return [cases[place] for place in sorted(shuffled, key=coarseness.__getitem__)]


def _coordinates(case: Case) -> tuple[Any, ...]:
    return (*case.problem.to_dict().values(), case.pass_name, case.launch, case.cache)


def _levels_of(values: Iterable[Any]) -> dict[Any, int]:
    """How coarse each value of an axis is: 0 for its two ends, 1 for the middle, and so on.

    Numbers lie on their axis by size, words as they were met.
    """
    axis = list(dict.fromkeys(values))
    if not any(isinstance(value, str) for value in axis):
        axis.sort()
    levels = dict.fromkeys((axis[0], axis[-1]), 0)
    gaps, level = [(0, len(axis) - 1)], 0
    while len(levels) < len(axis):
        level += 1
        halves = []
        for low, high in gaps:
            middle = (low + high) // 2
            if middle > low:
                levels[axis[middle]] = level
                halves += [(low, middle), (middle, high)]
        gaps = halves
    return levels
