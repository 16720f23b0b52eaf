"""Verdicts as a frame."""

from dataclasses import fields

from synthetic_runs import blocks, case, run

from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.judge.comparison import compare_runs
from lstm_harness.judge.verdict import Verdict
from lstm_harness.judge.verdict_table import COLUMNS, verdict_table


def test_a_row_is_a_verdict_worst_first_with_its_case():
    slow, same = case(seq_len=64), case(seq_len=8)
    base = [*blocks("a", [1_000_000, 1_001_000] * 3, of=slow), *blocks("a", [500] * 6, of=same)]
    new = [*blocks("a", [2_000_000, 2_001_000] * 3, of=slow), *blocks("a", [500] * 6, of=same)]
    table = verdict_table(compare_runs(run(base), run(new)))
    assert list(table.columns) == list(COLUMNS)
    assert list(table["verdict"]) == ["REGRESSION", "SAME"]
    assert list(table["seq_len"]) == [64, 8]
    assert list(table["ratio"].round(2)) == [2.0, 1.0]


def test_nothing_that_a_verdict_knows_is_left_out():
    known = {field.name for field in fields(Verdict)} - {"kind", "case"}
    assert known | {"verdict", *CASE_COLUMNS} == set(COLUMNS)
    assert verdict_table(compare_runs(run([]), run([]))).empty
