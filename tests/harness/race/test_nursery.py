"""Forked workers: what each is given, how each ends, and that none outlives who asked for it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from waiting import PATIENCE_S, until

from lstm_harness.model.protocol import ListBackends, NameDevice
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.strangers import has_not_ended

PRINTS = """
import json, os, sys, lstm_harness
print(json.dumps([os.environ["WHO"], os.getcwd(), sys.argv[1:], "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def forking():
    made = Nursery(threads=1)
    yield made
    made.close()


def settings(folder, **fields):
    return WorkerSettings("cpu", folder, 1, **fields)


def test_a_program_has_the_arguments_environment_and_folder_it_was_started_with(forking, tmp_path):
    (tmp_path / "prints.py").write_text(PRINTS)
    for who in ("first", "second"):
        folder = tmp_path / who
        folder.mkdir()
        variables = os.environ | {"WHO": who, "PYTHONPATH": str(tmp_path)}
        with (tmp_path / "log").open("wb") as log:
            program = forking.start(["prints", "a", "b"], variables, log, folder)
        out = program.stdout.read().decode()
        assert program.wait(PATIENCE_S) == 0, (tmp_path / "log").read_text()
        assert out == f'["{who}", "{folder}", ["a", "b"], true]\n'
        program.stdin.close()
        program.stdout.close()


def test_workers_of_one_nursery_hold_different_kernels(forking, tmp_path):
    package = tmp_path / "lstm_kernels"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not these kernels')")
    ours = WorkerProcess(settings(tmp_path), "ours", forking)
    theirs = WorkerProcess(settings(tmp_path, kernels=tmp_path), "theirs", forking)
    assert ours.ask(ListBackends()).backends
    with pytest.raises(Failed, match="not these kernels"):
        theirs.ask(ListBackends())
    ours.close()


def test_a_worker_has_no_file_of_the_nursery_or_of_another_worker(forking, tmp_path):
    workers = [WorkerProcess(settings(tmp_path), name, forking) for name in "ab"]
    for worker in workers:
        worker.ask(NameDevice())
    links = []
    for worker in workers:
        for file in Path(f"/proc/{worker.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                links.append(str(file.readlink()))
    assert [link for link in links if link.startswith("socket")] == []
    pipes = [link for link in links if link.startswith("pipe")]
    assert len(pipes) == len(set(pipes)) == 4
    for worker in workers:
        worker.close()


def test_a_worker_can_be_ended_in_the_moment_it_is_started(forking, tmp_path):
    for number in range(50):
        worker = WorkerProcess(settings(tmp_path), f"short-{number}", forking)
        assert os.getpgid(worker.pid) == worker.pid
        worker.close()
        assert not worker.alive


def test_a_worker_that_ends_says_how(forking, tmp_path):
    worker = WorkerProcess(settings(tmp_path), "mortal", forking)
    worker.ask(NameDevice())
    os.kill(worker.pid, signal.SIGSEGV)
    with pytest.raises(Failed, match="was killed by SIGSEGV"):
        worker.ask(NameDevice())


def test_without_its_nursery_a_worker_is_lost_and_the_next_starts_by_itself(tmp_path):
    nursery = Nursery(threads=1)
    lost = WorkerProcess(settings(tmp_path), "lost", nursery)
    lost.ask(NameDevice())
    os.kill(nursery.pid, signal.SIGKILL)
    until(lambda: not lost.alive)
    lost.close()
    alone = WorkerProcess(settings(tmp_path), "alone", nursery)
    assert alone.ask(NameDevice()).device == "cpu"
    alone.close()
    nursery.close()


def test_nobody_outlives_the_harness(tmp_path):
    program = f"""
import os, pathlib
from lstm_harness.model.protocol import NameDevice
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.process import WorkerProcess, WorkerSettings
nursery = Nursery()
worker = WorkerProcess(WorkerSettings("cpu", pathlib.Path({str(tmp_path)!r})), "worker", nursery)
worker.ask(NameDevice())
print(nursery.pid, worker.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    nursery, worker = map(int, done.stdout.split())
    until(lambda: not (has_not_ended(nursery) or has_not_ended(worker)))
