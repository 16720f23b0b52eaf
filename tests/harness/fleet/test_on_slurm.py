"""Engine `slurm`, with a queue that a test holds: what it submits, finds again, and calls lost."""

import json
import sys
from types import SimpleNamespace

import pytest

from lstm_harness.fleet import on_slurm
from lstm_harness.fleet.on_slurm import LOOK_S, SlurmEngine
from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import Exit, MeasuringFailed, UserError


class FailedSubmissionError(RuntimeError):
    """As submitit's."""


class FailedJobError(RuntimeError):
    """As submitit's, of an sbatch that refuses."""


class Slurm:
    """A queue of jobs, and the submissions that filled it."""

    def __init__(self):
        self.queue = {}
        self.parameters = []
        self.refuses: type[RuntimeError] | None = None
        self.cancelled = []

    def executor(self, folder):
        def map_array(function, folders):
            if self.refuses:
                raise self.refuses("Invalid partition")
            first = len(self.queue)
            ids = [f"7_{first + place}" for place in range(len(folders))]
            self.queue |= dict(zip(ids, folders, strict=True))
            self.function = function
            return [SimpleNamespace(job_id=each) for each in ids]

        return SimpleNamespace(
            update_parameters=lambda **given: self.parameters.append(given), map_array=map_array
        )

    def run(self, command, **_):
        if command[0] == "scancel":
            self.cancelled += command[1:]
        said = {"squeue": "\n".join(self.queue), "sinfo": "gpu:h100:8\n"}.get(command[0], "")
        return SimpleNamespace(returncode=0, stdout=said)


@pytest.fixture
def slurm(monkeypatch):
    made = Slurm()
    utils = SimpleNamespace(
        FailedSubmissionError=FailedSubmissionError, FailedJobError=FailedJobError
    )
    module = SimpleNamespace(SlurmExecutor=made.executor, core=SimpleNamespace(utils=utils))
    monkeypatch.setitem(sys.modules, "submitit", module)
    monkeypatch.setattr(on_slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(on_slurm, "subprocess", SimpleNamespace(run=made.run))
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        on_slurm, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=lambda seconds: None)
    )
    made.clock = clock
    return made


@pytest.fixture
def engine(slurm, tmp_path):
    return lambda *sbatch: SlurmEngine(tmp_path / "tasks", tmp_path / "jobs", sbatch)


def tasks(*names, device="cpu"):
    return [Task(name, device, {"id": name}) for name in names]


def leave(slurm, folder, monkeypatch, **how):
    """Have a job carry its task out."""
    monkeypatch.setenv("SLURMD_NODENAME", "node-a")
    ended = Ended(folder.name, **how)
    process = SimpleNamespace(wait=lambda place: ended)
    monkeypatch.setattr(on_slurm, "TaskProcess", lambda *given: process)
    slurm.function(folder)


def look(engine, slurm):
    slurm.clock.now += LOOK_S
    return engine.poll()


def test_tasks_are_arrays_on_nodes_of_their_own(slurm, engine):
    made = engine("partition=gpu", "--hold")
    made.submit(tasks("a", "b", device="cuda"), {"node-b", "node-a"})
    (given,) = slurm.parameters
    assert given["exclusive"] is True
    assert given["gpus_per_node"] == 1
    assert given["exclude"] == "node-a,node-b"
    options = {"requeue": True, "partition": "gpu", "hold": True}
    assert given["additional_parameters"] == options
    assert len(slurm.queue) == 2
    made.submit(tasks("c"))
    assert not {"gpus_per_node", "exclude"} & slurm.parameters[1].keys()
    made.submit(tasks("d", device="auto"))
    assert slurm.parameters[2]["gpus_per_node"] == 1, "this Slurm has GPUs"


