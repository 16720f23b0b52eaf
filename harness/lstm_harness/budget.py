"""A run's time, shared out: each cell gets an equal part of what is left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lstm_harness.plan import DEFAULT_SHARE_S


class Budget:
    """Shares a time budget between cells.

    What a cell took beyond its share (verifying, compiling) is expected of the cells to come, on
    average, so that a run ends near its budget; a cell that needed less leaves more to the others.

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
        self._overhead_s = 0.0
        self._cells_done = 0

    @contextmanager
    def cell(self) -> Iterator[float]:
        """Give one cell its share in seconds, and watch what it took."""
        share = self._share()
        started = self._now()
        yield share
        self._overhead_s += max(0.0, self._now() - started - share)
        self._cells_done += 1
        self._cells_left -= 1

    def _share(self) -> float:
        if self._total_s is None:
            return DEFAULT_SHARE_S
        left = self._total_s - (self._now() - self._start)
        overhead = self._overhead_s / self._cells_done if self._cells_done else 0.0
        return max(0.0, left / self._cells_left - overhead)
