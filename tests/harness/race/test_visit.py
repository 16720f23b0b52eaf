"""A cell's visit to its worker, and turns, with workers and a judge that answer as a test says."""

import gc
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from open_files import held

from lstm_harness.model.case import PLAIN, Case
from lstm_harness.model.plan import PlannedCell
from lstm_harness.model.protocol import (
    AnswerMade,
    CellClosed,
    CellOpened,
    CloseCell,
    Done,
    DrawGradients,
    Execute,
    HandOver,
    Judged,
    OpenCell,
    PrepareSample,
    Reading,
    Trial,
)
from lstm_harness.race import sampler, track, visit
from lstm_harness.race.process import Failed, Spent
from lstm_harness.race.sampler import FEWEST_A_TURN, StopRule
from lstm_harness.race.track import PAUSES_S, SAMPLES_AGAIN
from lstm_harness.race.visit import FEWEST_TURNS, TURN_S, Job, Visit, take_turns
from lstm_harness.worker.handing import HandedOut
from lstm_kernels import Problem

PROBLEM = Problem("lstm", 1, 1, 4, 4)
OUTPUTS = {"y": 0.25, "h_n": 0.0, "c_n": 0.0}
GRADIENTS = {"d_x": 0.5, "d_w_hh": 0.125}
BOUND = 0.75
# What a problem's gradients were allowed.
WIDER = 2.0
EXECUTION_NS = 5_000_000
MESSAGE_NS = 100_000
JOB = Job(0, StopRule(4, 0.1, 10.0, 1), 1, True, False, False, (1, 2))


@pytest.fixture
def now(monkeypatch):
    """A machine whose time passes where a worker works."""
    machine = SimpleNamespace(ns=0, stolen_ms=0.0, helped_ms=0.0)

    def sleep(seconds):
        machine.ns += round(seconds * 1e9)

    clock = SimpleNamespace(monotonic=lambda: machine.ns / 1e9, sleep=sleep)
    for module in (visit, track, sampler):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(track, "steal_ms", lambda: machine.stolen_ms)
    monkeypatch.setattr(track, "children_ms", lambda pid: machine.helped_ms)
    return machine


class PretendedWorker:
    """Does what it is asked in no time but that of its executions, and that of messages."""

    pid = os.getpid()

    def __init__(self, now, name="A", log=None):
        self.now, self.name, self.log = now, name, log
        self.asked, self.timeouts, self.spent, self.spent_together = [], [], None, None
        self.ran_on = []
        self.strangers = 0
        self.repeats, self.out = 0, HandedOut()

    def ask(self, request, timeout_s):
        self.asked.append(request)
        self.timeouts.append(timeout_s)
        before_ns = self.now.ns
        reply = self.answer(request)
        self.now.ns += MESSAGE_NS
        took_ns = self.now.ns - before_ns
        self.spent = Spent(took_ns, took_ns - MESSAGE_NS)
        return reply

    def ask_together(self, requests, timeout_s, goes_on=False):
        self.ran_on += [list(map(type, requests))] if goes_on else []
        before_ns = self.now.ns
        answered = [(self.ask(request, timeout_s), self.spent) for request in requests]
        took_ns = self.now.ns - before_ns
        self.spent_together = Spent(took_ns, took_ns)
        return answered

    def answer(self, request):
        match request:
            case OpenCell():
                makes_gradients = request.case.pass_name in ("backward", "train")
                both = request.with_gradients and not makes_gradients
                return CellOpened(self.hand(2 if both else 1), 3.0, 50.0)
            case PrepareSample():
                self.repeats = request.repeats
                return Done()
            case DrawGradients():
                return Done()
            case Execute():
                return self.reading(self.repeats)
            case HandOver():
                return self.hand(self.repeats)
            case CloseCell():
                return CellClosed(("kernel",), ("busy",), (), 7, 8, None)
        raise AssertionError(request)

    def reading(self, repeats):
        self.now.ns += repeats * EXECUTION_NS
        return Reading(repeats * EXECUTION_NS, cpu_ns=5)

    def hand(self, executions):
        return self.out.hand([{"y": [torch.zeros(1)]}] * executions)

    def end_strangers(self):
        return self.strangers

    def of(self, kind):
        """What it was asked of a kind."""
        return [each for each in self.asked if isinstance(each, kind)]


