"""What a field costs, from times whose ratio is known."""

import pandas as pd
import pytest
from panel_checks import check, lines
from synthetic_runs import HOSTILE, blocks, case, grid, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import costs

X = "\N{MULTIPLICATION SIGN}"


def of(backend, median_ns, pass_name="forward", **problem):
    return blocks(backend, [median_ns] * 3, of=case(pass_name, **problem))


def shown(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return check(costs.panel(Subject(summary, backends))), backends


def plot_of(panel, backends, title, figure=0):
    (plot,) = (p for p in panel.figures[figure].plots if p.title.startswith(title))
    return lines(plot, backends)


def test_a_second_direction_and_depth_are_ratios_within_a_backend():
    records = [
        *of("aten", 100),
        *of("aten", 190, bidirectional=True),
        *of("aten", 390, num_layers=4),
        *of("naive", 1000),
        *of("naive", 2100, bidirectional=True),
    ]
    panel, backends = shown(records)
    assert panel.by == ()
    directions = plot_of(panel, backends, "Directions")
    times = {name: bar["y"] for name, bar in directions.items()}
    assert times == {"naive": [2.1], "aten": [1.9], "counting products": [2]}
    layers = plot_of(panel, backends, "Layers")
    assert (layers["aten"]["x"], layers["aten"]["y"]) == (["4 layers"], [3.9])
    assert "naive" not in layers
    assert (
        panel.figures[0].answer
        == panel.answer
        == (
            f"4 layers take 3.90{X} (aten) the time of one layer (0.975{X} (aten) a layer), over 1 "
            f"pair; two directions take 1.90{X} (aten) to 2.10{X} (naive) the time of one "
            f"direction, over 2 pairs."
        )
    )
    assert "Not measured: variants" in panel.note
    assert "depth" not in panel.note


def test_ratios_of_many_pairs_have_a_geometric_mean_and_their_extremes():
    records = [
        *of("aten", 100, batch=1),
        *of("aten", 100, batch=2),
        *of("aten", 50, batch=1, cell="gru"),
        *of("aten", 200, batch=2, cell="gru"),
        *of("aten", 9, batch=4, cell="gru"),
    ]
    panel, backends = shown(records)
    bar = plot_of(panel, backends, "Variants")["aten"]
    assert (bar["x"], bar["y"], bar["text"]) == (["gru"], [1], ["2 pairs"])
    assert bar["error_y"] == {"array": [1], "arrayminus": [0.5]}
    assert "customdata" not in bar
    assert panel.answer == (
        f"gru takes 1.000{X} (aten) the time of lstm, over 2 pairs; geometric means."
    )


def test_depth_is_told_by_layer_and_beside_the_products():
    records = [
        *of("aten", 100),
        *of("aten", 150, num_layers=2),
        *of("aten", 200, bidirectional=True),
        *of("aten", 500, bidirectional=True, num_layers=2),
    ]
    panel, backends = shown(records)
    whole = plot_of(panel, backends, "Layers, against one layer")
    a_layer = plot_of(panel, backends, "Time a layer, against one layer")
    options = ["2 layers", "2 layers of two directions"]
    assert (whole["aten"]["x"], whole["aten"]["y"]) == (options, [1.5, 2.5])
    assert (a_layer["aten"]["x"], a_layer["aten"]["y"]) == (options, [0.75, 1.25])
    # Of two directions, the second layer reads 2H beside its own H, the first one H.
    assert whole["counting products"]["y"] == [2, 2.5]
    assert a_layer["counting products"]["y"] == [1, 1.25]
    directions = plot_of(panel, backends, "Directions")
    assert directions["aten"]["x"] == ["two directions", "two directions of 2 layers"]
    assert directions["aten"]["y"] == [2, pytest.approx(500 / 150, rel=1e-4)]
    assert directions["counting products"]["y"] == [2, 2.5]
    assert panel.answer.startswith(
        f"2 layers take 1.50{X} (aten) the time of one layer (0.750{X} (aten) a layer), over 1 pair"
        f"; two directions take 2.00{X} (aten) the time of one direction, over 1 pair;"
    )


def test_a_variant_stands_beside_its_products():
    panel, backends = shown([*of("aten", 100), *of("aten", 90, cell="gru")])
    variants = plot_of(panel, backends, "Variants")
    assert variants["counting products"]["y"] == [0.75]
    assert variants["aten"]["y"] == [0.9]


def test_cases_that_differ_in_more_are_no_pair():
    records = [
        *of("aten", 100),
        *of("aten", 100, bidirectional=True, num_layers=2),
        *of("aten", 100, "backward", num_layers=2),
        *of("naive", 100, num_layers=2),
        record("hoisted", of=case(num_layers=2)),
        record("hoisted", of=case(), status="incorrect"),
    ]
    panel, _ = shown(records)
    assert panel.absent.startswith("Not measured: ")
    assert "`--layers 1,2,4`" in panel.absent


def test_depth_of_two_directions_is_against_two_directions():
    records = [
        *of("aten", 100, bidirectional=True),
        *of("aten", 300, bidirectional=True, num_layers=2),
    ]
    panel, backends = shown(records)
    assert plot_of(panel, backends, "Layers")["aten"]["y"] == [3]


def test_passes_and_runs_stand_apart():
    records = [
        *of("aten", 100),
        *of("aten", 200, num_layers=2),
        *of("aten", 100, "backward"),
        *of("aten", 400, "backward", num_layers=2),
    ]
    panel, backends = shown(records)
    assert panel.by == ("pass",)
    bars = [plot_of(panel, backends, "Layers", figure)["aten"]["y"] for figure in (0, 1)]
    assert bars == [[2], [4]]
    halves = [
        summarise(part).assign(run=n) for part, n in ((records[:3], "x"), (records[3:6], "y"))
    ]
    together = pd.concat(halves, ignore_index=True)
    assert costs.panel(Subject(together, ["aten"])).absent


def test_nothing_to_tell_is_said():
    assert shown([])[0].absent
    assert shown([record("aten", status="crashed")])[0].absent.startswith("No backend gave")
    assert shown([record("aten")])[0].absent.startswith("Not measured")


def test_values_stand_in_a_readers_order():
    records = [
        *grid(["aten"], block_count=1, num_layers=(1, 10, 2), cell=("rnn_tanh", "gru", "lstm"))
    ]
    panel, _ = shown(records)
    order = {p.title: p.layout["xaxis"]["categoryarray"] for p in panel.figures[0].plots}
    assert order["Layers, against one layer"] == ["2 layers", "10 layers"]
    assert order["Variants, against lstm"] == ["gru", "rnn_tanh"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_short(hostile):
    panel, _ = shown([*of(hostile, 2), *of(hostile, 3, num_layers=2)])
    assert len(panel.figures[0].answer) < 200
