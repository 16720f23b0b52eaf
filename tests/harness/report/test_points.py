"""Figures say how few measurements they rest on."""

from synthetic_runs import blocks, case, grid, record

from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.report import marks, points
from lstm_harness.report.panel import Subject, numbered
from lstm_harness.report.panels import costs, throughput


def rows_of(records):
    return plain_rows(summarise(records))


def at(sizes, count):
    return [one for t in sizes for one in blocks("aten", [100] * count, of=case(seq_len=t))]


def test_few_cases_or_few_blocks_are_told():
    assert points.few(rows_of(at((8, 16, 32), 5))) == ""
    assert points.few(rows_of(at((8, 16), 5))) == "Few points: 2 cases, 5 blocks each."
    assert points.few(rows_of(at((8, 16, 32), 3))) == "Few points: 3 cases, 3 blocks each."
    assert points.few(rows_of(at((8,), 1))) == (
        "Few points: 1 case, 1 block each (no interval below 3 blocks)."
    )
    assert points.few([]) == ""


def test_uneven_blocks_are_told_as_a_range():
    records = [*at((8, 16), 6), *at((32,), 2)]
    assert points.few(rows_of(records)) == (
        "Few points: 3 cases, 2 to 6 blocks each (no interval below 3 blocks)."
    )


def test_a_figure_counts_its_own_points_alone():
    records = [*at((8, 16, 32), 6), *blocks("aten", [9] * 2, of=case(batch=7))]
    records.append(record("cheat", status="incorrect"))
    summary = summarise(records)
    panel = throughput.over_t(Subject(summary, marks.ordered(summary["backend"])))
    rows = numbered(plain_rows(summary))
    told = {figure.key: points.of_figure(figure, rows) for figure in panel.figures}
    assert told == {
        (4,): "",
        (7,): "Few points: 1 case, 2 blocks each (no interval below 3 blocks).",
    }


def test_a_figure_of_pooled_pairs_counts_them_itself():
    summary = summarise(grid(["aten"], num_layers=(1, 2)))
    panel = costs.panel(Subject(summary, ["aten"]))
    assert points.of_figure(panel.figures[0], plain_rows(summary)) == ""
    assert "pairs" in panel.figures[0].answer
