"""When a cell has enough samples, on a pass whose times a test makes up."""

from types import SimpleNamespace

import pytest

from lstm_harness.model.protocol import Reading
from lstm_harness.race import sampler
from lstm_harness.race.sampler import (
    FEWEST_A_TURN,
    SHORTEST_SAMPLE_NS,
    Sampler,
    StopRule,
    choose_repeats,
    collect,
    relative_half_width,
)


class SimulatedPass:
    """Executions that take the times of `times`, the last one for ever after."""

    def __init__(self, monkeypatch, *times, prepare_ns=0):
        self.times = list(times)
        self.prepare_ns = prepare_ns
        self.now_ns = 0
        self.samples = []
        clock = SimpleNamespace(monotonic=lambda: self.now_ns / 1e9)
        monkeypatch.setattr(sampler, "time", clock)

    def take(self, repeats):
        spent = sum(self._next() for _ in range(repeats))
        self.now_ns += spent + repeats * self.prepare_ns
        self.samples.append((repeats, spent))
        return Reading(elapsed_ns=spent)

    def _next(self):
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def rule(**given):
    return StopRule(**({"min_samples": 10, "rel_ci": 0.02, "budget_s": 1.0} | given))


def test_steady_pass_stops_by_its_interval(monkeypatch):
    steady = SimulatedPass(monkeypatch, 1_000_000)
    samples = collect(steady.take, rule(budget_s=100.0))
    assert (samples.stopped_by, len(samples.readings)) == ("rel_ci", 10)


def test_noisy_pass_stops_by_its_budget(monkeypatch):
    noise = [1_000_000 * (1 + number % 2) for number in range(100_000)]
    noisy = SimulatedPass(monkeypatch, *noise)
    samples = collect(noisy.take, rule(fixed_repeats=1))
    assert samples.stopped_by == "budget"
    assert noisy.now_ns == pytest.approx(1e9, rel=0.01)


def test_slow_pass_gets_its_fewest_samples_though_the_budget_is_spent(monkeypatch):
    slow = SimulatedPass(monkeypatch, 10**9)
    samples = collect(slow.take, rule(min_samples=4, budget_s=0.1))
    assert (samples.stopped_by, len(samples.readings)) == ("budget", 4)


@pytest.mark.parametrize("execution_ns", [1, 900, 70_000, 199_999, 200_000, 5_000_000])
@pytest.mark.parametrize("budget_s", [0.0, 0.5])
def test_no_sample_of_a_steady_pass_is_too_short(monkeypatch, execution_ns, budget_s):
    steady = SimulatedPass(monkeypatch, execution_ns)
    samples = collect(steady.take, rule(budget_s=budget_s))
    assert min(reading.elapsed_ns for reading in samples.readings) >= SHORTEST_SAMPLE_NS
    assert set(samples.per_execution_ns()) == {execution_ns}


@pytest.mark.parametrize("budget_s", [0.0, 0.02])
def test_no_sample_is_too_short_though_the_first_execution_was_slow(monkeypatch, budget_s):
    slow_at_first = SimulatedPass(monkeypatch, 30_000_000, *[400_000] * 3, 50_000)
    samples = collect(slow_at_first.take, rule(budget_s=budget_s))
    assert min(reading.elapsed_ns for reading in samples.readings) >= SHORTEST_SAMPLE_NS


def test_repeats_are_fixed_where_the_case_asks_for_it(monkeypatch):
    short = SimulatedPass(monkeypatch, 1_000)
    samples = collect(short.take, rule(fixed_repeats=1))
    assert samples.inner_repeats == 1
    assert {repeats for repeats, _ in short.samples} == {1}


def test_warming_up_is_not_among_the_samples(monkeypatch):
    warming = SimulatedPass(
        monkeypatch, 9_000_000, 5_000_000, 3_000_000, *[2_000_000] * 9, 1_000_000
    )
    samples = collect(warming.take, rule(budget_s=10.0))
    assert max(samples.per_execution_ns()) < 5_000_000


def test_warming_up_ends_though_the_pass_never_settles(monkeypatch):
    ever_faster = [int(10**9 * 0.9**number) for number in range(60)]
    faster = SimulatedPass(monkeypatch, *ever_faster)
    collect(faster.take, rule(budget_s=1000.0, min_samples=1, fixed_repeats=1))
    assert faster.now_ns < 1000e9
    slow = SimulatedPass(monkeypatch, 10**9)
    collect(slow.take, rule(budget_s=1.0, min_samples=1))
    assert len(slow.samples) <= 3


