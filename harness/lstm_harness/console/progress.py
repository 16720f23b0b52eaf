"""Bars on stderr, or in a notebook's cell, while something is measured, compiled or read."""

import io
import math
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from lstm_harness.console.output import err
from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.text import significant
from lstm_harness.model.training import Curve, Point
from lstm_harness.race.runs import Watch
from lstm_harness.race.visit import Outcome

# A notebook keeps a message a redraw on its way to the browser.
REDRAW_S = 0.2
NOTEBOOK_WIDTH = 110
# Of 80 columns it leaves most to what goes on.
BAR_WIDTH = 14


class LiveProgress:
    """A bar with the cell in flight and the time left."""

    def __init__(self, quiet: bool) -> None:
        self._bar = _Bar(quiet, TimeRemainingColumn(compact=True))

    def __enter__(self) -> Watch:
        self._bar.start()
        return Watch(self._planned, self._started, self._finished)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _planned(self, total: int, done: int) -> None:
        self._bar.update(total=total, completed=done)

    def _started(self, cell: PlannedCell) -> None:
        self._bar.update(description=f"{cell.backend} on {cell.case.label()}")

    def _finished(self, outcome: Outcome) -> None:
        self._bar.update(advance=1)


class Counting:
    """A bar for work that is counted: how many are done, of how many, which is next."""

    def __init__(self, quiet: bool) -> None:
        self._bar = _Bar(quiet)

    def __enter__(self) -> Callable[[int, int, str], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, done: int, total: int, label: str) -> None:
        self._bar.update(completed=done, total=total, description=label)


class TrainingProgress:
    """A bar of curves: of the one in flight its step, its loss and the time it has left."""

    def __init__(self, quiet: bool) -> None:
        self._bar = _Bar(quiet)

    def __enter__(self) -> Callable[[int, int, Curve, Point | None, float], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(
        self, done: int, total: int, curve: Curve, point: Point | None, left_s: float
    ) -> None:
        said = curve.label()
        if point:
            loss = "not finite" if point.loss is None else significant(point.loss, 3)
            said += f": step {point.step}, loss {loss}, {left_s:.0f} s left at most"
        self._bar.update(completed=done, total=total, description=said)


class _Bar:
    """One bar that is gone when it stops: on a terminal, or in a notebook, or nowhere."""

    def __init__(self, quiet: bool, *more: ProgressColumn) -> None:
        self._bar = Progress(
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            *more,
            TextColumn("{task.description}", markup=False, table_column=_rest_of_the_line()),
            console=err,
            transient=True,
            expand=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._place = _NotebookPlace() if err.is_jupyter and not quiet else None

    def start(self) -> None:
        self._bar.start()
        if self._place:
            self._place.show(self._bar)

    def update(self, **changes: Any) -> None:
        self._bar.update(self._task, **changes)
        if self._place:
            self._place.show(self._bar)

    def stop(self) -> None:
        self._bar.stop()
        if self._place:
            self._place.clear()


def _rest_of_the_line() -> Column:
    """What a line has in addition to the bar and the numbers; too long a text ends in an ellipsis.

    Without it a narrow terminal cuts all of them alike.
    """
    return Column(ratio=1, no_wrap=True, overflow="ellipsis")


class _NotebookPlace:
    """An output of the cell that runs, redrawn in place: rich's own way needs ipywidgets."""

    def __init__(self) -> None:
        # A notebook has IPython; nobody else needs it.
        self._display: Any = import_module("IPython.display").display
        self._handle: Any = None
        self._drawn_s = -math.inf

    def show(self, bar: Progress) -> None:
        if time.monotonic() - self._drawn_s < REDRAW_S:
            return
        self._drawn_s = time.monotonic()
        text = io.StringIO()
        # IPython asks for colour, which not every viewer of a notebook shows.
        console = Console(file=text, width=NOTEBOOK_WIDTH, force_jupyter=False, color_system=None)
        console.print(bar.get_renderable())
        self._draw(text.getvalue().rstrip())

    def clear(self) -> None:
        self._draw("")

    def _draw(self, text: str) -> None:
        drawn = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(drawn, raw=True, display_id=True)
        else:
            self._handle.update(drawn, raw=True)
