"""A run's time: which cases are measured first, and how much time each cell gets.

Each cell gets an equal part of the remaining time. A grid that is too large for its
time is measured in waves, like a picture that loads coarsely first: the grid's corners, then the
middles between them, then the quarters, axis by axis and all axes together. Cut short anywhere, it
still covers the grid.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.plan import DEFAULT_SHARE_S, ONE_WAVE

# Of a cell's part of the time, what is for samples and for preparing each of them; the rest is for
# starting workers, compiling and verifying.
FOR_SAMPLES = 0.8
# A large grid begins with a wave of this many cases, and each later one is at most twice as large
# as the one before: a wave starts every worker again in each of its blocks.
FIRST_WAVE = 16


class Budget:
    """Shares a time budget between cells.

    The time that a cell leaves goes to later cells, and the time beyond its part is taken
    from them. If the fewest samples of every cell need longer, cases are measured wave by wave,
    all blocks of one wave before the next begins, until no further case fits.

    Args:
        total_s: for the whole run, or None for half a second a cell.
        cells: how many share it.
        now: the clock, in seconds.
    """

    def __init__(
        self, total_s: float | None, cells: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._total_s = total_s
        self._cells_left = cells
        self._now = now
        self._start = now()
        self._cells_met = 0
        self._last_wave = 0

    def next_share_s(self) -> float:
        """The seconds that the next cell may spend on its samples."""
        cells_left = self._cells_left
        self._cells_left -= 1
        self._cells_met += 1
        if self._total_s is None:
            return DEFAULT_SHARE_S
        left = self._total_s - (self._now() - self._start)
        return max(0.0, FOR_SAMPLES * left / cells_left)

    def next_wave(self, waiting: int, cells_a_case: float) -> int:
        """How many of the waiting cases to measure next; 0 if the time is spent.

        The first wave is always measured; later ones are as large as fits, by the time that
        a cell took so far.

        Args:
            waiting: cases not measured yet.
            cells_a_case: about how many cells a case has, over all backends and blocks.
        """
        if self._total_s is None:
            wave = waiting
        elif not self._last_wave:
            wave = waiting if waiting <= ONE_WAVE else FIRST_WAVE
        else:
            spent = self._now() - self._start
            cell_s = spent / max(1, self._cells_met)
            fits = max(0, int((self._total_s - spent) / (cell_s * cells_a_case)))
            wave = min(waiting, fits, 2 * self._last_wave)
        self._last_wave = wave
        return wave


def coarse_first(cases: Sequence[Case], seed: int) -> list[Case]:
    """The same cases: corners of the grid before its middles, the middles before what is between.

    Cases of one level come in random order, seeded, so that every measured prefix is spread
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
    return (*astuple(case.problem), case.pass_name, case.launch, case.cache, *astuple(case.call))


def _levels_of(values: Iterable[Any]) -> dict[Any, int]:
    """How coarse each value of an axis is: 0 for its two ends, 1 for the middle, and so on.

    Numbers are ordered by size, words in order of appearance.
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
