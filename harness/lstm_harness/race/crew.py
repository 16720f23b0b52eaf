"""The workers of one side of a race: one for each backend, fresh in each block."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from lstm_harness.model.protocol import LoadBackend, NameDevice, Request
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.process import START_TIMEOUT_S, Failed, WorkerProcess, WorkerSettings


@dataclass
class Crew:
    """Starts, replaces and ends worker processes.

    Args:
        plugin_of: maps a backend to the plugin its worker must load.
        load_timeout_s: how long importing a backend may take.
    """

    settings: WorkerSettings
    plugin_of: Mapping[str, str]
    load_timeout_s: float
    _nursery: Nursery | None = None
    _workers: dict[str, WorkerProcess] = field(default_factory=dict)
    _spares: list[WorkerProcess] = field(default_factory=list)

    def start(
        self,
        backends: Iterable[str],
        nursery: Nursery | None,
        cores: tuple[int, ...] = (),
        layout: int = 0,
    ) -> None:
        """Start a fresh worker for each backend; they import while others start.

        Args:
            nursery: what they, and those that replace them, are forked from, if anything.
            cores: the only ones that they may run on; all if there are none.
            layout: how many bytes their memory is moved by.
        """
        self._nursery = nursery
        self.settings = replace(self.settings, cores=cores, layout=layout)
        for name in backends:
            self._start(name)

    def wait(self) -> None:
        """Wait until no worker is importing any more."""
        for worker in self._workers.values():
            self._await(worker)

    def worker(self, backend: str) -> WorkerProcess:
        """The live worker of a backend, a fresh one where the last one ended."""
        if backend not in self._workers or not self._answers(self._workers[backend]):
            self._await(self._start(backend))
        return self._workers[backend]

    def _answers(self, worker: WorkerProcess) -> bool:
        """Whether a worker is alive: somebody may have ended it while it was idle."""
        if not worker.alive:
            return False
        try:
            worker.ask(NameDevice(), self.load_timeout_s)
        except Failed:
            return False
        return True

    def renew(self, backend: str, ahead: int = 1) -> None:
        """Run a backend's next cells in a fresh process; this many are started at a time."""
        self._end(backend)
        if not self._spares:
            self._spares = [self._launch(backend) for _ in range(ahead)]
        self._workers[backend] = self._spares.pop()
        self._await(self._workers[backend])

    def pids(self) -> list[int]:
        """The processes of this crew."""
        return [worker.pid for worker in self._workers.values()]

    def end(self) -> None:
        """End every worker."""
        for name in list(self._workers):
            self._end(name)
        while self._spares:
            self._spares.pop().close()

    def _start(self, backend: str) -> WorkerProcess:
        self._end(backend)
        self._workers[backend] = self._launch(backend)
        return self._workers[backend]

    def _launch(self, backend: str) -> WorkerProcess:
        """A fresh worker, with the request to import its backend."""
        worker = WorkerProcess(self.settings, backend, self._nursery, held=True)
        worker.send(*self._first(backend))
        return worker

    def _await(self, worker: WorkerProcess) -> None:
        """Wait until a worker has imported everything; a failure shows in its first cell."""
        for request in self._first(worker.name):
            with suppress(Failed):
                worker.receive(request, START_TIMEOUT_S + self.load_timeout_s)

    def _first(self, backend: str) -> tuple[Request[Any], ...]:
        """The requests to a worker before its first cell."""
        return (*self.settings.first, LoadBackend(backend, self.plugin_of.get(backend)))

    def _end(self, backend: str) -> None:
        if backend in self._workers:
            self._workers.pop(backend).close()
