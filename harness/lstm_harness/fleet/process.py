"""A task in a process of its own, seen from the process that started it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import Exit
from lstm_harness.store.files import replace_whole

ORDER = "order.json"
HANDED = "handed"
_LOG = "log"
# What a coordinator treats in another way than a measurement that failed.
_TOLD = (Exit.USAGE, Exit.NOT_COMPARABLE, Exit.INTERRUPTED)
# How long a task may take to end its workers.
PATIENCE_S = 20.0


class TaskProcess:
    """A task that runs on this machine. It ends when this process does, in whatever way.

    Args:
        folder: of its own; it is created.
        environment: the variables it is started with.
    """

    def __init__(self, task: Task, folder: Path, environment: Mapping[str, str]) -> None:
        self._name, self._folder = task.name, folder
        folder.mkdir(parents=True)
        replace_whole(folder / ORDER, json.dumps({**task.shared, **task.order}).encode())
        with (folder / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                # -P: a folder here with the name of one of our packages must not be imported.
                [sys.executable, "-P", "-m", "lstm_harness.fleet.work", str(folder)],
                stdin=subprocess.PIPE,  # it ends when this closes
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def ended(self, place: str = "") -> Ended | None:
        """How it ended; None as long as it runs."""
        return None if self._process.poll() is None else self._outcome(place)

    def wait(self, place: str = "") -> Ended:
        """How it ended, when it has."""
        try:
            self._process.wait()
        except BaseException:
            self.stop()
            raise
        return self._outcome(place)

    def ask_to_end(self) -> None:
        """Close its standard input, on which it ends itself and what it started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def stop(self) -> None:
        """End it, and what it started."""
        self.ask_to_end()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _outcome(self, place: str) -> Ended:
        self.ask_to_end()  # it has: this closes the pipe
        code = self._process.returncode
        if code == Exit.DONE:
            return Ended(self._name, files_in(self._folder / HANDED), place=place)
        return Ended(self._name, code=_known(code), said=self._said(code), place=place)

    def _said(self, code: int) -> str:
        lines = (self._folder / _LOG).read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return last[:500] or f"its process ended with {code} and said nothing"


def _known(code: int) -> int:
    """The exit code that a process's return code stands for; a signal's is negative."""
    if code < 0:
        return Exit.INTERRUPTED
    # A traceback ends with the exit code of a regression.
    return code if code in _TOLD else Exit.MEASURING_FAILED


def files_in(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def own_environment() -> dict[str, str]:
    """The variables of this process."""
    return dict(os.environ)