def test_half_width_narrows_with_samples_and_knows_when_it_cannot_tell():
    few = [Reading(elapsed_ns=ns) for ns in (1000, 2000)]
    assert relative_half_width(few) == pytest.approx(1 / 3)
    many = [Reading(elapsed_ns=1000 + number % 100) for number in range(1000)]
    assert relative_half_width(many) < 0.01
    assert relative_half_width([Reading(elapsed_ns=5)] * 10) == 0


def test_a_large_budget_repeats_a_short_pass_no_more_than_a_sample_needs():
    assert choose_repeats(1_000_000, budget_s=10_000.0) == 2
    assert choose_repeats(10_000_000, budget_s=10_000.0) == 1


def test_in_turns_the_samples_add_up_and_time_between_turns_does_not_count(monkeypatch):
    steady = SimulatedPass(monkeypatch, 1_000_000)
    turns = Sampler(steady.take, rule(budget_s=0.1, rel_ci=-1.0))
    turns.warm_up()
    count = 0
    while not turns.has_enough:
        turns.turn(0.0015)
        count += 1
        steady.now_ns += 10**10
    samples = turns.samples()
    assert len(samples.turns) == count
    assert sum(samples.turns) == len(samples.readings) >= 10
    assert min(samples.turns) >= FEWEST_A_TURN
    assert steady.now_ns - count * 10**10 < 1.1e8
    assert samples.stopped_by == "budget"


def test_a_turn_begins_with_a_sample_that_does_not_count(monkeypatch):
    slow_after_a_pause = SimulatedPass(monkeypatch, 300_000)
    turns = Sampler(slow_after_a_pause.take, rule(fixed_repeats=1))
    turns.warm_up()
    for _ in range(4):
        slow_after_a_pause.times = [9_000_000, 300_000]
        turns.turn(0.001)
    assert set(turns.samples().per_execution_ns()) == {300_000}


def test_a_repeat_that_turns_out_short_is_kept_once_a_turn_was_taken(monkeypatch):
    faster_later = SimulatedPass(monkeypatch, 1_000_000)
    turns = Sampler(faster_later.take, rule())
    turns.warm_up()
    turns.turn(0.001)
    faster_later.times = [1_000]
    turns.turn(0.001)
    samples = turns.samples()
    assert samples.inner_repeats == 2
    assert {1_000, 1_000_000} == set(samples.per_execution_ns())


def test_each_sample_that_counts_is_told_of_before_the_next_is_taken(monkeypatch):
    steady = SimulatedPass(monkeypatch, 1_000_000)
    told = []
    turns = Sampler(
        steady.take,
        rule(),
        counted=lambda reading: told.append((reading, len(steady.samples))),
    )
    turns.warm_up()
    warm_ups = len(steady.samples)
    turns.turn(0.005)
    turns.turn(0.005)
    samples = turns.samples()
    assert tuple(reading for reading, _ in told) == samples.readings
    # Each turn began with one that does not count.
    first, second = samples.turns
    places = [*range(2, first + 2), *range(first + 3, first + second + 3)]
    assert [taken - warm_ups for _, taken in told] == places


def test_it_is_told_where_samples_do_not_count_any_more(monkeypatch):
    slow_at_first = SimulatedPass(monkeypatch, 30_000_000, *[400_000] * 8, 40_000)
    counting, dropped = [], []

    def drop():
        dropped.extend(counting)
        counting.clear()

    turns = Sampler(slow_at_first.take, rule(budget_s=0.02), counted=counting.append, dropped=drop)
    turns.warm_up()
    turns.turn(None)
    assert dropped == [Reading(400_000)] * 8
    assert tuple(counting) == turns.samples().readings


@pytest.mark.parametrize("most", [1, 7, 1_000_000])
def test_a_sample_has_no_more_executions_than_it_may_have(monkeypatch, most):
    short = SimulatedPass(monkeypatch, 1_000)
    sampling = Sampler(short.take, rule(), most_repeats=lambda: most)
    sampling.warm_up()
    sampling.turn(None)
    assert sampling.samples().inner_repeats == min(most, 2_000)


def test_where_it_may_have_no_more_a_short_sample_is_kept(monkeypatch):
    slow_at_first = SimulatedPass(monkeypatch, 30_000_000, 1_000)
    dropped = []
    sampling = Sampler(
        slow_at_first.take,
        rule(budget_s=0.02),
        most_repeats=lambda: 5,
        dropped=lambda: dropped.append(1),
    )
    sampling.warm_up()
    sampling.turn(None)
    assert set(sampling.samples().per_execution_ns()) == {1_000}
    assert sampling.samples().inner_repeats == 5
    assert len(dropped) == 1