class PretendedOracle:
    """Finds everything right, or what a test says."""

    def __init__(self, proof=None, sample=None, product_flops=1e15, rows=None):
        self.proof = proof or Judged(OUTPUTS | GRADIENTS, "")
        self.sample = sample or Judged({}, "")
        self.known = AnswerMade(product_flops, BOUND, rows)
        self.judged = []

    def know(self, problem, call):
        return self.known

    def judge_proof(self, problem, taken, call):
        assert Path(taken.place).exists()
        return self.proof

    def judge_sample(self, problem, draw, execution, taken, call):
        assert Path(taken.place).exists()
        self.judged.append((draw, execution))
        return self.sample


@pytest.fixture
def visiting(now):
    """A visit, opened."""

    def go(worker=None, oracle=None, job=JOB, pass_name="forward", opened=True, **how):
        case = Case(PROBLEM, pass_name, device=how.pop("device", "cpu"))
        cell = PlannedCell(2, 1, "naive", case, None)
        of_all = {"timeout_s": 600.0, "proved": {}} | how
        worker, oracle = worker or PretendedWorker(now), oracle or PretendedOracle()
        one = Visit(cell, job, worker, oracle, **of_all)
        if opened:
            one.open()
        return one

    return go


def measured(one):
    """Its record, once it was sampled to its end."""
    take_turns([one])
    return one.outcome.record()


class Logged(Visit):
    """Notes its turns, as long as they go well."""

    def turn(self, at_most_s):
        before = self.outcome
        super().turn(at_most_s)
        if self.outcome is before:
            name = self.worker.name
            self.worker.log.append(name if at_most_s == TURN_S else f"{name} alone")

    def close(self):
        super().close()
        self.worker.log.append(f"{self.worker.name} closed")


def both(now, a_turns, b_turns, a_fails_at=None):
    """Two cells in turn, each with enough after so many turns; what happened, and their visits."""
    log, visits = [], []

    class Falling(PretendedWorker):
        def reading(self, repeats):
            if self.name == "A" and len(log) == a_fails_at:
                raise Failed("crashed", "it fell")
            return super().reading(repeats)

    for name, turns in (("A", a_turns), ("B", b_turns)):
        cell = PlannedCell(0, 0, "naive", Case(PROBLEM, "forward"), None)
        job = replace(JOB, stop=StopRule(turns * FEWEST_A_TURN, 0.1, 100.0, 1))
        visits.append(Logged(cell, job, Falling(now, name, log), PretendedOracle(), 600.0, {}))
        visits[-1].open()
    take_turns(visits)
    return log, visits


def test_one_alone_is_sampled_in_one_go(now):
    log = []
    worker = PretendedWorker(now, "A", log)
    cell = PlannedCell(0, 0, "naive", Case(PROBLEM, "forward"), None)
    alone = Logged(cell, JOB, worker, PretendedOracle(), 600.0, {})
    alone.open()
    take_turns([alone])
    assert log == ["A alone", "A closed"]
    assert alone.outcome.status == "ok"


def test_two_are_sampled_in_turn_as_often_the_one_as_the_other(now):
    log, visits = both(now, 1, 1)
    assert log[:8] == ["A", "B", "B", "A", "A", "B", "B", "A"]
    assert log[-2:] == ["A closed", "B closed"]
    assert log.count("A") == log.count("B") == FEWEST_TURNS
    assert [one.outcome.status for one in visits] == ["ok", "ok"]
    assert visits[0].outcome.record().turns == (FEWEST_A_TURN,) * FEWEST_TURNS


def test_they_go_on_until_both_have_enough(now):
    log, _ = both(now, 3, FEWEST_TURNS + 5)
    assert log.count("A") == log.count("B") == FEWEST_TURNS + 5


def test_where_one_falls_the_other_goes_on_alone(now):
    log, (fallen, other) = both(now, 20, 20, a_fails_at=3)
    assert (fallen.outcome.status, fallen.outcome.reason) == ("crashed", "it fell")
    assert log == ["A", "B", "B", "B alone", "B closed"]
    assert other.outcome.status == "ok"
    assert fallen.outcome.record().status == "crashed"


def test_the_record_tells_what_was_measured_and_what_stands_beside(visiting, now):
    record = measured(visiting(oracle=PretendedOracle(rows=(0, 2, 3))))
    assert (record.block, record.order, record.backend) == (1, 2, "naive")
    assert set(record.samples_ns) == {EXECUTION_NS}
    assert len(record.samples_ns) == len(record.cpu_ns) >= JOB.stop.min_samples
    assert (record.inner_repeats, record.stopped_by) == (1, "rel_ci")
    assert (record.errors, record.tolerance) == (OUTPUTS | GRADIENTS, BOUND)
    assert (record.oracle_rows, record.unranked) == (3, "")
    assert (record.kernels, record.warnings) == (("kernel",), ("busy",))
    assert (record.peak_bytes, record.saved_bytes) == (7, 8)
    # The first execution took 50 ms; an ordinary one takes 5, and 0.1 to prepare.
    assert (record.setup_ms, record.compile_ms) == (3.0, pytest.approx(44.9))


