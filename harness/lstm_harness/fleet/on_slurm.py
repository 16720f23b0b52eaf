"""Engine `slurm`: arrays of jobs, by submitit. The run's folder must be on a shared file system.

    <tasks>/shared-<digest>.json  what many tasks share
    <tasks>/<name>/order.json     what to do, and which of these files belongs to it
    <tasks>/<name>/job            the id of its job
    <tasks>/<name>/ended/         what came of it, whole

A job may outlive the coordinator: the next one finds it in the queue, or finds what came of it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lstm_harness.fleet.process import ORDER, TaskProcess, files_in, own_environment
from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import Exit, MeasuringFailed, UserError
from lstm_harness.model.reading import content_of
from lstm_harness.model.strict_json import parsed
from lstm_harness.store.files import replace_whole, unfinished

# Slurm's default for the size of an array.
MOST_IN_ARRAY = 1000
# How often the queue is looked at. A job that is missing in two looks, and left nothing, was lost:
# a result may appear on a shared file system after its job has left the queue.
LOOK_S = 5.0
_MOMENT_S = 0.5
_JOB = "job"
_ENDED = "ended"
_ENDED_FACTS = "ended.json"


class SlurmEngine:
    """Gives every task to Slurm at once, each with a whole node and at most one GPU.

    Args:
        tasks, jobs: folders on a file system that all nodes share.
        sbatch: further options of sbatch: `partition=gpu`.
    Raises:
        UserError: submitit is not installed, or an option has no name. `MeasuringFailed`: no Slurm.
    """

    def __init__(self, tasks: Path, jobs: Path, sbatch: Sequence[str] = ()) -> None:
        try:
            import submitit
        except ModuleNotFoundError:
            raise UserError(
                "--engine slurm needs submitit: pip install 'lstm-bench[fleet]'"
            ) from None
        if not shutil.which("sbatch"):
            raise MeasuringFailed("no Slurm on this host: sbatch is not on the path")
        self._submitit: Any = submitit
        self._tasks, self._jobs = tasks, jobs
        self._options = dict(_option(text) for text in sbatch)
        self._running: dict[str, str] = {}
        self._told: set[str] = set()
        self._gone: set[str] = set()
        self._looked_s = 0.0
        self._shared: tuple[Mapping[str, Any] | None, str] = (None, "")

    def submit(self, tasks: Sequence[Task], avoiding: Collection[str] = ()) -> None:
        """Submit these as arrays, except those that are in the queue or have ended already."""
        queue = self._queue()
        fresh = [task for task in tasks if not self._is_found(task, queue)]
        for first in range(0, len(fresh), MOST_IN_ARRAY):
            self._submit_array(fresh[first : first + MOST_IN_ARRAY], avoiding)

    def poll(self) -> list[Ended]:
        """The tasks that left a result, and those that left the queue without one."""
        over = [
            _read(self._tasks / name / _ENDED, name)
            for name in self._running
            if (self._tasks / name / _ENDED).exists()
        ]
        over = over or self._lost()
        for ended in over:
            del self._running[ended.name]
            self._told.add(ended.name)
        if not over:
            time.sleep(_MOMENT_S)  # Slurm tells nobody that a job ended
        return over

    def cancel(self) -> None:
        """Take every task out of the queue."""
        if self._running:
            subprocess.run(["scancel", *self._running.values()], check=False, capture_output=True)
        self._running.clear()

    def _is_found(self, task: Task, queue: Collection[str] | None) -> bool:
        """Find a task of an earlier coordinator, if it has ended or may be under way."""
        folder = self._tasks / task.name
        if task.name in self._told:
            self._told.remove(task.name)
            return False
        job = (folder / _JOB).read_text() if (folder / _JOB).exists() else ""
        is_queued = bool(job) and (queue is None or job in queue)
        if not is_queued and not (folder / _ENDED).exists():
            return False
        self._running[task.name] = job
        return True

    def _submit_array(self, tasks: Sequence[Task], avoiding: Collection[str]) -> None:
        folders = [self._tasks / task.name for task in tasks]
        for task, folder in zip(tasks, folders, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            facts = {"name": task.name, "device": task.device, "order": task.order}
            facts |= {"shared": self._stored(task.shared)}
            replace_whole(folder / ORDER, json.dumps(facts).encode())
        executor = self._submitit.SlurmExecutor(self._jobs)
        device = tasks[0].device
        on_gpu = (
            {"gpus_per_node": 1} if device == "cuda" or (device == "auto" and _has_gpus()) else {}
        )
        exclude = {"exclude": ",".join(sorted(avoiding))} if avoiding else {}
        executor.update_parameters(
            job_name="lstm-bench",
            time=None,  # the partition's own
            wckey=None,
            exclusive=True,
            use_srun=False,  # a step of srun's would have one core of the node
            additional_parameters={"requeue": True, **self._options},
            **on_gpu,
            **exclude,
        )
        utils = self._submitit.core.utils
        try:
            jobs = executor.map_array(_carry_out, folders)
        except (utils.FailedSubmissionError, utils.FailedJobError) as error:  # no answer, or a no
            raise MeasuringFailed(f"sbatch refused the tasks: {error}") from None
        for task, folder, job in zip(tasks, folders, jobs, strict=True):
            replace_whole(folder / _JOB, job.job_id.encode())
            self._running[task.name] = job.job_id

    def _stored(self, shared: Mapping[str, Any]) -> str:
        """The name of the file of what tasks share; it is written once."""
        if self._shared[0] is not shared:
            content = json.dumps(shared).encode()
            name = f"shared-{hashlib.sha256(content).hexdigest()}.json"
            replace_whole(self._tasks / name, content)
            self._shared = shared, name
        return self._shared[1]

    def _lost(self) -> list[Ended]:
        """The tasks that are missing in the queue for the second time."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return []
        self._looked_s = time.monotonic()
        queue = self._queue()
        if queue is None:
            return []
        gone = {name for name, job in self._running.items() if job not in queue}
        lost, self._gone = gone & self._gone, gone
        said = "it was lost: its job left the queue without a result"
        return [Ended(name, code=Exit.MEASURING_FAILED, said=said) for name in sorted(lost)]

    def _queue(self) -> set[str] | None:
        """The ids of this user's jobs that have not ended; None if Slurm does not answer."""
        asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
        answer = subprocess.run(asked, check=False, capture_output=True, text=True)
        return set(answer.stdout.split()) if answer.returncode == 0 else None


