"""What `run --watch` says of an edit: faster, slower, or that it cannot tell."""

import pytest
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.console import watching

OLD = summarise(blocks("mine", [1000, 1010, 990, 1000, 1005]))


def edit(*medians_ns, **fields):
    return summarise(blocks("mine", medians_ns, **fields))


@pytest.mark.parametrize(
    ("new", "means"),
    [
        (edit(500, 505, 495, 500, 502), "faster"),
        (edit(1500, 1505, 1495, 1500, 1502), "slower"),
        (edit(1010, 990, 1000, 1005, 1000), "cannot tell"),
        (edit(500, 500), "cannot tell"),
    ],
)
def test_what_a_ratio_means(new, means):
    assert watching.meaning(watching.against(new, OLD)) == means


def test_no_case_in_common_tells_nothing(capsys):
    other = edit(1000, 1000, 1000, of=case(seq_len=8))
    assert watching.against(other, OLD) is None
    watching.verdict(3, [(1, "the best")], [None])
    assert capsys.readouterr().out == "edit 3 against edit 1, the best: no case in common\n"


def test_cases_are_taken_together_block_by_block():
    here, there = case(seq_len=8), case(seq_len=64)
    old = [*blocks("mine", [100, 200, 400], of=here), *blocks("mine", [100, 200, 400], of=there)]
    new = [*blocks("mine", [50, 100, 200], of=here), *blocks("mine", [200, 400, 800], of=there)]
    ratio = watching.against(summarise(new), summarise(old))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1, 1, 1))


def test_a_row_a_case_has_its_time_and_its_ratio_to_each_other_edit(capsys):
    new = summarise(
        [*blocks("mine", [500] * 5), record("mine", of=case(seq_len=8), status="error")]
    )
    watching.times(new, {1: summarise(blocks("mine", [1000] * 5))})
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split("  ")[-1] == "over edit 1"
    assert first.endswith("0.5 µs to 0.5 µs  0.500x (0.500 to 0.500), faster")
    assert second.endswith("error")


def test_the_summary_line(capsys):
    watching.summary(3, 1, 1, "edit 2: watched/002")
    watching.summary(1, 1, 0, None)
    assert capsys.readouterr().out.splitlines() == [
        "3 edits, 1 not measured, 1 kept; the best is edit 2: watched/002",
        "1 edit, 1 not measured, 0 kept",
    ]
