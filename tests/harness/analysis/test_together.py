"""One ratio of many cases, block by block."""

import math

import pytest

from lstm_harness.analysis.together import of_all


def of(blocks, times):
    return {"block_ids": tuple(blocks), "block_medians_ns": tuple(times)}


def test_the_interval_is_that_of_the_blocks():
    over, under = of([0, 1, 2], [2, 2, 2]), of([0, 1, 2], [1, 1, 1])
    ratio = of_all([(over, under), (under, under)])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2**0.5,) * 3)


def test_what_slows_a_whole_block_hits_both_alike():
    over, under = of([0, 1, 2], [20, 2, 200]), of([0, 1, 2], [10, 1, 100])
    assert of_all([(over, under)]).low == pytest.approx(2)


def test_only_blocks_count_that_all_have():
    whole, part = of([0, 1, 2], [1, 1, 1]), of([2], [3])
    ratio = of_all([(whole, whole), (part, part)])
    assert ratio.value == 1
    assert math.isnan(ratio.low)
    assert of_all([(whole, of([5], [1]))]) is None
    assert of_all([]) is None
