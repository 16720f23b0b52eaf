"""A cell's visit to its worker, and turns, with workers that answer as a test says."""

from dataclasses import replace

import pytest

from lstm_harness.model.case import Case
from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.protocol import (
    CellOpened,
    CloseCell,
    OpenCell,
    StopRule,
    TakeTurn,
    TurnTaken,
)
from lstm_harness.model.record import Record
from lstm_harness.race import visit
from lstm_harness.race.process import Failed
from lstm_harness.race.visit import FEWEST_TURNS, TURN_S, Visit, take_turns
from lstm_kernels import Problem

CASE = Case(Problem("lstm", 1, 1, 4, 4), "forward")
CELL = PlannedCell(0, 0, "naive", CASE, None)
RECORD = Record(0, 0, "naive", CASE, "ok", samples_ns=(5,))


class PretendedWorker:
    """Has enough after so many turns; fails at one of them, if told to."""

    def __init__(self, name, turns, log, fails_at=None):
        self.name, self.turns, self.log, self.fails_at = name, turns, log, fails_at
        self.taken = 0
        self.timeouts = []

    def ask(self, request, timeout_s):
        self.timeouts.append(timeout_s)
        if isinstance(request, OpenCell):
            return CellOpened({"y": 0.0}, 1e-5)
        if isinstance(request, CloseCell):
            self.log.append(f"{self.name} closed")
            return RECORD
        assert isinstance(request, TakeTurn)
        self.taken += 1
        if self.taken == self.fails_at:
            raise Failed("crashed", "it fell")
        self.log.append(self.name if request.at_most_s == TURN_S else f"{self.name} alone")
        return TurnTaken(self.taken >= self.turns or request.at_most_s is None)


def both(a_turns, b_turns, a_fails_at=None):
    log = []
    workers = PretendedWorker("A", a_turns, log, a_fails_at), PretendedWorker("B", b_turns, log)
    visits = [Visit(CELL, worker, 60.0) for worker in workers]
    take_turns(visits)
    return log, visits


def test_one_alone_is_sampled_in_one_go():
    log = []
    alone = Visit(CELL, PretendedWorker("A", 1, log), 60.0)
    take_turns([alone])
    assert log == ["A alone", "A closed"]
    assert alone.outcome.record() is RECORD


def test_two_are_sampled_in_turn_as_often_the_one_as_the_other():
    log, visits = both(1, 1)
    assert log[:8] == ["A", "B", "B", "A", "A", "B", "B", "A"]
    assert log[-2:] == ["A closed", "B closed"]
    assert log.count("A") == log.count("B") == FEWEST_TURNS
    assert [one.outcome.status for one in visits] == ["ok", "ok"]


def test_they_go_on_until_both_have_enough():
    log, _ = both(3, FEWEST_TURNS + 5)
    assert log.count("A") == log.count("B") == FEWEST_TURNS + 5


def test_where_one_falls_the_other_goes_on_alone():
    log, (fallen, other) = both(20, 20, a_fails_at=3)
    assert (fallen.outcome.status, fallen.outcome.reason) == ("crashed", "it fell")
    assert "B alone" in log
    assert "A closed" not in log
    assert other.outcome.status == "ok"
    assert fallen.outcome.record().status == "crashed"


def test_the_time_of_a_cell_is_for_all_its_steps_together(monkeypatch):
    now_s = iter(range(0, 1000, 10))
    monkeypatch.setattr(visit.time, "monotonic", lambda: float(next(now_s)))
    worker = PretendedWorker("A", 1, [])
    one = Visit(CELL, worker, 25.0)
    job = OpenCell(0, 0, "naive", CASE, 0, "", StopRule(1, 0.1, 1.0), 0.0, False, False, ())
    one.open(job)
    one.turn(None)
    one.close()
    assert worker.timeouts == [25.0, 15.0, 5.0]


def test_a_record_of_another_cell_is_not_taken():
    class Mistaken(PretendedWorker):
        def ask(self, request, timeout_s):
            reply = super().ask(request, timeout_s)
            return replace(reply, backend="aten") if isinstance(reply, Record) else reply

    one = Visit(CELL, Mistaken("A", 1, []), 25.0)
    take_turns([one])
    assert one.outcome.status == "crashed"
    assert one.outcome.reason == f"the worker told of another cell: aten on {CASE.label()}"


def test_late_it_says_which_flag_to_raise():
    class Late(PretendedWorker):
        def ask(self, request, timeout_s):
            raise Failed("timed_out", "no answer")

    one = Visit(CELL, Late("A", 1, []), 25.0)
    one.turn(None)
    assert one.outcome.reason == "took over 25 s; raise --cell-timeout"


@pytest.mark.parametrize("status", ["incorrect", "crashed"])
def test_what_failed_is_a_record_with_its_reason(status):
    outcome = visit.Outcome(CELL, status, "why", {"y": 0.5})
    record = outcome.record()
    assert (record.status, record.reason, record.errors) == (status, "why", {"y": 0.5})
