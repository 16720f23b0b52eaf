"""The samples in the page: every one of them, in order, exact."""

import random

import pandas as pd
from decoded_samples import decoded
from synthetic_runs import HOSTILE, blocks, case, grid, record, run

from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.report import samples

# What a clock may give, beyond 32 bits and up to the last that is exact.
TIMES = (1, 127, 128, 2**32 - 1, 2**32 + 1, 5, samples.MOST - 1, 1)


def encoded(*records, label="run"):
    made = run(records)
    return samples.encode(summarise(made.records), [made], [label])


def test_every_sample_comes_back_in_order_with_its_mark():
    first = record("aten", TIMES, block=0, marked=(0, 3, 7))
    second = record("aten", (9, 8, 7), block=1)
    payload = encoded(first, second, record("naive", (5,)))
    assert decoded(payload) == [
        [
            {"block": 0, "ns": list(TIMES), "marked": [0, 3, 7]},
            {"block": 1, "ns": [9, 8, 7], "marked": []},
        ],
        [{"block": 0, "ns": [5], "marked": []}],
    ]
    assert payload["left_out"] == 0


def test_rows_are_those_of_the_summary_whatever_its_order():
    records = list(grid(block_count=2))
    random.Random(1).shuffle(records)
    summary = summarise(records).sort_values(["backend", "label"], ignore_index=True)
    rows = decoded(samples.encode(summary, [run(records)], ["run"]))
    assert len(rows) == len(summary) == 180
    for found, row in zip(rows, plain_rows(summary), strict=True):
        theirs = [
            r for r in records if r.backend == row["backend"] and r.case.label() == row["label"]
        ]
        assert [block["ns"] for block in found] == [list(r.samples_ns) for r in theirs]
        assert [block["block"] for block in found] == [r.block for r in theirs]


def test_runs_side_by_side_keep_their_own():
    before, after = run(blocks("aten", [100])), run(blocks("aten", [200]))
    parts = [summarise(r.records).assign(run=n) for r, n in ((before, "x"), (after, "y"))]
    summary = pd.concat(parts, ignore_index=True)
    rows = decoded(samples.encode(summary, [before, after], ["x", "y"]))
    assert [row[0]["ns"] for row in rows] == [[100] * 3, [200] * 3]


def test_what_failed_has_no_sample_and_is_not_left_out():
    payload = encoded(record("aten", status="crashed"), record("naive", (3,)))
    assert decoded(payload)[0] == []
    assert payload["left_out"] == 0
    assert encoded() == {"rows": 0, "rows_a_chunk": 64, "chunks": [], "left_out": 0}


def test_beyond_the_limit_rows_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(samples, "MOST_SAMPLES", 7)
    cases = [case(seq_len=size) for size in (1, 2, 3, 4)]
    payload = encoded(*(each for one in cases for each in blocks("aten", [9], of=one)))
    assert (payload["rows"], payload["left_out"]) == (2, 2)
    assert len(decoded(payload)) == 2


def test_a_number_too_large_to_be_exact_is_left_out_alone():
    payload = encoded(
        record("aten", (1, samples.MOST)),
        record("naive", (3,)),
        record("hoisted", (3,), block=10**30),
        record("per_gate", (3,), block=-1),
    )
    assert decoded(payload) == [None, [{"block": 0, "ns": [3], "marked": []}], None, None]
    assert payload["left_out"] == 3


def test_marks_that_mark_no_sample_are_passed_over():
    foolish = (2, 2, -1, 3, True, 1.0, "1", None, 10**30, *HOSTILE)
    (row,) = decoded(encoded(record("aten", (5, 6, 7), marked=foolish)))
    assert row == [{"block": 0, "ns": [5, 6, 7], "marked": [2]}]


def test_a_page_can_hold_them():
    axes = {"seq_len": (8, 16, 32, 64), "batch": (1, 2, 4, 8, 16), "hidden_size": (64, 128)}
    records = list(grid(block_count=5, sample_count=50, spread=0.05, **axes))
    payload = encoded(*records)
    size = sum(len(chunk) for chunk in payload["chunks"])
    assert payload["rows"] == 400
    assert size / (400 * 5 * 50) < 1_200_000 / (1000 * 5 * 50)