@pytest.mark.parametrize("pass_name", ["inference", "forward", "backward", "train"])
def test_each_sample_has_inputs_that_follow_from_new_words(visiting, now, pass_name):
    worker, oracle = PretendedWorker(now), PretendedOracle()
    if pass_name in ("backward", "train"):
        worker.hand = lambda n: worker.out.hand([{"d_x": [torch.zeros(1)]}] * n)
    assert measured(visiting(worker, oracle, pass_name=pass_name)).status == "ok"
    words = [each.inputs for each in worker.of(PrepareSample)]
    words += [each.gradients for each in worker.of(DrawGradients)]
    (opened,) = worker.of(OpenCell)
    words.append(opened.weights)
    assert len(set(words)) == len(words)
    assert min(map(len, words)) >= 16
    # What the judge is told is what the worker was told, of samples that were taken.
    told = {
        (each.inputs, after.gradients if isinstance(after, DrawGradients) else None)
        for each, after in zip(worker.asked, worker.asked[1:], strict=False)
        if isinstance(each, PrepareSample)
    }
    starts = pass_name in ("backward", "train")
    asked = {(draw.inputs, draw.gradients if starts else None) for draw, _ in oracle.judged}
    assert 1 < len(asked) == len(oracle.judged)
    assert asked <= told
    assert {draw.weights for draw, _ in oracle.judged} == {opened.weights}


