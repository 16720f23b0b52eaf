"""Requests to a held worker: when it runs, and which failure is told."""

import subprocess
import sys
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
from waiting import until

from lstm_harness.model.protocol import Execute, NameDevice, PrepareSample
from lstm_harness.race.nursery import Nursery
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.race.waiting import Waiting

# What a worker without a cell refuses.
REFUSED = [PrepareSample("07", 1), NameDevice()]


@pytest.fixture(scope="module")
def nursery():
    made = Nursery(threads=1)
    yield made
    made.close()


@pytest.fixture
def held(nursery, tmp_path):
    worker = WorkerProcess(WorkerSettings("cpu", tmp_path, 1), "held", nursery, held=True)
    worker.ask(NameDevice())
    yield worker
    worker.close()


@pytest.fixture
def signals(held, monkeypatch):
    """What the worker is sent from here on."""
    sent, send = [], held._let
    monkeypatch.setattr(held, "_let", lambda number: send(number) or sent.append(number))
    return sent


def test_a_held_worker_runs_until_its_last_reply(held, signals):
    answered = held.ask_together([NameDevice(), NameDevice()], 60)
    assert [reply.device for reply, _ in answered] == ["cpu", "cpu"]
    assert signals == [SIGCONT, SIGSTOP]
    until(lambda: _state_of(held.pid) == "T")


def test_it_runs_on_where_others_follow_at_once(held, signals):
    held.ask_together([NameDevice()], 60, goes_on=True)
    assert signals == [SIGCONT]
    held.ask_together([NameDevice()], 60)
    assert signals == [SIGCONT, SIGSTOP]


def test_the_time_until_others_follow_is_counted(held):
    ((_, first),) = held.ask_together([NameDevice()], 60, goes_on=True)
    ((_, second),) = held.ask_together([NameDevice()], 60)
    assert held.spent_together.wall_ns == first.wall_ns + second.wall_ns


@pytest.mark.parametrize("goes_on", [False, True])
def test_it_stops_where_one_of_several_requests_fails(held, signals, goes_on):
    with pytest.raises(Failed, match="no cell is open"):
        held.ask_together(REFUSED, 60, goes_on)
    assert signals == [SIGCONT, SIGSTOP]
    assert held.ask(NameDevice()).device == "cpu"


def test_the_first_failure_is_told_where_the_worker_ends_after_it(held, monkeypatch):
    lines = iter([held._read_line])

    def read(timeout_s):
        for line in lines:
            return line(timeout_s)
        raise held._lose(Failed("crashed", "it ended"))

    monkeypatch.setattr(held, "_read_line", read)
    with pytest.raises(Failed, match="no cell is open"):
        held.ask_together([PrepareSample("07", 1), Execute()], 60)
    with pytest.raises(Failed, match="it ended"):
        held.ask(NameDevice())


def test_waiting_is_counted_while_a_process_lives():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    waiting = Waiting(process.pid)
    before_ns = waiting.ns()
    assert 0 <= before_ns <= waiting.ns()
    process.communicate(b"\n")
    assert waiting.ns() >= 0
    waiting.close()
    assert waiting.ns() == 0


def _state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
