"""The float64 answers that backends are compared with, made once a problem by a worker of its own.

That worker runs the harness's own `reference`, whatever kernels are measured.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstm_harness.model.case import Case
from lstm_harness.model.protocol import MakeAnswer, ReadState
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_kernels.problem import Problem

TIMEOUT_S = 1800.0
MOST_BYTES = 8 << 30
# A whole-sequence product may be made by another library, or another unit of the device, than
# torch.mm's; four times the rate torch.mm reaches is out of reach for either.
UNREACHABLE = 4.0


@dataclass(frozen=True)
class AnswerFile:
    """Where a problem's float64 answer lies, and the rate the device's own products reach."""

    path: Path
    product_flops: float

    def impossible_ns(self, case: Case) -> float:
        """A time so short that not everything can have been computed; no floor, but a gate."""
        return case.problem.flops(case.pass_name) / (UNREACHABLE * self.product_flops) * 1e9


class Answers:
    """Makes answers on demand; the oldest are dropped when they take too much disk.

    The worker starts with the first question, and anew where it ended.
    """

    def __init__(self, settings: WorkerSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._worker: WorkerProcess | None = None
        self._files: dict[Problem, AnswerFile] = {}

    def to(self, problem: Problem) -> AnswerFile:
        """The answer to a problem.

        Raises:
            Failed: it could not be made.
        """
        if problem not in self._files:
            digest = hashlib.sha256(str(problem).encode()).hexdigest()[:16]
            path = self._settings.scratch / f"answer-{digest}.pt"
            made = self._live().ask(MakeAnswer(problem, self._seed, str(path)), TIMEOUT_S)
            self._files[problem] = AnswerFile(path, made.product_flops)
            self._drop_oldest()
        return self._files[problem]

    def state(self) -> Mapping[str, Any] | None:
        """The machine's load and clocks now; None where the worker cannot tell."""
        with suppress(Failed):
            return self._live().ask(ReadState()).state
        return None

    def pids(self) -> list[int]:
        """The worker's process id, where there is one."""
        return [self._worker.pid] if self._worker else []

    def close(self) -> None:
        """End the worker."""
        if self._worker:
            self._worker.close()
            self._worker = None

    def _live(self) -> WorkerProcess:
        if self._worker is None or not self._worker.alive:
            self.close()
            self._worker = WorkerProcess(self._settings, "oracle")
        return self._worker

    def _drop_oldest(self) -> None:
        sizes = {problem: file.path.stat().st_size for problem, file in self._files.items()}
        for problem in list(sizes)[:-1]:
            if sum(sizes.values()) <= MOST_BYTES:
                return
            self._files.pop(problem).path.unlink()
            del sizes[problem]
