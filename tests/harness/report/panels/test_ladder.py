"""The ladder, from races whose outcome is known."""

import pandas as pd
import plotly.graph_objects
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import ladder
from lstm_harness.report.payload import json_for_script

TIMES = "\N{MULTIPLICATION SIGN}"


def drawn(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return ladder.panel(Subject(summary, backends)), summary, backends


def race(pass_name="forward", /, spread=(0.99, 1, 1.01), problem=None, **times_us):
    """Three blocks of each backend; drift hits all alike."""
    of = case(pass_name, **(problem or {}))
    return [
        one
        for backend, time in times_us.items()
        for one in blocks(backend, [round(1000 * time * factor) for factor in spread], of=of)
    ]


def test_rungs_stand_in_their_order_each_over_the_bottom_and_the_one_before():
    panel, summary, backends = drawn(race(aten=100, per_gate=800, naive=400))
    (figure,) = panel.figures
    forward = figure.plots[0]
    assert [backends[bar["meta"]] for bar in forward.data] == ["per_gate", "naive", "aten"]
    assert [bar["x"] for bar in forward.data] == [[1], [2], [8]]
    assert [bar["y"] for bar in forward.data] == [[0], [1], [2]]
    assert [bar["text"] for bar in forward.data] == [
        ["bottom"],
        [f"2.00{TIMES} (2.00{TIMES})"],
        [f"8.00{TIMES} (4.00{TIMES})"],
    ]
    assert [summary["backend"][bar["customdata"][0]] for bar in forward.data] == [
        "per_gate",
        "naive",
        "aten",
    ]
    assert forward.layout["yaxis"]["ticktext"] == ["per_gate", "naive", "aten"]
    assert figure.answer == (
        f"In forward, the speed-up of aten over per_gate is 8.00{TIMES} (95%: 8.00{TIMES} to "
        f"8.00{TIMES}); the largest step is aten, 4.00{TIMES} over naive."
    )
    assert panel.answer == (
        f"The speed-up of aten over per_gate is 8.00{TIMES} in forward (1 case). "
        "Backward alone was not measured."
    )


def test_forward_and_backward_stand_side_by_side():
    records = [*race(aten=10, naive=20), *race("backward", aten=10, naive=60)]
    panel, *_ = drawn(records)
    (figure,) = panel.figures
    assert [plot.title for plot in figure.plots] == [
        "forward: speed-up over naive",
        "backward: speed-up over naive",
    ]
    assert [plot.data[1]["x"] for plot in figure.plots] == [[2], [6]]
    assert panel.answer == (
        f"The speed-up of aten over naive is 2.00{TIMES} in forward (1 case); "
        f"the speed-up of aten over naive is 6.00{TIMES} in backward (1 case)."
    )


def test_intervals_are_of_the_ratio_within_blocks():
    records = [*blocks("naive", [300, 600, 900]), *blocks("aten", [100, 190, 310])]
    panel, summary, _ = drawn(records)
    bar = panel.figures[0].plots[0].data[1]
    naive = next(r for r in plain_rows(ranked(summary)) if r["rank"] == 2)
    assert bar["x"][0] == pytest.approx((3 * 600 / 190 * 900 / 310) ** (1 / 3), rel=1e-5)
    assert bar["x"][0] + bar["error_x"]["array"][0] == pytest.approx(naive["ratio_high"], rel=1e-4)
    low = bar["x"][0] - bar["error_x"]["arrayminus"][0]
    assert low == pytest.approx(naive["ratio_low"], rel=1e-4)


def test_a_tie_is_told_as_one():
    tied = [*blocks("naive", [100, 110, 90]), *blocks("aten", [99, 104, 101])]
    panel, *_ = drawn(tied)
    assert panel.figures[0].plots[0].data[1]["text"][0].endswith("(tie)")
    assert panel.figures[0].answer == (
        "In forward, naive, the bottom rung, is itself the fastest and ties with aten."
    )
    assert panel.answer.startswith(
        "naive, the bottom rung, is itself the fastest in forward, in 1 of 1 case, 1 of them tied."
    )
    swapped = [*blocks("naive", [99, 104, 102]), *blocks("aten", [100, 110, 90])]
    panel, *_ = drawn(swapped)
    assert panel.figures[0].answer == (
        "In forward, aten and naive, the bottom rung, cannot be told apart."
    )
    assert panel.answer.startswith("aten and naive cannot be told apart in forward (1 case).")
    slow = blocks("per_gate", [1000, 1010, 990])
    assert "and it ties with aten;" in drawn([*tied, *slow])[0].figures[0].answer


def test_a_bottom_rung_that_wins_is_said_to():
    panel, *_ = drawn(race(aten=40, naive=20))
    assert panel.figures[0].answer == ("In forward, naive, the bottom rung, is itself the fastest.")
    assert panel.answer.startswith(
        "naive, the bottom rung, is itself the fastest in forward, in 1 of 1 case."
    )


def test_over_all_cases_the_mean_is_geometric_and_names_what_is_missing():
    records = [
        *race(per_gate=200, aten=100, problem={"seq_len": 8}),
        *race(per_gate=800, aten=100, problem={"seq_len": 16}),
        *race(aten=100, naive=200, problem={"seq_len": 32}),
        record("per_gate", of=case(seq_len=32), status="timed_out"),
    ]
    panel, *_ = drawn(records)
    assert panel.answer.startswith(
        f"The speed-up of aten over per_gate is 4.00{TIMES} in forward "
        "(geometric mean of 2 cases, 1 further case without one of the two)."
    )
    assert panel.by == ("seq_len",)
    assert panel.figures[2].plots[0].title == "forward: speed-up over naive"


def test_without_a_naive_loop_the_bottom_is_what_there_is():
    panel, *_ = drawn(race(aten=100, cudnn=50))
    assert panel.figures[0].plots[0].title == "forward: speed-up over aten"
    assert panel.question == "How much faster than aten, rung by rung?"
    assert "Neither per_gate nor naive has a correct result here" in panel.answer


def test_a_wrong_backend_is_no_rung():
    panel, _, backends = drawn([*race(naive=20, aten=10), record("cheat", status="incorrect")])
    assert [backends[bar["meta"]] for bar in panel.figures[0].plots[0].data] == ["naive", "aten"]


def on_gpu(cell):
    gpu = case(device="cuda", cell=cell)
    return [*blocks("naive", [20] * 3, of=gpu), *blocks("cudnn", [10] * 3, of=gpu)]


def test_nvidias_ladder_stands_beside_an_lstm_on_a_gpu_as_theirs():
    panel, *_ = drawn(on_gpu("lstm"))
    reference = panel.figures[0].plots[-1]
    (trace,) = reference.data
    assert (trace["meta"], trace["x"][6]) == (None, 11.1)
    assert "not measured here" in reference.title
    assert "not measured here" in panel.note
    assert "up to 6x" in panel.note


@pytest.mark.parametrize("records", [race(naive=20, cudnn=10), on_gpu("gru")], ids=["cpu", "gru"])
def test_nvidias_ladder_stands_beside_nothing_else(records):
    panel, *_ = drawn(records)
    assert [plot.title for plot in panel.figures[0].plots] == ["forward: speed-up over naive"]
    assert "NVIDIA" not in panel.note


def test_the_question_names_the_lowest_of_the_bottom_rungs():
    apart = race(aten=10, naive=20, problem={"seq_len": 8})
    panel, *_ = drawn([*race(aten=10, per_gate=20), *apart])
    assert panel.question == "How much faster than per_gate, rung by rung?"
    assert drawn([])[0].question == "How much faster than the bottom rung, rung by rung?"


def test_below_three_blocks_there_is_no_interval_and_no_tie():
    panel, *_ = drawn([record("naive", (1010,)), record("aten", (1000,))])
    bar = panel.figures[0].plots[0].data[1]
    assert "error_x" not in bar
    assert bar["text"] == [f"1.01{TIMES} (1.01{TIMES})"]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([], "No backend gave a correct result"),
        ([record(status="crashed")], "No backend gave a correct result"),
        (blocks("aten", [10] * 3), "Only aten gave a correct result"),
        (
            [record("a", of=case(seq_len=8)), record("b", of=case(seq_len=9))],
            "No case has two correct backends",
        ),
    ],
)
def test_nothing_to_compare_is_said_and_not_drawn(records, why):
    panel, *_ = drawn(records)
    assert (panel.figures, panel.answer) == ((), "")
    assert panel.absent.startswith(why)
    assert "\n" not in panel.absent


def test_runs_are_never_mixed():
    old, new = (summarise(one) for one in (race(aten=10, naive=20), race(aten=10, naive=60)))
    both = pd.concat([old.assign(run="old"), new.assign(run="new")], ignore_index=True)
    panel = ladder.panel(Subject(both, ["naive", "aten"]))
    assert (panel.by, [figure.key for figure in panel.figures]) == (("run",), [("old",), ("new",)])
    assert [figure.plots[0].data[1]["x"] for figure in panel.figures] == [[2], [6]]
    assert f"old: The speed-up of aten over naive is 2.00{TIMES}" in panel.answer
    assert f"new: The speed-up of aten over naive is 6.00{TIMES}" in panel.answer


def test_every_figure_is_one_that_plotly_accepts_with_no_markup_of_a_name():
    panel, *_ = drawn([*grid(), *(record(name) for name in HOSTILE)])
    assert len(panel.figures) == 18 + 1
    for figure in panel.figures:
        for plot in figure.plots:
            plotly.graph_objects.Figure(data=plot.data, layout=plot.layout)
            json_for_script(plot.data)
            assert not {"<", ">"} & set(plot.title + "".join(plot.layout["yaxis"]["ticktext"]))