def test_what_tasks_share_is_written_once(slurm, engine, monkeypatch, tmp_path):
    shared = {"manifests": ["large"]}
    engine().submit([Task(name, "cpu", {"id": name}, shared) for name in "ab"])
    (file,) = (tmp_path / "tasks").glob("shared-*.json")
    assert json.loads(file.read_text()) == shared
    assert "large" not in (slurm.queue["7_0"] / "order.json").read_text()
    monkeypatch.setenv("SLURMD_NODENAME", "node-a")
    seen = []

    def carried_out(task, *_):
        seen.append(task)
        return SimpleNamespace(wait=lambda place: Ended(task.name, {"base/run.json": b"{}"}))

    monkeypatch.setattr(on_slurm, "TaskProcess", carried_out)
    slurm.function(slurm.queue["7_1"])
    assert seen == [Task("b", "cpu", {"id": "b"}, shared)]
    assert (slurm.queue["7_1"] / "ended" / "base" / "run.json").read_bytes() == b"{}"


def test_a_result_is_told_once_with_its_files(slurm, engine, monkeypatch):
    made = engine()
    made.submit(tasks("a", "b"))
    folder = slurm.queue["7_0"]
    leave(slurm, folder, monkeypatch, files={"run.json": b"{}"}, place="node-a")
    assert made.poll() == [Ended("a", {"run.json": b"{}"}, place="node-a")]
    assert made.poll() == []
    leave(slurm, slurm.queue["7_1"], monkeypatch, code=Exit.USAGE, said="no", place="node-a")
    assert made.poll() == [Ended("b", code=Exit.USAGE, said="no", place="node-a")]
    made.submit(tasks("b"))
    assert slurm.queue["7_2"].name == "b", "one that was told is submitted again"
    assert made.poll() == []


def test_an_interrupted_job_leaves_nothing_and_a_second_copy_changes_nothing(
    slurm, engine, monkeypatch
):
    made = engine()
    made.submit(tasks("a"))
    folder = slurm.queue["7_0"]
    leave(slurm, folder, monkeypatch, code=Exit.INTERRUPTED)
    assert made.poll() == []
    first = Ended("a", {"run.json": b"1"})
    on_slurm._leave(first, folder)
    on_slurm._leave(Ended("a", {"run.json": b"2"}), folder)
    assert made.poll() == [first]
    assert [path.name for path in folder.iterdir() if path.suffix == ".new"] == []
    leave(slurm, folder, monkeypatch, files={"run.json": b"3"})
    assert json.loads((folder / "order.json").read_text())["name"] == "a"
    on_slurm._leave(first, folder / "gone")


def test_a_job_that_left_the_queue_without_a_result_is_lost_at_the_second_look(slurm, engine):
    made = engine()
    made.submit(tasks("a", "b"))
    assert look(made, slurm) == []
    del slurm.queue["7_0"]
    assert look(made, slurm) == []
    assert made.poll() == []
    (lost,) = look(made, slurm)
    assert (lost.name, lost.code) == ("a", Exit.MEASURING_FAILED)
    slurm.run, answering = lambda *_, **__: SimpleNamespace(returncode=1, stdout=""), slurm.run
    on_slurm.subprocess.run = slurm.run
    assert look(made, slurm) == []
    assert look(made, slurm) == [], "a Slurm that does not answer loses nothing"
    on_slurm.subprocess.run = answering


def test_the_next_coordinator_finds_jobs_and_results(slurm, engine, monkeypatch):
    engine().submit(tasks("a", "b", "c"))
    leave(slurm, slurm.queue["7_1"], monkeypatch, files={"run.json": b"{}"})
    del slurm.queue["7_2"]
    again = engine()
    again.submit(tasks("a", "b", "c"))
    assert list(slurm.queue) == ["7_0", "7_1", "7_2"]
    assert slurm.queue["7_2"].name == "c", "it was lost"
    assert again.poll() == [Ended("b", {"run.json": b"{}"})]
    again.cancel()
    assert slurm.cancelled == ["7_0", "7_2"]


@pytest.mark.parametrize("refusal", [FailedSubmissionError, FailedJobError])
def test_what_cannot_be_submitted_is_told(slurm, engine, refusal):
    slurm.refuses = refusal
    with pytest.raises(MeasuringFailed, match="sbatch refused the tasks: Invalid partition"):
        engine().submit(tasks("a"))
    with pytest.raises(UserError, match="expected an option of sbatch, like partition=gpu"):
        engine("=gpu")
