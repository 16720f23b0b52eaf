"""Bars on stderr while something is measured, compiled or read."""

from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lstm_harness.console.output import err
from lstm_harness.model.plan import PlannedCell
from lstm_harness.race.runs import Watch
from lstm_harness.race.scheduler import Outcome


class LiveProgress:
    """A bar on stderr with the cell in flight and the time left."""

    def __init__(self, quiet: bool) -> None:
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Watch:
        self._bar.start()
        return Watch(self._planned, self._started, self._finished)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _planned(self, total: int, done: int) -> None:
        self._bar.update(self._task, total=total, completed=done)

    def _started(self, cell: PlannedCell) -> None:
        self._bar.update(self._task, description=f"{cell.backend} on {cell.case.label()}")

    def _finished(self, outcome: Outcome) -> None:
        self._bar.advance(self._task)


class Counting:
    """A bar on stderr for work that is counted: how many are done, of how many, which is next."""

    def __init__(self, quiet: bool) -> None:
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Callable[[int, int, str], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, done: int, total: int, label: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=label)
