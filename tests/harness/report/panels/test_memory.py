"""Memory against T, from data whose answer is known."""

import pytest
from panel_checks import check, lines
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import memory

X = "\N{MULTIPLICATION SIGN}"


def of(backend, peak_mb, saved_mb=None, pass_name="forward", **problem):
    """One backend on one case, with its memory in MB."""
    saved = None if saved_mb is None else int(saved_mb * 1e6)
    known = {"peak_bytes": int(peak_mb * 1e6), "saved_bytes": saved}
    return blocks(backend, [1000] * 3, of=case(pass_name, **problem), **known)


def shown(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return check(memory.panel(Subject(summary, backends))), backends


def test_peak_and_saved_stand_against_t_and_the_least_is_named():
    records = [
        *of("aten", 2, 1, seq_len=8),
        *of("aten", 4, 2, seq_len=16),
        *of("naive", 3, 0.5, seq_len=8),
        *of("naive", 12, 1, seq_len=16),
    ]
    panel, backends = shown(records)
    assert panel.by == ()
    (figure,) = panel.figures
    peak, saved = (lines(plot, backends) for plot in figure.plots)
    assert (peak["aten"]["x"], peak["aten"]["y"]) == ([8, 16], [2, 4])
    assert (saved["naive"]["y"], saved["naive"]["customdata"]) == ([0.5, 1], [2, 3])
    assert figure.plots[0].layout["yaxis"]["type"] == "log"
    assert figure.answer == (
        f"At T = 16, aten needs the least, 4.00 MB at the peak, and naive the most, 3.00{X} that; "
        f"naive needs the least, 1.00 MB saved for backward, and aten the most, 2.00{X} that."
    )
    assert panel.answer == (
        f"aten has the lowest peak in 2 of 2 cases; the highest is 2.12{X} that "
        "(geometric mean of 2)."
    )


def test_an_inference_saves_nothing_and_no_plot_of_it_is_drawn():
    panel, _ = shown([*of("aten", 2, seq_len=8), *of("naive", 3, seq_len=8)])
    assert [plot.title for plot in panel.figures[0].plots] == ["Peak"]
    assert "saved" not in panel.figures[0].answer


def test_equals_are_told_as_equals():
    panel, _ = shown([*of("aten", 2, 1), *of("naive", 2, 1), *of("numba_cpu", 8, 0)])
    (figure,) = panel.figures
    assert "aten and naive need the least, 2.00 MB at the peak, and numba_cpu the most" in (
        figure.answer
    )
    assert "numba_cpu needs the least, 0 bytes saved for backward, and aten the most, 1.00 MB" in (
        figure.answer
    )
    assert figure.plots[1].layout["yaxis"]["type"] == "linear"
    assert panel.answer == "Several backends share the lowest peak in all of 1 case."
    panel, _ = shown([*of("aten", 2), *of("naive", 2)])
    assert (
        panel.figures[0].answer == "At T = 32, aten and naive need the same: 2.00 MB at the peak."
    )


def test_where_t_is_one_they_run_along_b_and_else_along_h():
    panel, backends = shown([*of("aten", 2, batch=1), *of("aten", 4, batch=8)])
    assert lines(panel.figures[0].plots[0], backends)["aten"]["x"] == [1, 8]
    panel, backends = shown([*of("aten", 2, hidden_size=64), *of("aten", 4, hidden_size=128)])
    assert lines(panel.figures[0].plots[0], backends)["aten"]["x"] == [64, 128]
    assert panel.figures[0].answer.startswith("At H = 128, ")


def test_sizes_have_their_prefix():
    panel, _ = shown([*of("aten", 34_400, 0.0035), *of("naive", 40_000, 0.0000005)])
    assert "34.4 GB at the peak" in panel.figures[0].answer
    assert "naive needs the least, 0 bytes saved" in panel.figures[0].answer


def test_one_backend_is_compared_with_nobody():
    panel, _ = shown(of("aten", 2))
    assert panel.figures[0].answer == "At T = 32, aten is the only one: 2.00 MB at the peak."
    assert "nothing to compare" in panel.answer


def test_what_is_not_correct_has_no_place():
    wrong = record("cheat", status="incorrect", peak_bytes=1)
    panel, backends = shown([*of("aten", 2), *of("naive", 3), wrong])
    assert "cheat" not in lines(panel.figures[0].plots[0], backends)
    panel, _ = shown([wrong])
    assert panel.absent.startswith("No backend gave a correct result")


def test_memory_not_measured_is_said_to_be():
    panel, _ = shown(blocks("aten", [1000] * 3))
    assert panel.absent.startswith("Memory was not measured")
    assert shown([])[0].absent


def test_every_choice_of_the_rest_has_its_figure():
    panel, _ = shown(grid(block_count=1))
    assert panel.by == ("batch", "hidden_size", "pass")
    assert len(panel.figures) == 3 * 2 * 2


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_short(hostile):
    panel, _ = shown([*of(hostile, 2), *of("aten", 3)])
    assert len(panel.figures[0].answer) < 200
