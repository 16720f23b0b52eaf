"""A run's time, shared out: each cell gets an equal part of what is left."""

import time
from collections.abc import Callable

from lstm_harness.plan import DEFAULT_SHARE_S

# Of a cell's part of the time, what is for samples and for preparing each of them; the rest is for
# starting workers, compiling and verifying.
FOR_SAMPLES = 0.8


class Budget:
    """Shares a time budget between cells.

    What a cell leaves over goes to the cells after it, and what it takes beyond its part is taken
    from them, so that a run ends near its budget unless the fewest samples need longer.

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

    def next_share_s(self) -> float:
        """The seconds that the next cell may spend on its samples."""
        cells_left = self._cells_left
        self._cells_left -= 1
        if self._total_s is None:
            return DEFAULT_SHARE_S
        left = self._total_s - (self._now() - self._start)
        return max(0.0, FOR_SAMPLES * left / cells_left)
