"""Kernels compiled ahead on other cores, while a GPU measures: Triton's cache serves both.

Nobody waits for these workers. A kernel that is needed before they reach it is compiled where it
is needed; an error in compiling shows there too.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lstm_harness.model.protocol import CompileJob, CompileKernels
from lstm_harness.race.process import WorkerProcess, WorkerSettings
from lstm_harness.tune.search import TuningKey
from lstm_kernels.gpu.machine_code import ARCHITECTURES

HOOK = "launches_for"

# Cores left for the measuring worker and for this process.
OTHER_CORES = 2
MOST_WORKERS = 16


class Ahead:
    """Workers that compile the kernels of keys' candidates, the first keys first."""

    def __init__(
        self,
        settings: WorkerSettings,
        backend: str,
        plugin: str | None,
        arch: str,
        keys: Sequence[TuningKey],
        cores: int | None = None,
    ) -> None:
        jobs = jobs_of(keys)
        free = (cores or len(os.sched_getaffinity(0))) - OTHER_CORES
        count = max(0, min(free, MOST_WORKERS, len(jobs)))
        on_cpu = replace(settings, device="cpu", threads=1)
        self._workers = [WorkerProcess(on_cpu, f"compiler-{number}") for number in range(count)]
        for number, worker in enumerate(self._workers):
            jobs_of_one = CompileKernels(backend, plugin, arch, jobs[number::count])
            worker.send(*settings.first, jobs_of_one)

    def close(self) -> None:
        """End them, whether or not they are done."""
        for worker in self._workers:
            worker.close()


def jobs_of(keys: Iterable[TuningKey]) -> tuple[CompileJob, ...]:
    """A job for each candidate, in the order of measurement."""
    return tuple(
        CompileJob(key.name, key.case.problem, choice) for key in keys for choice in key.candidates
    )


def arch_of(capability: str) -> str | None:
    """The architecture of a compute capability like "9.0", if kernels are compiled for it."""
    name = "sm_" + capability.replace(".", "")
    return name if name in ARCHITECTURES else None
