"""What a report says of how far its times can be trusted, from spreads that are known."""

import math

import pandas as pd
import pytest
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.report import noise

# Of the logarithms of a, 1 and 1/a the standard deviation is log a; Student's t of 3 blocks 4.303.
T_OF_THREE = 4.3027


def said(records):
    return noise.answer(plain_rows(summarise(records)))


def spread(factor, **fields):
    medians = [round(100_000 * each) for each in (factor, 1, 1 / factor)]
    return blocks("aten", medians, of=case(**fields))


def test_the_middle_and_the_widest_interval_are_told_with_their_place():
    records = [*spread(1.001, seq_len=8), *spread(1.01, seq_len=16), *spread(1.02, seq_len=32)]
    middle, widest = (
        100 * (math.exp(T_OF_THREE * math.log(factor) / math.sqrt(3)) - 1)
        for factor in (1.01, 1.02)
    )
    assert said(records) == (
        f"Half of the 3 times are known within ±{middle:.1f}% or better; the least sure, aten on "
        f"{case(seq_len=32).label()}, within ±{widest:.1f}% (95% intervals). "
        "None of 27 samples is marked as disturbed."
    )


def test_one_time_is_told_by_itself():
    assert said(spread(1.01)).startswith(f"The time of aten on {case().label()} is known within ±")


def test_without_intervals_that_is_said():
    assert said([record()]) == (
        "How sure a time is, is unknown: an interval needs 3 blocks or more. "
        "None of 3 samples is marked as disturbed."
    )


@pytest.mark.parametrize(("marked", "are"), [((0,), "1 of 3 samples is"), ((0, 2), "2 of 3 sa")])
def test_marked_samples_are_counted(marked, are):
    assert are in said([record(marked=marked), record("cheat", status="incorrect")])


def test_nothing_timed_is_said():
    assert said([record(status="crashed")]) == "Nothing was timed."


def test_each_run_has_its_own():
    parts = [summarise([record()]).assign(run=name) for name in ("old", "new")]
    told = noise.answer(plain_rows(pd.concat(parts, ignore_index=True)))
    assert told.startswith("old: How sure")
    assert " new: How sure" in told
