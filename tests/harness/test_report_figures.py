import math
import re

import plotly.graph_objects
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness import analyse
from lstm_harness.report import figures, marks

TIMES = "\N{MULTIPLICATION SIGN}"


def slice_of(records, which="map", number=0):
    summary = analyse.summarise(records)
    backends = marks.ordered(summary["backend"])
    return figures.slices(summary, backends)[number][which], backends


def test_the_map_shows_winner_margin_and_certainty():
    found, backends = slice_of([*blocks("naive", [300] * 3), *blocks("aten", [100] * 3)])
    assert (found["t"], found["b"]) == ([32], [4])
    square = found["cells"][0][0]
    assert backends[square["backend"]] == "aten"
    assert (square["state"], square["margin"]) == ("win", f"3.00{TIMES}")
    assert square["strength"] == pytest.approx(math.log(3) / math.log(4), abs=1e-3)
    assert [backends[one["backend"]] for one in square["ranks"]] == ["aten", "naive"]
    assert found["answer"] == f"aten is fastest in 1 of 1 case, 3.00{TIMES} ahead of the runner-up."


def test_ties_are_shown_as_ties_and_not_counted_as_wins():
    found, _ = slice_of([*blocks("a", [1000, 1050, 990]), *blocks("b", [1010, 1000, 1040])])
    assert found["cells"][0][0]["state"] == "tie"
    assert found["answer"] == "The two fastest cannot be told apart in any case."


def test_below_three_blocks_a_lead_is_not_called_a_win():
    found, _ = slice_of([*blocks("a", [1000]), *blocks("b", [2000])])
    assert found["cells"][0][0]["state"] == "unknown"
    assert "fewer than 3 blocks" in found["answer"]


def test_a_backend_alone_wins_nothing():
    found, _ = slice_of(blocks("a", [1000] * 3))
    assert (found["cells"][0][0]["state"], found["cells"][0][0]["margin"]) == ("alone", "")
    assert "nothing to compare" in found["answer"]


def test_a_wrong_backend_is_listed_under_the_map_and_not_in_it():
    found, backends = slice_of([*blocks("a", [1000] * 3), record("cheat", status="incorrect")])
    square = found["cells"][0][0]
    assert [backends[one["backend"]] for one in square["ranks"]] == ["a"]
    assert [backends[one["backend"]] for one in square["failed"]] == ["cheat"]


def test_a_shape_nobody_was_asked_for_is_a_gap_and_one_nobody_solved_is_not():
    records = [
        *blocks("a", [10] * 3, of=case(seq_len=8, batch=1)),
        record("a", of=case(seq_len=16, batch=2), status="crashed"),
    ]
    cells = slice_of(records)[0]["cells"]
    assert cells[0][1] is None
    assert cells[1][0] is None
    assert cells[1][1]["state"] == "none"


def test_switches_are_the_axes_that_vary_with_passes_in_order():
    summary = analyse.summarise(grid(block_count=1, dtype=("float16", "float32")))
    switches = {axis.name: axis.values for axis in figures.axes(summary)}
    assert switches == {
        "pass": ("forward", "backward"),
        "dtype": ("float32", "float16"),
        "hidden_size": (128, 256),
    }
    assert len(figures.slices(summary, marks.ordered(summary["backend"]))) == 8


def test_input_size_is_a_switch_only_where_it_is_its_own():
    records = [record(of=case(input_size=i, hidden_size=64)) for i in (32, 64)]
    assert [axis.name for axis in figures.axes(analyse.summarise(records))] == ["input_size"]


def test_curves_hold_the_rates_and_their_intervals():
    records = [
        one
        for seq_len, times in ((8, [100, 110, 90]), (32, [300, 310, 320]))
        for one in blocks("aten", times, of=case(seq_len=seq_len, batch=4))
    ]
    row = analyse.summarise(records).iloc[0]
    (figure,), backends = slice_of(records, "over_t")
    (trace,) = figure["data"]
    assert (figure["at"], backends[trace["meta"]]) == (4, "aten")
    assert trace["x"] == [8, 32]
    assert trace["y"][0] == pytest.approx(8 * 4 / 100e-9, rel=1e-5)
    up, down = trace["error_y"]["array"][0], trace["error_y"]["arrayminus"][0]
    assert trace["y"][0] + up == pytest.approx(32 / row["low_ns"] * 1e9, rel=1e-4)
    assert trace["y"][0] - down == pytest.approx(32 / row["high_ns"] * 1e9, rel=1e-4)
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert figure["answer"] == (
        f"At T = 32, aten makes 413 M steps a second: 1.29{TIMES} its rate at T = 8."
    )


def test_sizes_that_do_not_double_keep_a_linear_axis():
    records = [record(of=case(batch=batch)) for batch in (8, 10, 12)]
    (figure,), _ = slice_of(records, "over_b")
    assert figure["layout"]["xaxis"]["type"] == "linear"


def test_an_unknown_interval_is_not_drawn():
    (figure,), _ = slice_of([record()], "over_t")
    assert figure["data"][0]["error_y"]["array"] == [0]


def test_every_figure_is_one_that_plotly_accepts():
    records = [*grid(block_count=3), *(record(name) for name in HOSTILE)]
    summary = analyse.summarise(records)
    for one in figures.slices(summary, marks.ordered(summary["backend"])):
        for figure in one["over_t"] + one["over_b"]:
            plotly.graph_objects.Figure(data=figure["data"], layout=figure["layout"])


def test_no_label_of_a_figure_holds_markup_of_a_name():
    (figure,), _ = slice_of([record(name) for name in HOSTILE], "over_t")
    for trace in figure["data"]:
        labels = [trace["name"], *trace["hovertext"]]
        assert not re.findall(r"<(?!/?b>|br>)", "".join(labels))
