"""The search for launch parameters, on a device whose times and mishaps a test makes up."""

import inspect
import math
import random

import pytest

from lstm_harness.cli.options import takes_problems
from lstm_harness.model.case import Case
from lstm_harness.tune import search
from lstm_harness.tune.search import Finding, Measured, Stopwatch, TuningKey, in_order
from lstm_kernels import Problem

# What spreads the medians of one choice: from process to process, and within one.
BETWEEN, WITHIN = 0.01, 0.005


class FakeDevice:
    """Takes the times it is told, with noise; a choice's mishap stands in the place of its time."""

    def __init__(self, seed=0, between=BETWEEN, within=WITHIN, cost_s=0.1):
        self.random = random.Random(seed)
        self.between, self.within, self.cost_s = between, within, cost_s
        self.now_s = 0.0
        self.process = {}
        self.measured = []
        self.renewed = 0

    def measure(self, key, choice, share_s):
        self.now_s += share_s + self.cost_s
        self.measured.append((key.name, choice["name"], share_s))
        true_us = choice["us"]
        if isinstance(true_us, str):
            return Measured(true_us, f"{choice['name']} is {true_us}", compile_ms=2.0)
        own_luck = self.process.setdefault(choice["name"], self.random.gauss(0, self.between))
        noise = own_luck + self.random.gauss(0, self.within)
        return Measured("ok", "", true_us * 1e3 * math.exp(noise), compile_ms=2.0)

    def renew(self, ahead):
        self.renewed += 1
        self.process = {}

    def watch(self, budget_s=1e9):
        return Stopwatch(budget_s, now=lambda: self.now_s)


def key(*times, name="a key", **problem):
    """A key whose candidates take these times in µs, or meet these mishaps."""
    sizes = {"seq_len": 64, "batch": 16, "input_size": 256, "hidden_size": 256}
    candidates = tuple({"name": f"choice {n}", "us": us} for n, us in enumerate(times))
    return TuningKey(name, Case(Problem("lstm", **(sizes | problem)), "forward"), candidates)


def found(asked, device=None) -> Finding:
    device = device or FakeDevice()
    (finding,) = search.search([asked], device, device.watch())
    return finding


@pytest.mark.parametrize("seed", range(20))
def test_a_faster_candidate_is_found_and_its_gain_told(seed):
    finding = found(key(100, 130, 99, 80, 95, 101, 120), FakeDevice(seed))
    assert finding.status == "tuned"
    assert finding.choice["name"] == "choice 3"
    ratio, low, high = finding.ratio
    assert low < ratio < high < 1
    assert abs(ratio - 0.8) < 0.05
    assert abs(finding.own_us[0] - 100) < 5
    assert abs(finding.tuned_us[0] - 80) < 5
    assert (finding.tried, finding.failures) == (7, ())


def test_the_best_is_set_against_the_own_choice_in_fresh_processes_in_turns():
    device = FakeDevice()
    found(key(100, 80), device)
    duel = [name for _, name, share_s in device.measured[-8:]]
    a, b = "choice 0", "choice 1"
    assert duel == [a, b, b, a, b, a, a, b]
    assert device.renewed == 4


def test_identical_candidates_keep_the_own_choice():
    keys, duels, kept = 200, 0, 0
    for seed in range(keys):
        finding = found(key(*[100] * 10), FakeDevice(seed))
        kept += finding.status == "kept"
        duels += finding.ratio is not None
    assert kept >= 0.95 * keys
    # The search alone, the fastest of ten, would have been fooled.
    assert duels > 0.3 * keys


def test_without_the_interval_identical_candidates_would_be_kept(monkeypatch):
    monkeypatch.setattr(search, "is_faster", lambda ratio: ratio[0] <= 1 - search.LEAST_GAIN)
    noisy = [found(key(*[100] * 10), FakeDevice(seed, between=0.05)) for seed in range(100)]
    assert sum(finding.status == "tuned" for finding in noisy) > 10


def test_a_gain_that_is_not_worth_it_is_not_kept():
    quiet = {"between": 1e-4, "within": 1e-4}
    assert found(key(100, 98.5), FakeDevice(**quiet)).status == "kept"
    assert found(key(100, 97), FakeDevice(**quiet)).status == "tuned"


def test_a_gain_within_the_noise_is_not_kept():
    outcomes = [found(key(100, 95), FakeDevice(seed, between=0.2)).status for seed in range(40)]
    assert outcomes.count("tuned") <= 4


