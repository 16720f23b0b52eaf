"""A run's time, shared out: each cell gets an equal part of what is left, and late cells none."""

import time
from collections.abc import Callable

from lstm_harness.model.plan import DEFAULT_SHARE_S, ONE_WAVE

# Of a cell's part of the time, what is for samples and for preparing each of them; the rest is for
# starting workers, compiling and verifying.
FOR_SAMPLES = 0.8
# A large grid begins with a wave of so many cases, and each later one is at most twice as large as
# the one before: a wave starts every worker anew in each of its blocks.
FIRST_WAVE = 16


class Budget:
    """Shares a time budget between cells.

    What a cell leaves over goes to the cells after it, and what it takes beyond its part is taken
    from them. Where the fewest samples of every cell need longer, cases are measured wave by wave,
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
        """How many of the cases that wait to measure next; 0 where the time is spent.

        The first wave is measured whatever it takes; later ones are as large as fits, going by what
        a cell took so far.

        Args:
            waiting: cases not measured yet.
            cells_a_case: cells that a case has, over all backends and blocks, about.
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
