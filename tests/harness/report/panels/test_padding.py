"""What leaving padding out saves, from times whose ratio is known."""

import pandas as pd
import pytest
from panel_checks import check, lines
from synthetic_runs import HOSTILE, blocks, case, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import padding

X = "\N{MULTIPLICATION SIGN}"
HALF, MOST = "uniform:1:32", "uniform:16:32"


def of(backend, median_ns, pass_name="forward", spread=0, **problem):
    """Three blocks; `spread` hits them unlike, so that two cells of it can be a tie."""
    medians = [median_ns - spread, median_ns, median_ns + spread]
    return blocks(backend, medians, of=case(pass_name, **problem))


def share(lengths):
    ragged, full = case(lengths=lengths).problem, case().problem
    return ragged.valid_steps / full.valid_steps


def shown(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return check(padding.panel(Subject(summary, backends))), backends


def test_a_saving_stands_beside_the_share_of_steps_that_exist():
    records = [
        *of("naive", 1000),
        *of("naive", 1000, lengths=HALF),
        *of("aten", 1000),
        *of("aten", 6000, lengths=HALF),
        *of("numba_cpu", 1000),
        *of("numba_cpu", 600, lengths=HALF),
        *of("numba_cpu", 800, lengths=MOST),
    ]
    panel, backends = shown(records)
    (figure,) = panel.figures
    traces = lines(figure.plots[0], backends)
    assert traces["numba_cpu"]["x"] == [
        pytest.approx(share(name), rel=1e-4) for name in (HALF, MOST)
    ]
    assert traces["numba_cpu"]["y"] == [0.6, 0.8]
    assert (traces["aten"]["y"], traces["naive"]["y"]) == ([6], [1])
    assert traces["nothing saved"]["y"] == [1, 1]
    least = pytest.approx(share(HALF), rel=1e-4)
    assert (traces["as much time as steps"]["x"], traces["as much time as steps"]["y"]) == (
        [least, 1],
        [least, 1],
    )
    assert (
        panel.answer
        == figure.answer
        == (
            "1 of 3 backends saves time by leaving padding out, numba_cpu the most: it takes "
            f"0.693{X} the padded batch's time where {share(HALF):.0%} to {share(MOST):.0%} of the "
            f"steps exist; aten takes 6.00{X}; geometric means."
        )
    )


def test_intervals_are_of_blocks_that_timed_both():
    records = [*of("aten", 1000, spread=500), *of("aten", 600, spread=300, lengths=HALF)]
    panel, backends = shown(records)
    point = lines(panel.figures[0].plots[0], backends)["aten"]
    assert point["y"] == [0.6]
    assert point["error_y"]["array"] == pytest.approx([0], abs=1e-4)
    assert panel.answer == (
        f"aten takes 0.600{X} the padded batch's time where {share(HALF):.0%} of the steps exist."
    )


def test_a_tie_saves_nothing():
    tied = [*of("aten", 1000, spread=300), *of("aten", 990, lengths=HALF)]
    panel, _ = shown([*tied, *of("naive", 1000), *of("naive", 1200, lengths=HALF)])
    assert panel.answer.startswith("No backend saves time by leaving padding out: different ")
    assert f"1.20{X} (naive) the padded batch's time" in panel.answer


def test_below_three_blocks_no_interval_is_known():
    records = [record("aten", (100,)), record("aten", (60,), of=case(lengths=HALF))]
    panel, backends = shown(records)
    assert "error_y" not in lines(panel.figures[0].plots[0], backends)["aten"]
    assert panel.answer.endswith("; no interval is known, with fewer than 3 blocks.")


def test_sizes_count_together_and_passes_stand_apart():
    records = [
        *of("aten", 1000, batch=2),
        *of("aten", 500, batch=2, lengths=HALF),
        *of("aten", 1000, batch=4, num_layers=2),
        *of("aten", 600, batch=4, num_layers=2, lengths=HALF),
        *of("aten", 1000, "backward"),
        *of("aten", 700, "backward", lengths=HALF),
    ]
    panel, backends = shown(records)
    assert panel.by == ("pass",)
    found = {figure.key: lines(figure.plots[0], backends)["aten"]["y"] for figure in panel.figures}
    assert {key: sorted(times) for key, times in found.items()} == {
        ("forward",): [0.5, 0.6],
        ("backward",): [0.7],
    }


def test_a_full_batch_of_another_size_is_no_pair():
    records = [
        *of("aten", 1000, batch=2),
        *of("aten", 500, batch=4, lengths=HALF),
        *of("naive", 1000),
        record("naive", of=case(lengths=HALF), status="incorrect"),
    ]
    assert "add `full`" in shown(records)[0].absent


def test_runs_are_never_mixed():
    full, ragged = of("aten", 1000), of("aten", 500, lengths=HALF)
    apart = [summarise(full).assign(run="old"), summarise(ragged).assign(run="new")]
    assert padding.panel(Subject(pd.concat(apart, ignore_index=True), ["aten"])).absent
    both = [summarise([*full, *ragged]).assign(run="old"), *apart[1:]]
    panel = padding.panel(Subject(pd.concat(both, ignore_index=True), ["aten"]))
    assert [figure.key for figure in panel.figures] == [("old",)]
    assert f"old: aten takes 0.500{X}" in panel.answer
    assert "new: No backend has a batch of different lengths" in panel.answer


@pytest.mark.parametrize(
    ("records", "absent"),
    [
        ([], "Not measured: every length is T; "),
        (of("aten", 100), "Not measured: every length is T; type `lstm-bench run --lengths full,"),
        ([record("aten", status="crashed")], "No backend gave a correct result"),
        (of("aten", 100, lengths=HALF), "Not measured: no backend has a batch of different"),
    ],
)
def test_it_has_a_figure_only_where_both_were_measured(records, absent):
    panel, _ = shown(records)
    assert panel.absent.startswith(absent)


def test_the_claim_stands_beside_with_its_source():
    assert "about 30%" in padding.NOTE
    assert "not measured here" in padding.NOTE
    assert "Element-Research/rnn" in padding.NOTE


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_short(hostile):
    panel, _ = shown([*of(hostile, 200), *of(hostile, 300, lengths=HALF)])
    assert len(panel.figures[0].answer) < 200
