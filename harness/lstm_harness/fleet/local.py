"""Engine `local`: the GPUs of this host, one process on each; without a GPU, its CPU."""

import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lstm_harness.fleet.process import TaskProcess, own_environment
from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import MeasuringFailed

CPU = "cpu"
VISIBLE = "CUDA_VISIBLE_DEVICES"
_MOMENT_S = 0.2
# `GPU 0: NVIDIA H100 (UUID: GPU-1)`; below one that is split, `MIG 1g Device 0: (UUID: MIG-2)`.
_LISTED = re.compile(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)")


class LocalEngine:
    """Runs one task on each device at a time.

    Args:
        gpus: as CUDA_VISIBLE_DEVICES names them; all of this host if there are none.
    """

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        self._gpus = tuple(gpus) or gpus_here()
        self._folder = TemporaryDirectory(prefix="lstm-bench-fleet-", ignore_cleanup_errors=True)
        self._waiting: deque[Task] = deque()
        self._running: dict[str, TaskProcess] = {}
        self._avoided: set[str] = set()
        self._started = 0

    def submit(self, tasks: Sequence[Task], avoiding: Collection[str] = ()) -> None:
        """Have these wait for a device."""
        self._avoided |= set(avoiding)
        self._waiting.extend(tasks)
        if any(not self._places(task) for task in tasks):
            raise MeasuringFailed(
                "no device of this host may measure the plan: each refused a part; see the warnings"
            )

    def poll(self) -> list[Ended]:
        """The tasks that ended; others begin on the devices that are free."""
        self._begin()
        over = []
        for place, process in list(self._running.items()):
            ended = process.ended(place)
            if ended:
                del self._running[place]
                over.append(ended)
        if not over:
            time.sleep(_MOMENT_S)  # several processes are looked at; none tells that it ended
        return over

    def cancel(self) -> None:
        """End every task."""
        self._waiting.clear()
        for process in self._running.values():
            process.ask_to_end()
        for process in self._running.values():
            process.stop()
        self._running.clear()
        self._folder.cleanup()

    def _begin(self) -> None:
        while self._waiting:
            places = self._places(self._waiting[0])
            free = [place for place in places if place not in self._running]
            if not free:
                return
            self._running[free[0]] = self._start(self._waiting.popleft(), free[0])

    def _start(self, task: Task, place: str) -> TaskProcess:
        self._started += 1
        device = {} if place == CPU else {VISIBLE: place}
        folder = Path(self._folder.name) / f"{self._started}"
        return TaskProcess(task, folder, own_environment() | device)

    def _places(self, task: Task) -> list[str]:
        all_places = (CPU,) if task.device == CPU or not self._gpus else self._gpus
        return [place for place in all_places if place not in self._avoided]


def gpus_here() -> tuple[str, ...]:
    """The GPUs of this host, or those of CUDA_VISIBLE_DEVICES; the parts of one that is split."""
    if (visible := os.environ.get(VISIBLE)) is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ()
    return devices_listed(listed.stdout) if listed.returncode == 0 else ()


def devices_listed(text: str) -> tuple[str, ...]:
    """The devices in the output of `nvidia-smi -L`."""
    found: list[str] = []
    for name in _LISTED.findall(text):
        if name.startswith("MIG") and found and found[-1].startswith("GPU"):
            found.pop()
        found.append(name)
    return tuple(found)
