"""How much a run was disturbed."""

import math

import pytest
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.noisiness import noisiness
from lstm_harness.analysis.summary import summarise


def test_marks_are_counted_by_sample():
    few, many = case(seq_len=8), case(seq_len=64)
    records = [
        record(of=few, samples_ns=(100,), marked=(0,)),
        record(of=many, samples_ns=(100,) * 9),
    ]
    assert noisiness(summarise(records)).marked == pytest.approx(0.1)


def test_the_widest_interval_has_its_backend_and_case():
    wild, calm = case(seq_len=8), case(seq_len=64)
    records = [*blocks("b", [100, 150, 200], of=wild), *blocks("a", [100, 101, 100], of=calm)]
    found = noisiness(summarise(records))
    assert (found.times, found.wide, found.backend, found.case) == (2, 1, "b", wild.label())
    assert found.widest > 0.5


def test_without_an_interval_nothing_is_wide():
    found = noisiness(summarise([*blocks("a", [100, 200])]))
    assert (found.times, found.wide, math.isnan(found.widest)) == (0, 0, True)
    assert math.isnan(noisiness(summarise([record(status="error")])).marked)
