"""A task in its own process: what it hands over, what it says, and that it ends with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench import environment

from lstm_harness.fleet.process import TaskProcess
from lstm_harness.fleet.task import Task
from lstm_harness.model.errors import Exit
from lstm_harness.model.spec import build

SPEC = build(None, {"seq-len": "2", "batch": "1", "hidden": "4"}, {"device": "cpu", "threads": 1})
PLAN = Task("plan", "cpu", {"id": "whole", "spec": SPEC.to_dict(), "command": ["lstm-bench"]})


def asked(**changes):
    return Task("plan", "cpu", {**PLAN.order, "spec": {**SPEC.to_dict(), **changes}})


def test_a_plan_is_handed_over_whole(tmp_path):
    ended = TaskProcess(PLAN, tmp_path / "task", environment(tmp_path)).wait("here")
    assert (ended.name, ended.code, ended.place) == ("plan", Exit.DONE, "here"), ended.said
    assert set(ended.files) == {"run.json"}
    assert b'"id": "whole"' in ended.files["run.json"]


def test_a_mistake_and_a_failure_are_one_line(tmp_path):
    ended = TaskProcess(asked(backends=["nonesuch"]), tmp_path / "1", environment(tmp_path)).wait()
    assert (ended.refused, ended.files) == (True, {})
    assert ended.said.startswith("unknown backend 'nonesuch'")
    broken = Task("plan", "cpu", {"id": "whole"})
    ended = TaskProcess(broken, tmp_path / "2", environment(tmp_path)).wait()
    assert (ended.code, ended.said) == (Exit.MEASURING_FAILED, "KeyError: 'spec'")


def test_a_node_that_may_not_compare_says_why(tmp_path):
    def said(*names, installed):
        roots = [str(tmp_path / name) for name in names]
        order = {**PLAN.order, "pair": {"revisions": [], "roots": roots, "installed": installed}}
        folder = tmp_path / f"{len(names)}-{installed}"
        ended = TaskProcess(Task("plan", "cpu", order), folder, environment(tmp_path)).wait("here")
        assert ended.refused
        return ended.said

    there = tmp_path / "there" / "lstm_kernels"
    there.mkdir(parents=True)
    (there / "__init__.py").write_text("")
    assert said("there", "gone", installed="x") == (
        f"no kernels in {tmp_path / 'gone'} on this node; ab over a fleet needs an --out on a file "
        "system that all nodes share"
    )
    assert "are not the coordinator's; install the same lstm-bench" in said("there", installed="x")


def test_stopped_it_is_interrupted(tmp_path):
    process = TaskProcess(PLAN, tmp_path / "task", environment(tmp_path))
    assert process.ended() is None
    process.stop()
    assert process.wait().code == Exit.INTERRUPTED


def test_it_ends_with_the_process_that_started_it(tmp_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_process import PLAN, TaskProcess, environment\n"
        "process = TaskProcess(PLAN, Path(sys.argv[1]) / 'task', environment(Path(sys.argv[1])))\n"
        "print(process._process.pid, flush=True); process.wait()"
    )
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 60
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
