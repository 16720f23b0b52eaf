"""Every backend against the fastest of each case, and against one that is named."""

import pytest
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.contestants import contestants, entries
from lstm_harness.analysis.summary import summarise

HERE, THERE = case(seq_len=8), case(seq_len=64)
RECORDS = [
    *blocks("naive", [400] * 3, of=HERE),
    *blocks("naive", [100] * 3, of=THERE),
    *blocks("aten", [100] * 3, of=HERE),
    *blocks("aten", [100] * 3, of=THERE),
    *blocks("late", [50] * 3, of=HERE),
    record("late", of=THERE, status="error"),
]


def test_who_has_most_cases_is_first_then_by_the_geometric_mean():
    found = contestants(entries(summarise(RECORDS)))
    assert [one.backend for one in found] == ["aten", "naive", "late"]
    aten, naive, late = found
    # THERE, two are as fast as each other: neither is the fastest.
    assert (aten.cases, aten.fastest, aten.tied) == (2, 0, 1)
    assert (naive.cases, naive.fastest, naive.tied) == (2, 0, 1)
    assert (late.cases, late.fastest, late.tied) == (1, 1, 0)
    assert naive.mean == pytest.approx(8**0.5)
    assert naive.worst == pytest.approx(8)
    assert (naive.shared, naive.to_other) == (0, None)


def test_the_named_backend_counts_where_both_have_a_time():
    found = {one.backend: one for one in contestants(entries(summarise(RECORDS), "late"))}
    assert (found["naive"].shared, found["naive"].to_other) == (1, pytest.approx(8))
    assert found["late"].to_other == pytest.approx(1)


def test_an_entry_without_a_time_has_its_status_alone():
    by_case = entries(summarise(RECORDS), "aten")
    failed = by_case[THERE.label()]["late"]
    assert (failed.status, failed.rank) == ("error", None)
    assert (failed.to_fastest, failed.to_other) == (None, None)
    assert by_case[HERE.label()]["naive"].to_other.value == pytest.approx(4)


def test_nobody_with_a_time_is_nobody():
    assert contestants(entries(summarise([record(status="error")]))) == []
