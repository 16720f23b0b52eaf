"""Engine `local`: one task on each device of this host at a time."""

from collections import deque

import pytest

from lstm_harness.fleet import local
from lstm_harness.fleet.local import CPU, VISIBLE, LocalEngine, devices_listed, gpus_here
from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import MeasuringFailed

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-a)
  MIG 3g.20gb     Device  0: (UUID: MIG-a0)
  MIG 3g.20gb     Device  1: (UUID: MIG-a1)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-b)
"""


class Process:
    """A task's process that ends when it is told to."""

    started: "deque[Process]"

    def __init__(self, task, folder, environment):
        self.task, self.visible = task, environment.get(VISIBLE)
        self.is_over = self.asked = self.stopped = False
        self.started.append(self)

    def ended(self, place):
        return Ended(self.task.name, place=place) if self.is_over else None

    def ask_to_end(self):
        self.asked = True

    def stop(self):
        self.stopped = True


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(local, "TaskProcess", Process)
    monkeypatch.setattr(local, "_MOMENT_S", 0.0)
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(Process, "started", deque(), raising=False)
    return Process.started


def tasks(count, device="cuda"):
    return [Task(f"task-{number}", device, {}) for number in range(count)]


def test_every_gpu_has_one_task_at_a_time(started):
    engine = LocalEngine(("GPU-a", "GPU-b"))
    engine.submit(tasks(3))
    assert engine.poll() == []
    assert [process.visible for process in started] == ["GPU-a", "GPU-b"]
    started[1].is_over = True
    assert engine.poll() == [Ended("task-1", place="GPU-b")]
    assert engine.poll() == []
    assert [process.visible for process in started] == ["GPU-a", "GPU-b", "GPU-b"]
    engine.cancel()
    assert [(p.asked, p.stopped) for p in started] == [(True, True), (False, False), (True, True)]


@pytest.mark.parametrize("gpus", [(), ("GPU-a", "GPU-b")])
def test_a_cpu_is_one_device(started, gpus, monkeypatch):
    monkeypatch.setattr(local, "gpus_here", lambda: ())
    engine = LocalEngine(gpus)
    engine.submit(tasks(2, "cpu"))
    engine.poll()
    assert [(process.task.name, process.visible) for process in started] == [("task-0", None)]
    engine.cancel()


def test_a_device_that_refused_gets_no_more_tasks(started):
    engine = LocalEngine(("GPU-a", "GPU-b"))
    engine.submit(tasks(1), {"GPU-a"})
    engine.poll()
    assert started[0].visible == "GPU-b"
    with pytest.raises(MeasuringFailed, match="no device of this host may measure the plan"):
        engine.submit(tasks(1), {"GPU-b"})
    engine.cancel()


def test_a_gpu_that_is_split_counts_as_its_parts():
    assert devices_listed(LISTED) == ("MIG-a0", "MIG-a1", "GPU-b")


def test_visible_devices_are_all_there_are(monkeypatch):
    monkeypatch.setenv(VISIBLE, "2, 3")
    assert gpus_here() == ("2", "3")
    monkeypatch.setenv(VISIBLE, "")
    assert gpus_here() == ()


def test_a_host_without_the_driver_has_its_cpu(monkeypatch, tmp_path):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_here() == ()
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{LISTED}'\n")
    program.chmod(0o755)
    assert gpus_here() == devices_listed(LISTED)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpus_here() == ()
    assert CPU == "cpu"
