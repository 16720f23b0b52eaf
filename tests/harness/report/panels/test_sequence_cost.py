"""Time against T: lines whose overhead and slope are known are found again."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import sequence_cost
from lstm_harness.report.payload import json_for_script

SIZES = (32, 64, 128)


def drawn(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return sequence_cost.panel(Subject(summary, backends)), summary, backends


def line(backend, overhead_us, step_us, sizes=SIZES, drift=(0.99, 1, 1.01), **problem):
    """Blocks whose times lie on a line, each block slower or faster as a whole."""
    return [
        one
        for size in sizes
        for one in blocks(
            backend,
            [round(1000 * factor * (overhead_us + step_us * size)) for factor in drift],
            of=case(seq_len=size, **problem),
        )
    ]


def test_overhead_and_slope_are_found_drawn_and_told():
    records = [*line("naive", 20, 40), *line("aten", 50, 3)]
    panel, summary, backends = drawn(records)
    (figure,) = panel.figures
    naive, its_line, aten, aten_line = figure.plots[0].data
    assert [backends[t["meta"]] for t in (naive, its_line, aten, aten_line)] == [
        *("naive", "naive", "aten", "aten")
    ]
    assert (aten["mode"], aten_line["mode"]) == ("markers", "lines")
    assert (aten["x"], aten["y"]) == ([32, 64, 128], [146, 242, 434])
    assert [summary["seq_len"][number] for number in aten["customdata"]] == aten["x"]
    between = math.sqrt(32 * 64)
    assert aten_line["x"][:2] == [32, pytest.approx(between, rel=1e-5)]
    assert aten_line["y"][:2] == pytest.approx([146, 50 + 3 * between], rel=1e-5)
    assert figure.plots[0].layout["xaxis"]["type"] == "log"
    assert figure.answer == (
        "As fitted: aten takes 50.0 µs and 3.00 µs a step; "
        "naive takes 20.0 µs and 40.0 µs a step. Every median is within 0.10% of its line."
    )
    assert panel.answer.startswith(
        "A step costs from 3.00 µs (aten) to 40.0 µs (naive) over 2 fitted lines; "
        "the largest overhead of a pass is 50.0 µs (aten). Every median"
    )


def test_the_fit_is_the_least_squares_of_relative_errors():
    times = {32: [150] * 3, 64: [200] * 3, 128: [520] * 3, 512: [1500] * 3}
    records = [
        one
        for size, medians in times.items()
        for one in blocks("aten", [1000 * t for t in medians], of=case(seq_len=size))
    ]
    _, line_trace = drawn(records)[0].figures[0].plots[0].data
    sizes, medians = np.array(list(times)), np.array([t[0] for t in times.values()])
    slope, overhead = np.polyfit(sizes, medians, 1, w=1 / medians)
    found = dict(zip(line_trace["x"], line_trace["y"], strict=True))
    assert [found[size] for size in sizes] == pytest.approx(overhead + slope * sizes, rel=1e-5)
    miss = max(abs((overhead + slope * sizes) / medians - 1))
    assert f"Every median is within {100 * miss:.2g}% of its line." in drawn(records)[0].answer


def test_an_overhead_within_noise_is_told_as_that():
    overheads = (-30, 50, 10)
    records = [
        one
        for size in SIZES
        for one in blocks(
            "aten", [1000 * (us + 3 * size) for us in overheads], of=case(seq_len=size)
        )
    ]
    assert "no overhead beyond noise" in drawn(records)[0].answer
    both = [*records, *(r for r in line("naive", 0, 40, drift=(1, 1.001, 0.999)))]
    assert "no overhead of a pass can be distinguished from zero." in drawn(both)[0].answer


def test_an_overhead_below_zero_is_told_as_that():
    answer = drawn(line("aten", -20, 3))[0].answer
    assert answer.startswith("As fitted: aten takes 3.00 µs a step, its overhead below zero")


def test_below_three_blocks_the_fit_has_no_interval():
    panel, *_ = drawn(line("aten", 50, 3, drift=(1,)))
    assert "error_y" not in panel.figures[0].plots[0].data[0]
    assert panel.answer.startswith("As fitted: aten takes 50.0 µs and 3.00 µs a step.")
    assert panel.answer.endswith("with fewer than 3 blocks no interval is known.")


def test_extremes_are_named_with_their_place():
    records = [*line("aten", 50, 3, batch=1), *line("aten", 10, 9, batch=8)]
    panel, *_ = drawn(records)
    assert (panel.by, [figure.key for figure in panel.figures]) == (("batch",), [(1,), (8,)])
    assert panel.answer.startswith(
        "A step costs from 3.00 µs (aten, B = 1) to 9.00 µs (aten, B = 8) over 2 fitted lines; "
        "the largest overhead of a pass is 50.0 µs (aten, B = 1)."
    )


def test_a_backend_with_fewer_values_of_t_is_drawn_and_not_fitted():
    panel, _, backends = drawn([*line("aten", 50, 3), *line("naive", 20, 40, sizes=(32, 64))])
    modes = [(backends[t["meta"]], t["mode"]) for t in panel.figures[0].plots[0].data]
    assert modes == [("naive", "markers"), ("aten", "markers"), ("aten", "lines")]
    assert panel.figures[0].answer.endswith("Not fitted, with fewer than 3 values of T: naive.")


def test_sizes_that_do_not_double_keep_linear_axes_and_straight_lines():
    panel, *_ = drawn(line("aten", 50, 3, sizes=(10, 12, 14)))
    plot = panel.figures[0].plots[0]
    assert (plot.layout["xaxis"]["type"], plot.layout["yaxis"]["type"]) == ("linear", "linear")
    assert plot.data[1]["x"] == [10, 14]


@pytest.mark.parametrize(
    ("records", "absent"),
    [
        ([], "No backend gave a correct result, so there is no time to show."),
        (
            [record(status="crashed", of=case(seq_len=size)) for size in SIZES],
            "No backend gave a correct result, so there is no time to show.",
        ),
        (
            line("aten", 5, 3, sizes=(32, 64)),
            "The cost of a step was not measured: a line over T needs one backend at 3 values of "
            "T, all else equal; T was 32, 64; type `lstm-bench run --seq-len 32,64,128`",
        ),
    ],
)
def test_without_three_values_of_t_there_is_no_figure(records, absent):
    panel, *_ = drawn(records)
    assert (panel.figures, panel.answer, panel.absent) == ((), "", absent)


def test_runs_are_never_mixed():
    old, new = (summarise(one) for one in (line("aten", 50, 3), line("aten", 50, 9)))
    together = pd.concat([old.assign(run="old"), new.assign(run="new")], ignore_index=True)
    panel = sequence_cost.panel(Subject(together, ["aten"]))
    assert [figure.key for figure in panel.figures] == [("old",), ("new",)]
    assert "old: As fitted: aten takes 50.0 µs and 3.00 µs a step." in panel.answer
    assert "new: As fitted: aten takes 50.0 µs and 9.00 µs a step." in panel.answer


def test_every_figure_is_one_that_plotly_accepts():
    hostile = [record(name, of=case(seq_len=size)) for name in HOSTILE for size in SIZES]
    panel, *_ = drawn([*grid(), *hostile])
    for figure in panel.figures:
        for plot in figure.plots:
            plotly.graph_objects.Figure(data=plot.data, layout=plot.layout)
            json_for_script(plot.data)
