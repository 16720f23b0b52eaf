"""Ratios of two cells, against the truth and against the ranking's own."""

import math

import pytest
from synthetic_runs import blocks, case, grid

from lstm_harness.analysis import ratios
from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.summary import plain_rows, summarise


def rows_of(records):
    return {(row["backend"], row["pass"]): row for row in plain_rows(summarise(records))}


def test_drift_that_hits_both_alike_leaves_no_doubt():
    rows = rows_of([*blocks("a", [300, 600, 900]), *blocks("b", [100, 200, 300])])
    (found,) = ratios.of_times([(rows["a", "forward"], rows["b", "forward"])])
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3))
    assert found.tie is False


def test_each_pair_has_its_own_interval_whatever_the_others():
    rows = rows_of(
        [
            *blocks("sure", [1000, 1010, 990]),
            *blocks("wild", [1000, 4000, 300]),
            *blocks("twice", [2000, 2020, 1980]),
        ]
    )
    base = rows["sure", "forward"]
    wild, twice, itself = ratios.of_times(
        [(rows["wild", "forward"], base), (rows["twice", "forward"], base), (base, base)]
    )
    assert wild.tie is True
    assert (twice.value, twice.tie) == (pytest.approx(2), False)
    assert (itself.value, itself.tie) == (1, True)


def test_only_shared_blocks_are_compared():
    far = [record for record in blocks("b", [1, 1, 1, 100, 200]) if record.block > 2]
    rows = rows_of([*blocks("a", [100, 200, 300, 100, 200]), *far])
    (found,) = ratios.of_times([(rows["a", "forward"], rows["b", "forward"])])
    assert math.isnan(found.low)
    assert found.tie is None


def test_the_ranking_says_the_same():
    summary = summarise(grid(batch=(4,), hidden_size=(64,), seq_len=(8,), spread=0.05))
    ranks = plain_rows(ranked(summary[summary["pass"] == "forward"]))
    for row, found in zip(ranks, ratios.of_times([(r, ranks[0]) for r in ranks]), strict=True):
        assert found.value == pytest.approx(row["ratio"])
        assert (found.low, found.high) == pytest.approx((row["ratio_low"], row["ratio_high"]))


def test_passes_of_one_backend_are_paired_too():
    records = [
        *blocks("a", [100, 110, 120]),
        *blocks("a", [200, 220, 240], of=case("backward")),
    ]
    rows = rows_of(records)
    (found,) = ratios.of_times([(rows["a", "backward"], rows["a", "forward"])])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize(
    ("ratio", "tie"),
    [
        (Ratio(1.1, 1.05, 1.2), False),
        (Ratio(0.9, 0.8, 0.95), False),
        (Ratio(1.1, 0.9, 1.3), True),
        (Ratio(5.0), None),
    ],
)
def test_a_tie_is_what_its_interval_cannot_tell_from_1(ratio, tie):
    assert ratio.tie is tie


def test_nothing_to_compare_is_nothing():
    assert ratios.of_times([]) == []


def test_a_factor_of_work_scales_value_and_interval():
    scaled = Ratio(0.5, 0.25, 0.75).times(4)
    assert (scaled.value, scaled.low, scaled.high) == (2, 1, 3)