@pytest.mark.parametrize("pass_name", ["backward", "train"])
def test_what_gradients_start_from_is_told_last_before_the_clock_starts(visiting, now, pass_name):
    worker = PretendedWorker(now)
    visiting(worker, pass_name=pass_name).turn(None)
    kinds = [type(each) for each in worker.asked if not isinstance(each, OpenCell | HandOver)]
    assert kinds == [PrepareSample, DrawGradients, Execute] * (len(kinds) // 3)


@pytest.mark.parametrize("pass_name", ["inference", "forward", "backward", "train"])
def test_a_worker_runs_on_between_the_two_parts_of_a_backwards_sample(visiting, now, pass_name):
    worker = PretendedWorker(now)
    visiting(worker, pass_name=pass_name).turn(None)
    parts = len(worker.of(Execute)) if pass_name == "backward" else 0
    assert worker.ran_on == [[PrepareSample]] * parts


def test_samples_that_were_picked_are_given_back_at_the_end(visiting):
    gc.collect()  # what earlier tests left
    before = held("memfd:handed")
    one = visiting()
    one.turn(None)
    # What the worker handed over last, and what was picked.
    assert held("memfd:handed") - before > 1
    one.close()
    assert held("memfd:handed") - before == 1
    failing = visiting(oracle=PretendedOracle(sample=Judged({}, "y wrong")))
    take_turns([failing])
    assert failing.outcome.status == "incorrect"
    assert held("memfd:handed") - before == 2


def test_what_is_wrong_at_first_is_never_timed(visiting, now):
    worker = PretendedWorker(now)
    one = visiting(worker, PretendedOracle(proof=Judged({"y": 0.5}, "y wrong: off by 0.5")))
    assert one.outcome.record().status == "incorrect"
    assert one.outcome.reason == "y wrong: off by 0.5"
    assert one.outcome.errors == {"y": 0.5}
    assert worker.of(PrepareSample) == []


def test_what_is_wrong_in_a_sample_has_no_times(visiting):
    one = visiting(oracle=PretendedOracle(sample=Judged({"y": 0.5}, "y wrong: off by 0.5")))
    record = measured(one)
    assert (record.status, record.samples_ns) == ("incorrect", ())
    wrong = "the first execution was right, but a sample is wrong"
    assert record.reason == f"{wrong}: y wrong: off by 0.5"


def test_a_sample_that_made_no_gradients_is_wrong(visiting):
    record = measured(visiting(pass_name="train"))
    assert (record.status, record.reason) == ("incorrect", "a sample has no gradients")


def test_time_below_what_the_products_need_is_refused(visiting):
    record = measured(visiting(oracle=PretendedOracle(product_flops=1.0)))
    assert record.status == "incorrect"
    assert "5000.0 µs is below the " in record.reason


@pytest.mark.parametrize("pass_name", ["forward", "train"])
def test_gradients_are_proved_once_for_a_problem_and_its_side(visiting, now, pass_name):
    proved = {}
    first = PretendedWorker(now)
    wider = PretendedOracle(proof=Judged(OUTPUTS | GRADIENTS, "", WIDER))
    visiting(first, wider, pass_name=pass_name, proved=proved)
    assert first.of(OpenCell)[0].with_gradients
    assert proved == {(0, "naive", PROBLEM, PLAIN): Judged(GRADIENTS, "", WIDER)}
    outputs = PretendedOracle(proof=Judged(OUTPUTS, ""))
    again = PretendedWorker(now)
    record = measured(visiting(again, outputs, pass_name="inference", proved=proved))
    assert not again.of(OpenCell)[0].with_gradients
    assert record.errors == OUTPUTS | GRADIENTS
    assert record.tolerance == WIDER
    for other in ({"side": 1}, {"job": replace(JOB, trial=Trial("key", {"warps": 4}))}):
        anew = PretendedWorker(now)
        visiting(anew, proved=dict(proved), **other)
        assert anew.of(OpenCell)[0].with_gradients


def test_what_a_trial_proved_holds_for_the_trial_alone(visiting):
    proved = {}
    visiting(job=replace(JOB, trial=Trial("key", {})), proved=proved)
    assert proved == {}


def test_a_backend_without_a_backward_is_asked_for_no_gradients(visiting, now):
    worker = PretendedWorker(now)
    oracle = PretendedOracle(proof=Judged(OUTPUTS, ""))
    one = visiting(worker, oracle, replace(JOB, with_gradients=False), "inference")
    assert not worker.of(OpenCell)[0].with_gradients
    assert measured(one).errors == OUTPUTS


def test_where_nothing_is_timed_the_proof_is_its_end(visiting, now):
    worker = PretendedWorker(now)
    one = visiting(worker, job=replace(JOB, proof_only=True))
    assert (one.outcome.status, one.outcome.errors) == ("ok", OUTPUTS | GRADIENTS)
    assert one.outcome.tolerance == BOUND
    assert [type(each) for each in worker.asked] == [OpenCell]


@pytest.mark.parametrize(("at", "says"), [("open", "expected 2"), ("sample", "expected 1")])
def test_more_executions_than_were_asked_for_are_a_crash(visiting, now, at, says):
    worker = PretendedWorker(now)
    hand = worker.hand

    def handed(executions):
        is_sample = bool(worker.of(PrepareSample))
        return hand(executions + ((at == "sample") == is_sample))

    worker.hand = handed
    record = measured(visiting(worker))
    assert record.status == "crashed"
    assert record.reason.endswith(says)


def test_a_worker_that_tells_of_more_time_than_passed_crashed(visiting, now):
    worker = PretendedWorker(now)
    reading = worker.reading
    worker.reading = lambda repeats: replace(reading(repeats), elapsed_ns=6_000_000)
    record = visiting(worker).outcome.record()
    assert record.status == "crashed"
    assert record.reason == "the worker reported a sample of 6.000 ms but replied in 5.200 ms"


def halved(now, until):
    """A worker that tells half of what its samples took, as long as so many were taken."""
    worker = PretendedWorker(now)
    reading, taken = worker.reading, []

    def told(repeats):
        taken.append(repeats)
        whole = reading(repeats)
        part = 2 if len(taken) <= until else 1
        return replace(whole, elapsed_ns=whole.elapsed_ns // part)

    worker.reading = told
    return worker


def test_times_that_are_not_believed_are_kept_and_unranked(visiting, now):
    worker = halved(now, until=1_000)
    record = measured(visiting(worker))
    assert record.status == "ok"
    assert set(record.samples_ns) == {EXECUTION_NS // 2}
    assert "the harness waited 2.600 ms longer for each" in record.unranked
    assert len(worker.of(Execute)) >= len(record.samples_ns) + SAMPLES_AGAIN


def test_who_tells_the_truth_only_while_it_is_doubted_is_not_believed(visiting, now):
    usual = PretendedWorker(now)
    measured(visiting(usual))
    record = measured(visiting(halved(now, until=len(usual.of(Execute)))))
    assert record.status == "ok"
    took = "an execution was reported to take 2.5000 ms"
    doubted = f"{took}, but 5.0000 ms when it was measured again"
    assert record.unranked == doubted


@pytest.mark.parametrize("times", range(len(PAUSES_S) + 2))
def test_a_doubt_that_goes_away_was_a_neighbours(visiting, now, times):
    usual = PretendedWorker(now)
    measured(visiting(usual))
    disturbed = len(usual.of(Execute)) + max(0, times - 1) * SAMPLES_AGAIN if times else 0
    worker = PretendedWorker(now)
    hear = worker.ask

    def heard(request, timeout_s):
        reply = hear(request, timeout_s)
        if isinstance(request, Execute) and len(worker.of(Execute)) <= disturbed:
            worker.spent = replace(worker.spent, wall_ns=worker.spent.wall_ns + 2 * EXECUTION_NS)
        return reply

    worker.ask = heard
    record = measured(visiting(worker))
    assert record.status == "ok"
    assert bool(record.unranked) == (times > len(PAUSES_S))


def test_a_gpus_clock_is_not_held_against_ours(visiting, now):
    record = measured(visiting(halved(now, until=1_000), device="cuda"))
    assert (record.status, record.unranked) == ("ok", "")


def test_processes_that_work_beside_it_are_found_out(visiting, now):
    worker = PretendedWorker(now)
    one = visiting(worker)
    worker.strangers = 2
    assert "it left 2 processes running" in measured(one).unranked
    one = visiting()
    now.helped_ms += 1_000
    assert "worked for 1000 ms during its samples" in measured(one).unranked


def test_what_was_helped_before_its_samples_is_no_doubt(visiting, now):
    now.helped_ms = 1_000.0
    assert measured(visiting()).unranked == ""


def test_a_sample_from_which_time_was_stolen_is_marked(visiting, now):
    worker = PretendedWorker(now)
    one = visiting(worker)
    reading, taken = worker.reading, []

    def robbed(repeats):
        taken.append(repeats)
        now.stolen_ms += 10.0 if len(taken) == 2 else 0.0
        return reading(repeats)

    worker.reading = robbed
    record = measured(one)
    assert record.marked == (1,)
    assert record.steal_ms == (0.0, 10.0) + (0.0,) * (len(record.samples_ns) - 2)


def test_what_throttled_a_sample_stands_in_the_record(visiting, now):
    worker = PretendedWorker(now)
    one = visiting(worker, device="cuda")
    reading, taken = worker.reading, []

    def throttled(repeats):
        taken.append(repeats)
        was = {"marked": True, "throttling": ("power cap",)} if len(taken) == 3 else {}
        return replace(reading(repeats), sm_clock_mhz=1400.0 + len(taken), **was)

    worker.reading = throttled
    record = measured(one)
    assert record.marked == (2,)
    assert record.warnings == ("throttled: power cap", "busy")
    assert 1401.0 < record.sm_clock_mhz < 1400.0 + len(taken)


def test_the_time_of_a_cell_is_for_all_its_steps_together(visiting, now):
    worker = PretendedWorker(now)
    measured(visiting(worker, timeout_s=25.0))
    spent_s = [25.0 - left_s for left_s in worker.timeouts]
    assert spent_s[0] == 0.0
    assert spent_s == sorted(spent_s)
    executions = len(worker.of(Execute))
    passed_s = (executions * EXECUTION_NS + (len(worker.asked) - 1) * MESSAGE_NS) / 1e9
    # The last request is asked alone, after all others.
    assert spent_s[-1] == pytest.approx(passed_s)


def test_time_that_is_used_up_is_none_and_not_less(visiting, now):
    worker = PretendedWorker(now)
    one = visiting(worker, timeout_s=0.02)
    one.turn(None)
    assert min(worker.timeouts) == 0.0


def test_late_it_says_which_flag_to_raise(visiting, now):
    class Late(PretendedWorker):
        def answer(self, request):
            raise Failed("timed_out", "no answer")

    one = visiting(Late(now), timeout_s=25.0)
    assert one.outcome.status == "timed_out"
    assert one.outcome.reason == "took over 25 s; raise --cell-timeout"


def test_a_judge_that_fails_is_a_failure_of_the_cell(visiting):
    class Lost(PretendedOracle):
        def judge_sample(self, *given):
            raise Failed("crashed", "the judge fell")

    record = measured(visiting(oracle=Lost()))
    assert (record.status, record.reason) == ("crashed", "the judge fell")


@pytest.mark.parametrize("status", ["incorrect", "crashed"])
def test_what_failed_is_a_record_with_its_reason(status):
    cell = PlannedCell(0, 0, "naive", Case(PROBLEM, "forward"), None)
    outcome = visit.Outcome(cell, status, "why", {"y": 0.5})
    record = outcome.record()
    assert (record.status, record.reason, record.errors) == (status, "why", {"y": 0.5})
