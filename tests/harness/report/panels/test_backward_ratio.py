"""Backward's time over forward's, where the truth is known."""

import math

import pandas as pd
import plotly.graph_objects
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import backward_ratio
from lstm_harness.report.payload import json_for_script

TIMES = "\N{MULTIPLICATION SIGN}"
DRIFT = (0.99, 1, 1.01)


def drawn(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return backward_ratio.panel(Subject(summary, backends)), summary, backends


def both(backend, forward_us, ratio, drift=DRIFT, **problem):
    """Three blocks of forward and of backward; drift hits both alike."""
    forward = [round(1000 * forward_us * factor) for factor in drift]
    return [
        *blocks(backend, forward, of=case(**problem)),
        *blocks(backend, [round(ratio * ns) for ns in forward], of=case("backward", **problem)),
    ]


def test_each_backend_has_a_line_of_ratios_beside_the_line_at_two():
    records = [
        *both("aten", 100, 1.5, seq_len=8),
        *both("aten", 200, 2.5, seq_len=16),
        *both("naive", 900, 4, seq_len=8),
    ]
    panel, summary, backends = drawn(records)
    (figure,) = panel.figures
    naive, aten, line = figure.plots[0].data
    assert [backends[trace["meta"]] for trace in (naive, aten)] == ["naive", "aten"]
    assert (aten["x"], aten["y"]) == ([8, 16], [1.5, 2.5])
    assert (naive["x"], naive["y"]) == ([8], [4])
    assert aten["error_y"]["array"] == pytest.approx([0, 0], abs=1e-4)
    assert summary["pass"][aten["customdata"][0]] == "backward"
    assert (line["meta"], line["name"]) == (None, "2.0: counting products")
    assert (line["x"], line["y"]) == ([8, 16], [2, 2])
    told = (
        f"Yes: backward takes 2.47{TIMES} forward's time (geometric mean of 3 pairs), "
        f"from 1.50{TIMES} (aten, T = 8) to 4.00{TIMES} (naive, T = 8)."
    )
    assert figure.answer == told
    assert panel.answer == told


def test_intervals_are_of_the_ratio_within_blocks():
    records = [
        *blocks("aten", [100, 200, 300], of=case()),
        *blocks("aten", [210, 400, 590], of=case("backward")),
    ]
    panel, *_ = drawn(records)
    trace, line = panel.figures[0].plots[0].data
    # Logs of 2.1, 2 and 59/30: mean 0.70381, standard deviation 0.03407; t(2 df) = 4.3027.
    assert trace["y"] == [pytest.approx(math.exp(0.70381), rel=1e-4)]
    high = math.exp(0.70381 + 4.3027 * 0.03407 / math.sqrt(3))
    assert trace["y"][0] + trace["error_y"]["array"][0] == pytest.approx(high, rel=1e-4)
    assert line["x"] == [31, 33]
    assert panel.figures[0].answer.startswith(f"Yes: aten's backward takes 2.02{TIMES} (95%: 1.86")


def test_lines_run_along_the_first_size_that_varies():
    panel, *_ = drawn([*both("aten", 10, 2, batch=4), *both("aten", 10, 3, batch=8)])
    assert panel.figures[0].plots[0].layout["xaxis"]["title"]["text"].startswith("B,")
    panel, *_ = drawn([*both("aten", 10, 2, hidden_size=4), *both("aten", 10, 3, hidden_size=8)])
    assert (panel.by, panel.figures[0].plots[0].data[0]["x"]) == ((), [4, 8])


def test_a_light_backward_is_a_no_and_a_tie_a_tie():
    assert drawn(both("aten", 100, 0.5))[0].answer == (
        f"No: aten's backward takes 0.500{TIMES} (95%: 0.500{TIMES} to 0.500{TIMES}) "
        "forward's time."
    )
    tied = [
        *blocks("aten", [100, 110, 90], of=case()),
        *blocks("aten", [101, 104, 96], of=case("backward")),
    ]
    assert drawn(tied)[0].answer == "aten's backward and forward cannot be told apart."
    records = [*tied, *both("naive", 100, 4)]
    assert "; in 1 pair the two tie." in drawn(records)[0].answer
    twice = [*tied, *(record("b", (r.samples_ns), block=r.block, of=r.case) for r in tied)]
    answer = drawn(twice)[0].answer
    assert answer == "Backward and forward tie in all of 2 pairs."


def test_below_three_blocks_the_ratio_is_told_without_an_interval():
    records = [record(samples_ns=(10,)), record(samples_ns=(30,), of=case("backward"))]
    panel, *_ = drawn(records)
    assert "error_y" not in panel.figures[0].plots[0].data[0]
    assert panel.answer == (
        f"Yes: naive's backward takes 3.00{TIMES} forward's time; "
        "no interval is known, with fewer than 3 blocks."
    )
    answer = drawn([*records, *both("aten", 10, 3)])[0].answer
    assert "no interval is known for 1 of them, with fewer than 3 blocks." in answer


def test_a_cell_without_its_other_pass_is_left_out_and_counted():
    records = [
        *both("aten", 10, 3),
        *blocks("naive", [10] * 3),
        record("naive", of=case("backward"), status="incorrect"),
    ]
    panel, _, backends = drawn(records)
    assert [backends[t["meta"]] for t in panel.figures[0].plots[0].data[:-1]] == ["aten"]
    assert panel.answer.endswith("Left out: 1 correct cell that lacks the other pass.")


def test_switches_choose_the_figure_but_the_pass_does_not():
    panel, *_ = drawn(grid(spread=0.001, passes=("forward", "backward", "train")))
    assert panel.by == ("batch", "hidden_size")
    assert len(panel.figures) == 6
    assert panel.answer.startswith(f"Yes: backward takes 2.10{TIMES} forward's time")
    assert "(geometric mean of 90 pairs)" in panel.answer


@pytest.mark.parametrize(
    ("records", "absent"),
    [
        ([], "No backend gave a correct result, so there is no time to compare."),
        (
            [*blocks("aten", [10] * 3), *blocks("aten", [30] * 3, of=case("train"))],
            "Backward alone was not measured; type `lstm-bench run --pass forward,backward`",
        ),
        (
            blocks("aten", [30] * 3, of=case("train")),
            "Forward and backward alone were not measured; "
            "type `lstm-bench run --pass forward,backward`",
        ),
        (
            [record(status="crashed"), record(of=case("backward"), status="crashed")],
            "No backend gave a correct result, so there is no time to compare.",
        ),
        (
            [record("a"), record("b", of=case("backward"))],
            "No backend was timed in both forward and backward of one problem.",
        ),
    ],
)
def test_what_was_not_measured_is_not_derived(records, absent):
    panel, *_ = drawn(records)
    assert (panel.figures, panel.answer, panel.absent) == ((), "", absent)


def test_runs_are_never_mixed():
    old, new = (summarise(one) for one in (both("aten", 10, 2), both("aten", 50, 3)))
    together = pd.concat([old.assign(run="old"), new.assign(run="new")], ignore_index=True)
    panel = backward_ratio.panel(Subject(together, ["aten"]))
    assert (panel.by, [figure.key for figure in panel.figures]) == (("run",), [("old",), ("new",)])
    assert [figure.plots[0].data[0]["y"] for figure in panel.figures] == [[2], [3]]
    assert panel.answer.startswith(f"old: Yes: aten's backward takes 2.00{TIMES}")
    assert f"new: Yes: aten's backward takes 3.00{TIMES}" in panel.answer


def test_every_figure_is_one_that_plotly_accepts():
    hostile = [record(name, of=case(p)) for name in HOSTILE for p in ("forward", "backward")]
    panel, *_ = drawn([*grid(), *hostile])
    for figure in panel.figures:
        for plot in figure.plots:
            plotly.graph_objects.Figure(data=plot.data, layout=plot.layout)
            json_for_script(plot.data)
