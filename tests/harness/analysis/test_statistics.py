"""The interval of a mean, against scipy's own; one value a group, and many groups at once."""

import math

import numpy as np
import pytest
from scipy import stats

from lstm_harness.analysis.statistics import geometric_means, half_width, mean_interval


@pytest.mark.parametrize("values", [(1.0, 2.0, 4.0), (0.3, -0.1, 0.2, 0.25, 0.31), (5.0,) * 4])
def test_the_interval_is_students(values):
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(np.mean(values))
    spread = stats.sem(values)
    expected = stats.t.interval(0.95, len(values) - 1, mean, spread) if spread else (mean, mean)
    assert (low, high) == pytest.approx(expected)


@pytest.mark.parametrize("values", [(), (2.0,), (2.0, 4.0)])
def test_below_three_values_there_is_no_interval(values):
    mean, low, high = mean_interval(values)
    assert math.isnan(low)
    assert math.isnan(high)
    assert mean == pytest.approx(np.mean(values)) if values else math.isnan(mean)


def test_groups_at_once_are_each_groups_own():
    groups = {0: [0.1, 0.4, 0.2], 1: [1.0, 1.1], 2: [2.0, 2.5, 2.2, 2.1]}
    numbers = np.array([group for group, logs in groups.items() for _ in logs])
    logs = np.array([log for logs in groups.values() for log in logs])
    mean, low, high = geometric_means(numbers, logs, 3)
    assert np.isnan([mean[1], low[1], high[1]]).all()
    for group in (0, 2):
        alone = [math.exp(end) for end in mean_interval(groups[group])]
        assert [mean[group], low[group], high[group]] == pytest.approx(alone)


def test_the_half_width_grows_with_the_error_and_shrinks_with_freedom():
    assert half_width(2.0, 4.0) == pytest.approx(2 * half_width(1.0, 4.0))
    assert half_width(1.0, 100.0) < half_width(1.0, 4.0)
