"""The process that knows the right results: it holds the answers, and never imports a plugin.

That worker runs the harness's own kernels, even if other kernels are measured.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from lstm_harness.model.case import PLAIN, Call, Case
from lstm_harness.model.protocol import (
    AnswerMade,
    Draw,
    Judged,
    JudgeProof,
    JudgeSample,
    MakeAnswer,
    ReadState,
    Request,
)
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.sealed import Sealed
from lstm_kernels.problem import Problem

Reply = TypeVar("Reply")

TIMEOUT_S = 1800.0
# A whole-sequence product may be made by another library, or another unit of the device, than
# torch.mm's; four times the rate torch.mm reaches is out of reach for either.
UNREACHABLE = 4.0


def impossible_ns(made: AnswerMade, case: Case) -> float:
    """A time too short to have computed everything; it is not a floor, but a gate."""
    return case.problem.flops(case.pass_name) / (UNREACHABLE * made.product_flops) * 1e9


class Oracle:
    """Finds answers on demand, and compares the results of workers with them.

    The process starts by `start` or with the first question, and again if it ended.
    """

    def __init__(self, settings: WorkerSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._worker: WorkerProcess | None = None
        self._known: dict[tuple[Problem, Call], AnswerMade] = {}

    def start(self) -> None:
        """Start the process, which imports torch while others do; the first question awaits it."""
        with suppress(Failed):  # which the first question tells
            self._live()

    def know(self, problem: Problem, call: Call = PLAIN) -> AnswerMade:
        """Find the answer to a problem that is called so.

        Raises:
            Failed: it could not be.
        """
        if (problem, call) not in self._known:
            self._known[problem, call] = self._ask(MakeAnswer(problem, self._seed, call))
        return self._known[problem, call]

    def judge_proof(self, problem: Problem, taken: Sealed, call: Call = PLAIN) -> Judged:
        """Compare the results of a cell's first execution with the answer.

        Raises:
            Failed: it could not be judged.
        """
        return self._ask(JudgeProof(problem, self._seed, taken.place, taken.handed, call))

    def judge_sample(
        self, problem: Problem, draw: Draw, execution: int, taken: Sealed, call: Call = PLAIN
    ) -> Judged:
        """Compare one execution of a sample with the right result for its inputs.

        Raises:
            Failed: it could not be judged.
        """
        place, handed = taken.place, taken.handed
        return self._ask(JudgeSample(problem, self._seed, draw, execution, place, handed, call))

    def state(self) -> Mapping[str, Any] | None:
        """The machine's load and clocks now; None if the worker does not know."""
        with suppress(Failed):
            return self._ask(ReadState()).state
        return None

    def pids(self) -> list[int]:
        """The worker's process id, if there is one."""
        return [self._worker.pid] if self._worker else []

    def close(self) -> None:
        """End the worker."""
        if self._worker:
            self._worker.close()
            self._worker = None

    def _ask(self, request: Request[Reply]) -> Reply:
        """Ask the process; if somebody ended it, ask a fresh one once."""
        try:
            return self._live().ask(request, TIMEOUT_S)
        except Failed as failure:
            if failure.status != "crashed":
                raise
        try:
            return self._live().ask(request, TIMEOUT_S)
        except Failed as failure:
            reason = f"its result could not be checked: {failure.reason}"
            raise Failed(failure.status, reason) from None

    def _live(self) -> WorkerProcess:
        if self._worker is None or not self._worker.alive:
            self.close()
            self._worker = WorkerProcess(self._settings, "oracle")
            for request in self._settings.first:
                self._worker.ask(request)
        return self._worker
