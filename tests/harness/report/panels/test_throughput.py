"""Throughput over T and B, from data whose growth is known."""

import pandas as pd
import plotly.graph_objects
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import throughput
from lstm_harness.report.payload import json_for_script

TIMES = "\N{MULTIPLICATION SIGN}"


def panels_of(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    subject = Subject(summary, backends)
    return throughput.over_t(subject), throughput.over_b(subject), summary, backends


def at(seq_len, times, backend="aten", **problem):
    return blocks(backend, times, of=case(seq_len=seq_len, **problem))


def test_curves_hold_the_rates_and_their_intervals():
    records = [*at(8, [100, 101, 99]), *at(32, [310, 311, 309])]
    panel, _, summary, backends = panels_of(records)
    row = summary.iloc[0]
    (figure,) = panel.figures
    (trace,) = figure.plots[0].data
    assert (figure.key, backends[trace["meta"]]) == ((), "aten")
    assert (trace["x"], trace["customdata"]) == ([8, 32], [0, 1])
    assert trace["y"][0] == pytest.approx(8 * 4 / 100e-9, rel=1e-5)
    up, down = trace["error_y"]["array"][0], trace["error_y"]["arrayminus"][0]
    assert trace["y"][0] + up == pytest.approx(32 / row["low_ns"] * 1e9, rel=1e-4)
    assert trace["y"][0] - down == pytest.approx(32 / row["high_ns"] * 1e9, rel=1e-4)
    assert figure.plots[0].layout["xaxis"]["type"] == "log"
    assert figure.answer == (
        f"At T = 32, aten makes 413 M steps a second; a step takes 0.775{TIMES} its time at T = 8."
    )
    assert panel.answer == (
        f"A step of the leader, aten, at T = 32 takes 0.775{TIMES} its time at T = 8."
    )


def test_a_tie_at_the_top_and_no_growth_are_told_as_that():
    records = [
        *at(8, [100, 104, 96]),
        *at(16, [200, 196, 204]),
        *at(16, [202, 198, 203], backend="naive"),
        *at(16, [900, 910, 905], backend="slow"),
    ]
    (figure,) = panels_of(records)[0].figures
    assert figure.answer == (
        "At T = 16, aten makes 320 M steps a second and ties with naive; "
        f"a step takes 1.000{TIMES} its time at T = 8, a difference within noise."
    )


def test_the_other_size_and_the_switches_choose_the_figure():
    records = grid(block_count=3)
    over_t, over_b, summary, backends = panels_of(records)
    assert over_t.by == ("batch", "hidden_size", "pass")
    assert over_b.by == ("seq_len", "hidden_size", "pass")
    assert len(over_t.figures) == len(over_b.figures) == 12
    figure = next(f for f in over_b.figures if f.key == (64, 256, "backward"))
    trace = next(t for t in figure.plots[0].data if backends[t["meta"]] == "naive")
    for place, number in enumerate(trace["customdata"]):
        row = summary.iloc[number]
        assert (row["backend"], row["seq_len"], row["pass"]) == ("naive", 64, "backward")
        assert (row["batch"], row["hidden_size"]) == (trace["x"][place], 256)
        assert trace["y"][place] == pytest.approx(row["steps_per_s"], rel=1e-5)


def test_the_answer_over_all_is_the_geometric_mean_with_its_extremes():
    records = [
        *at(8, [100] * 3, batch=1),
        *at(16, [100] * 3, batch=1),
        *at(8, [100] * 3, batch=2),
        *at(16, [25] * 3, batch=2),
    ]
    assert panels_of(records)[0].answer == (
        f"At the largest T a step of the leader takes 0.250{TIMES} its time at the smallest "
        f"(geometric mean of 2 figures), from 0.125{TIMES} (aten, B = 2) to 0.500{TIMES} "
        "(aten, B = 1)."
    )


def test_runs_are_never_mixed():
    summary = summarise([*at(8, [100] * 3), *at(16, [100] * 3)])
    faster = summarise([*at(8, [100] * 3), *at(16, [50] * 3)])
    both = pd.concat([summary.assign(run="old"), faster.assign(run="new")])
    panel = throughput.over_t(Subject(both, ["aten"]))
    assert (panel.by, [figure.key for figure in panel.figures]) == (
        ("run",),
        [("old",), ("new",)],
    )
    assert panel.figures[1].plots[0].data[0]["customdata"] == [2, 3]
    assert panel.answer == (
        f"old: A step of the leader, aten, at T = 16 takes 0.500{TIMES} its time at T = 8. "
        f"new: A step of the leader, aten, at T = 16 takes 0.250{TIMES} its time at T = 8."
    )


def test_sizes_that_do_not_double_keep_a_linear_axis():
    records = [record(of=case(batch=batch)) for batch in (8, 10, 12)]
    (figure,) = panels_of(records)[1].figures
    layout = figure.plots[0].layout
    assert (layout["xaxis"]["type"], layout["yaxis"]["rangemode"]) == ("linear", "tozero")


def test_an_unknown_interval_is_not_drawn():
    records = [record(of=case(batch=batch)) for batch in (8, 16)]
    assert "error_y" not in panels_of(records)[1].figures[0].plots[0].data[0]


def test_what_does_not_grow_is_said_to_be_not_measured():
    over_t, over_b, *_ = panels_of([*at(8, [100] * 3), *at(16, [100] * 3)])
    assert over_t.figures
    assert (over_b.figures, over_b.answer) == ((), "")
    assert over_b.absent == (
        "Growth with B was not measured: only B = 4 was measured; "
        "type `lstm-bench run --batch 1,16,64`"
    )
    over_t, *_ = panels_of([*at(8, [100] * 3, batch=1), *at(16, [100] * 3, batch=2)])
    assert "no two cells differ in T alone" in over_t.absent


@pytest.mark.parametrize(
    "records", [[], [record(status="crashed"), record("a", status="out_of_memory")]]
)
def test_without_a_correct_result_there_is_no_figure(records):
    for panel in panels_of(records)[:2]:
        assert (panel.figures, panel.answer) == ((), "")
        assert panel.absent.startswith("No backend gave a correct result, so there is no thro")


def test_a_wrong_backend_has_no_curve():
    records = [*at(8, [10] * 3), *at(16, [10] * 3), record("cheat", of=case(), status="incorrect")]
    panel, _, _, backends = panels_of(records)
    (trace,) = panel.figures[0].plots[0].data
    assert backends[trace["meta"]] == "aten"


def test_every_figure_is_one_that_plotly_accepts_and_holds_no_name():
    records = [
        *grid(),
        *(
            record(name, of=case(seq_len=t, batch=b))
            for name in HOSTILE
            for t in (4, 8)
            for b in (4, 8)
        ),
    ]
    for panel in panels_of(records)[:2]:
        for figure in panel.figures:
            (plot,) = figure.plots
            plotly.graph_objects.Figure(data=plot.data, layout=plot.layout)
            json_for_script(plot.data)
            assert all(isinstance(trace["meta"], int) for trace in plot.data)
            assert "name" not in plot.data[0]
