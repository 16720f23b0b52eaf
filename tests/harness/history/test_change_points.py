"""Noise is not accused, steps are found: on simulated series with known truth."""

import numpy as np
import pytest

from lstm_harness.history.change_points import LEAST_RUNS, WINDOW, change_points

LENGTHS = (10, 12, 20, 50, 100, 200)
SERIES = 150


def share(made, of=SERIES):
    """How many of so many made series have a step found."""
    return sum(bool(change_points(np.exp(made()))) for _ in range(of)) / of


@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("spread", [0.01, 0.05])
def test_pure_noise_has_no_step(count, spread):
    rng = np.random.default_rng(count)
    assert share(lambda: rng.normal(0, spread, count)) <= 0.05


@pytest.mark.parametrize("count", LENGTHS)
def test_noise_with_heavy_tails_has_none(count):
    rng = np.random.default_rng(count)
    assert share(lambda: 0.02 * rng.standard_t(3, count)) <= 0.05


@pytest.mark.parametrize("count", LENGTHS)
def test_two_modes_that_take_turns_by_chance_have_none(count):
    rng = np.random.default_rng(count)

    def modes():
        return rng.normal(0, 0.005, count) + 0.05 * (rng.random(count) < 0.5)

    assert share(modes) <= 0.06


@pytest.mark.parametrize("count", LENGTHS)
def test_a_spell_of_noise_is_no_step(count):
    """Up to a quarter of the runs spread eight times as far as the others."""
    rng = np.random.default_rng(count)

    def spell():
        spread = np.full(count, 0.015)
        first = rng.integers(0, count)
        spread[first : first + rng.integers(1, max(2, count // 4))] *= 8
        return rng.normal(0, spread)

    assert share(spell) <= 0.12


@pytest.mark.parametrize("count", LENGTHS)
def test_noise_that_follows_itself_is_no_step(count):
    """Each run's noise holds 0.3 of that of the run before."""
    rng = np.random.default_rng(count)

    def following():
        noise = rng.normal(0, 0.02, count)
        for place in range(1, count):
            noise[place] += 0.3 * noise[place - 1]
        return noise

    assert share(following) <= 0.1


def test_a_step_is_found_beside_a_spell_of_noise():
    rng = np.random.default_rng(7)
    right = 0
    for _ in range(100):
        spread = np.full(80, 0.015)
        spread[10:25] = 0.12
        logs = rng.normal(0, spread)
        logs[50:] += np.log(1.1)
        right += any(abs(at - 50) <= 2 for at in change_points(np.exp(logs)))
    assert right >= 95


def test_one_wild_run_is_no_step():
    rng = np.random.default_rng(1)

    def wild():
        logs = rng.normal(0, 0.02, 60)
        logs[rng.integers(0, 60)] += 0.7
        return logs

    assert share(wild) <= 0.05


def test_the_same_noise_with_a_step_in_it_is_accused():
    rng = np.random.default_rng(2)
    step = np.repeat([0, 0.1], 30)
    assert share(lambda: rng.normal(0, 0.02, 60) + step) == 1


@pytest.mark.parametrize(
    ("before", "after", "size", "spread"),
    [(10, 10, 0.10, 0.02), (10, 10, -0.10, 0.02), (30, 5, 0.10, 0.02), (100, 100, 0.05, 0.02)],
)
def test_a_step_is_found_where_it_is(before, after, size, spread):
    rng = np.random.default_rng(3)
    right = 0
    for _ in range(200):
        logs = rng.normal(0, spread, before + after)
        logs[before:] += np.log1p(size)
        found = change_points(np.exp(logs))
        right += len(found) == 1 and abs(found[0] - before) <= 3
    assert right >= 190


def test_up_and_down_again_are_two_steps():
    rng = np.random.default_rng(4)
    right = 0
    for _ in range(100):
        logs = rng.normal(0, 0.02, 60)
        logs[20:40] += 0.1
        right += len(change_points(np.exp(logs))) == 2
    assert right >= 95


def test_a_step_is_believed_at_its_third_run():
    quiet = np.full(20, 1000.0) * np.exp(np.random.default_rng(5).normal(0, 0.01, 20))
    assert change_points(np.append(quiet, [1200.0] * (LEAST_RUNS - 1))) == []
    assert change_points(np.append(quiet, [1200.0] * LEAST_RUNS)) == [20]


def test_steps_of_a_series_of_many_windows_are_found_once_each():
    rng = np.random.default_rng(6)
    for _ in range(20):
        count = 5 * WINDOW + 17
        true = np.sort(rng.choice(np.arange(10, count - 10, 40), 6, replace=False))
        logs = rng.normal(0, 0.01, count)
        for place in true:
            logs[place:] += rng.choice([-0.1, 0.1])
        found = change_points(np.exp(logs))
        assert len(found) == len(true)
        assert np.abs(np.array(found) - true).max() <= 2


@pytest.mark.parametrize("count", range(2 * LEAST_RUNS))
def test_too_few_runs_have_no_step(count):
    assert change_points(np.array([1.0, 9.0, 1.0, 9.0, 1.0, 9.0][:count])) == []


@pytest.mark.parametrize("times", [[5.0] * 30, [7.0] * 6, [5.0] * 10 + [5.001] * 10])
def test_a_machine_that_repeats_itself_is_not_accused_of_rounding(times):
    assert change_points(np.array(times)) == []


def test_a_step_without_any_noise_is_found():
    assert change_points(np.array([100.0] * 5 + [110.0] * 5)) == [5]