@pytest.mark.parametrize("mishap", ["incorrect", "crashed", "timed_out", "out_of_memory", "error"])
def test_a_candidate_that_fails_costs_itself_alone(mishap):
    finding = found(key(100, mishap, 80, mishap))
    assert (finding.status, finding.choice["name"]) == ("tuned", "choice 2")
    assert [failure.status for failure in finding.failures] == [mishap] * 2
    assert finding.failures[0].reason == f"choice 1 is {mishap}"


def test_where_every_other_candidate_fails_the_own_choice_is_kept():
    finding = found(key(100, "incorrect", "crashed"))
    assert (finding.status, len(finding.failures)) == ("kept", 2)


@pytest.mark.parametrize("mishap", ["incorrect", "crashed"])
def test_an_own_choice_that_fails_is_told_and_nothing_kept(mishap):
    finding = found(key(mishap, 80))
    assert (finding.status, finding.choice) == (mishap, None)
    assert not finding.is_result


class FailsLater(FakeDevice):
    """Choice 1 is wrong from its third measurement on: in the duel."""

    def measure(self, key, choice, share_s):
        measured = super().measure(key, choice, share_s)
        names = [name for _, name, _ in self.measured]
        late = choice["name"] == "choice 1" and names.count("choice 1") > 2
        return Measured("incorrect", "wrong at last") if late else measured


def test_what_fails_in_the_duel_is_not_kept():
    finding = found(key(100, 50), FailsLater())
    assert finding.status == "kept"
    assert [failure.reason for failure in finding.failures] == ["wrong at last"]


def test_hopeless_candidates_are_measured_once():
    device = FakeDevice()
    found(key(100, 300, 200, 150, 90), device)
    names = [name for _, name, _ in device.measured]
    assert [names.count(f"choice {n}") for n in (1, 2, 3)] == [1, 1, 1]


def test_the_search_ends_in_time_and_gives_up_what_it_began():
    keys = [key(100, 80, name=f"key {n}") for n in range(10)]
    device = FakeDevice()
    one_s = len(list(search.search(keys[:1], device, device.watch()))) and device.now_s
    device = FakeDevice()
    done = list(search.search(keys, device, device.watch(budget_s=2.5 * one_s)))
    assert [finding.key.name for finding in done] == ["key 0", "key 1"]
    assert device.now_s < 2.5 * one_s + search.LONG_S + device.cost_s
    assert device.measured[-1][0] == "key 2"


def test_compiling_is_summed_apart():
    device = FakeDevice()
    watch = device.watch()
    first, second = search.search([key(100, 120, "error"), key(100, 200)], device, watch)
    assert watch.compile_s == pytest.approx(0.002 * len(device.measured))
    assert first.compile_s + second.compile_s == pytest.approx(watch.compile_s)
    assert first.tuning_s + second.tuning_s == pytest.approx(watch.spent_s)
    assert watch.spent_s == device.now_s


def test_the_most_telling_keys_come_first():
    sizes = [
        {"dtype": dtype, "hidden_size": H, "batch": B}
        for H in (128, 256, 512, 768, 1024, 2048)
        for dtype in ("float32", "bfloat16", "float16")
        for B in (1, 64, 16)
    ]
    ordered = [each.case.problem for each in in_order([key(100, **size) for size in sizes])]
    telling = [
        p.dtype != "float32" and 256 <= p.hidden_size <= 1024 and p.batch > 1 for p in ordered
    ]
    assert telling == sorted(telling, reverse=True)
    assert sum(telling) == 16
    first = ordered[0]
    assert (first.dtype, first.hidden_size, first.batch) == ("float16", 768, 16)


def test_what_goes_on_is_told():
    device, told = FakeDevice(), []
    list(search.search([key(100, 80)], device, device.watch(), lambda k, doing: told.append(doing)))
    assert told[:2] == ["candidate 1 of 2", "candidate 2 of 2"]
    assert told[-1] == "duel, round 4 of 4"


def test_a_suites_budget_is_for_its_run():
    given = []
    presets = {"time_budget_s": search.DEFAULT_BUDGET_S}
    takes = takes_problems(search.DEFAULT_AXES, ("plugin", *search.SETTINGS), presets)
    command = takes(lambda spec: given.append(spec))
    unset = dict.fromkeys(inspect.signature(command).parameters)
    command(**unset | {"suite": "sweep"})
    command(**unset | {"suite": "sweep", "time_budget_s": 7.0})
    command(**unset)
    assert [spec.time_budget_s for spec in given] == [300.0, 7.0, 300.0]
    assert given[0].grids[0]["hidden"] != given[2].grids[0]["hidden"]
    assert given[2].grids[0]["dtype"] == ("float16", "bfloat16", "float32")