def _has_gpus() -> bool:
    """Whether Slurm has nodes with GPUs."""
    asked = ["sinfo", "--noheader", "--format=%G"]
    return "gpu" in subprocess.run(asked, check=False, capture_output=True, text=True).stdout


def _option(text: str) -> tuple[str, str | bool]:
    name, equals, value = text.removeprefix("--").partition("=")
    if not name:
        raise UserError(f"--sbatch {text!r}; expected an option of sbatch, like partition=gpu")
    return name, value if equals else True


def _carry_out(folder: Path) -> None:
    """Carry out the task of a folder on this node, in a fresh process.

    What was interrupted leaves nothing, so that Slurm may begin it again.
    """
    if not (folder / ORDER).exists() or (folder / _ENDED).exists():
        return  # another copy of the task was faster
    facts = parsed(content_of(folder / ORDER))
    task = Task(**facts | {"shared": parsed(content_of(folder.parent / facts["shared"]))})
    place = os.environ["SLURMD_NODENAME"]
    with TemporaryDirectory(prefix="lstm-bench-fleet-", ignore_cleanup_errors=True) as scratch:
        ended = TaskProcess(task, Path(scratch) / "task", own_environment()).wait(place)
    if ended.code != Exit.INTERRUPTED:
        _leave(ended, folder)


def _leave(ended: Ended, folder: Path) -> None:
    """Leave what came of a task in its folder, in one step, unless another copy did."""
    fresh = unfinished(folder / _ENDED)
    try:
        fresh.mkdir()
    except FileNotFoundError:  # the run is whole, and its folder has no tasks any more
        return
    facts = {"code": ended.code, "said": ended.said, "place": ended.place}
    replace_whole(fresh / _ENDED_FACTS, json.dumps(facts).encode())
    for name, content in ended.files.items():
        (fresh / name).parent.mkdir(exist_ok=True)
        replace_whole(fresh / name, content)
    try:
        fresh.rename(folder / _ENDED)
    except OSError:
        if not (folder / _ENDED).exists():
            raise
        shutil.rmtree(fresh)


def _read(folder: Path, name: str) -> Ended:
    files = files_in(folder)
    return Ended(name, files=files, **parsed(files.pop(_ENDED_FACTS)))
