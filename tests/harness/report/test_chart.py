import math

from synthetic_runs import case, record

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.report import chart

TIMES = "\N{MULTIPLICATION SIGN}"


def test_ends_of_intervals_become_reaches_and_unknown_ones_are_not_drawn():
    bars = chart.error_bars("error_x", [(10.0, 9.0, 12.5), (4.0, math.nan, math.nan)])
    assert (bars["error_x"]["array"], bars["error_x"]["arrayminus"]) == ([2.5, 0], [1, 0])
    assert chart.error_bars("error_x", [(4.0, math.nan, math.nan)]) == {}


def test_a_ratio_is_told_with_its_interval_where_that_is_known():
    assert chart.ratio_told(Ratio(2.0)) == f"2.00{TIMES}"
    told = f"2.00{TIMES} (95%: 1.50{TIMES} to 2.50{TIMES})"
    assert chart.ratio_told(Ratio(2.0, 1.5, 2.5)) == told


def test_a_place_is_told_by_the_signs_of_the_field():
    row = {"seq_len": 32, "hidden_size": 64, "bidirectional": True, "pass": "forward"}
    assert chart.place_told(row, row) == "T = 32, H = 64, bidirectional: yes, forward"


def test_each_run_has_a_sentence_of_its_own():
    rows = [{"run": run} for run in ("old", "new", "new")]
    assert chart.of_each_run(rows, lambda part: f"{len(part)}.") == "old: 1. new: 2."
    assert chart.of_each_run([{}, {}], lambda part: f"{len(part)}.") == "2."


def test_figures_run_along_what_varies():
    def along(*shapes):
        summary = summarise([record(of=case(**shape)) for shape in shapes])
        return chart.running_along(summary, ("hidden_size", "batch", "seq_len"))

    assert along({"hidden_size": 8, "batch": 1}, {"hidden_size": 16, "batch": 2}) == "hidden_size"
    assert along({"batch": 1}, {"batch": 2}) == "batch"
    assert along({"batch": 1}) == "hidden_size"


def test_a_trace_is_no_longer_than_what_is_known():
    bare = chart.trace(3, [chart.Point(1, 2.0), chart.Point(2, math.nan)], mode="lines")
    assert bare == {"meta": 3, "mode": "lines", "x": [1, 2], "y": [2, None]}
    full = chart.trace(None, [chart.Point(1, 2.0, 1.5, 3.0, 7)])
    assert full["error_y"] == {"array": [1], "arrayminus": [0.5]}
    assert full["customdata"] == [7]


def test_only_backends_with_rows_are_drawn_each_at_its_place_in_the_list():
    rows = [{"backend": "c", "n": 1}, {"backend": "a", "n": 2}, {"backend": "c", "n": 3}]
    assert chart.by_backend(rows, ["a", "b", "c"]) == [(0, [rows[1]]), (2, [rows[0], rows[2]])]


def test_a_pair_differs_in_one_column_alone_and_is_of_one_backend_and_run():
    made = [
        record("aten", of=case(num_layers=2)),
        record("aten", of=case()),
        record("aten", of=case(num_layers=4, batch=9)),
        record("naive", of=case(num_layers=8)),
    ]
    rows = plain_rows(summarise(made))
    pairs = chart.pairs_against(rows, "num_layers", 1)
    assert [(row["num_layers"], plain["num_layers"]) for row, plain in pairs] == [(2, 1)]
    apart = [row | {"run": number} for number, row in enumerate(rows)]
    assert chart.pairs_against(apart, "num_layers", 1) == []
    assert chart.pairs_against([], "num_layers", 1) == []
