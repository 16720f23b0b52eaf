"""The distance to the floor, from data whose answer is known."""

import pytest
from known_limits import ceiling, cpu_limits
from panel_checks import check, lines
from synthetic_runs import blocks, case, grid, record

from lstm_harness.analysis.floors.floor import with_floor
from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import limits


def of(medians_us, floor_us, backend="aten", term="products", **problem):
    """Three blocks of one backend on one case, with a floor."""
    times = [int(each * 1e3) for each in medians_us]
    known = {"floor_ns": floor_us * 1e3, "floor_term": term}
    return blocks(backend, times, of=case(seq_len=10, **problem), **known)


def shown(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return check(limits.panel(Subject(summary, backends))), summary, backends


def test_a_step_and_its_share_of_the_floor_stand_side_by_side():
    records = [
        *of([100, 100, 100], 50, hidden_size=64),
        *of([400, 400, 400], 100, hidden_size=128, term="weights from L2"),
        *of([200, 200, 200], 50, backend="naive", hidden_size=64),
    ]
    panel, _, backends = shown(records)
    assert panel.by == ()
    (figure,) = panel.figures
    step, share = (lines(plot, backends) for plot in figure.plots)
    assert (step["aten"]["x"], step["aten"]["y"]) == ([64, 128], [10, 40])
    assert (step["naive"]["x"], step["naive"]["y"]) == ([64], [20])
    assert (step["the floor"]["x"], step["the floor"]["y"]) == ([64, 128], [5, 10])
    assert (share["naive"]["y"], share["aten"]["y"]) == ([25], [50, 25])
    assert step["aten"]["customdata"] == share["aten"]["customdata"] == [0, 1]
    assert step["naive"]["customdata"] == [2]
    assert figure.answer == (
        "aten comes nearest at H = 64: it reaches 50% of the speed that the floor allows; "
        "products set the floor."
    )


def test_both_bars_are_of_the_same_interval():
    panel, summary, backends = shown(of([90, 100, 111], 50))
    row = summary.iloc[0]
    step, share = (lines(plot, backends)["aten"]["error_y"] for plot in panel.figures[0].plots)
    assert step["array"][0] == pytest.approx((row["high_ns"] - row["median_ns"]) / 1e4, rel=1e-4)
    below = (row["median_ns"] - row["low_ns"]) / 1e4
    assert step["arrayminus"][0] == pytest.approx(below, rel=1e-4)
    assert share["array"][0] == pytest.approx(100 * 50e3 / row["low_ns"] - 50, rel=1e-4)
    assert share["arrayminus"][0] == pytest.approx(50 - 100 * 50e3 / row["high_ns"], rel=1e-4)
    panel, _, backends = shown(of([100, 100], 50))
    assert "error_y" not in lines(panel.figures[0].plots[0], backends)["aten"]


def test_what_they_run_not_along_chooses_a_figure():
    axes = {"seq_len": (8, 16), "batch": (1, 2), "hidden_size": (8, 16)}
    records = [with_floor(one, cpu_limits()) for one in grid(**axes, block_count=1)]
    panel, _, _ = shown(records)
    assert panel.by == ("seq_len", "batch", "pass")
    assert len(panel.figures) == 8
    for figure in panel.figures:
        assert [trace["x"] for trace in figure.plots[1].data] == [[8, 16]] * 5


def test_no_figure_says_why():
    panel, _, _ = shown(blocks("aten", [100] * 3))
    assert "`lstm-bench limits`" in panel.absent
    panel, _, _ = shown([record("aten", status="crashed")])
    assert panel.absent.startswith("No backend gave a correct result")
    wrong = [*of([100], 50), *[record("cheat", of=case(seq_len=10), status="incorrect")]]
    panel, _, backends = shown(wrong)
    assert set(lines(panel.figures[0].plots[1], backends)) == {"aten"}
    panel, _, _ = shown([])
    assert panel.absent


def test_the_sentence_tells_how_near_and_what_binds():
    records = [
        *of([100], 10, hidden_size=8),
        *of([100], 50, hidden_size=16),
        *of([200], 50, hidden_size=16, backend="naive"),
        *of([100], 90, hidden_size=32, term="weights from L2"),
    ]
    assert limits.answer(shown(records)[1]) == (
        "The nearest backend reaches 50% of the speed that the floor allows in the median of 3 "
        "cases (10% to 90%); what sets the floor: products in 2, weights from L2 in 1."
    )
    below = limits.answer(shown([*records, *of([10], 90, hidden_size=64)])[1])
    assert "1 cell is faster than the floor" in below
    assert limits.answer(shown(of([400], 8))[1]) == (
        "The nearest backend reaches 2% of the speed that the floor allows; what sets the floor: "
        "products in 1."
    )


def test_without_a_floor_there_is_no_answer():
    assert limits.answer(summarise(blocks("aten", [100] * 3))) == ""


def test_a_ceiling_is_shown_in_a_readers_unit():
    assert ceiling("read", "L2", 123.4e9).shown(123.4e9) == "123"
    assert ceiling("product", "float16 ieee", 789e12).shown(789e12) == "789,000"
    assert ceiling("flag", "from SM to SM", 160.0).shown(None) == "unknown"
