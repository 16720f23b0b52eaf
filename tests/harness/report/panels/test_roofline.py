"""The roofline, from ceilings with round numbers and times whose rate is known."""

import pandas as pd
import pytest
from known_limits import cpu_limits, gpu_limits
from panel_checks import check, lines
from synthetic_runs import HOSTILE, blocks, case, grid, record, run

from lstm_harness.analysis.floors.floor import with_floor
from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import roofline


def of(backend, gflops, term=None, pass_name="forward", **problem):
    """Three blocks of a backend that does so many GFLOP/s."""
    one = case(pass_name, **problem)
    ns = round(one.problem.flops(pass_name) / gflops)
    floor = {} if term is None else {"floor_ns": ns / 2, "floor_term": term}
    return blocks(backend, [ns] * 3, of=one, **floor)


def shown(records, ceilings=None):
    made = run(records, limits=(ceilings or cpu_limits()).to_dict())
    summary = summarise(made.records)
    backends = marks.ordered(summary["backend"])
    return check(roofline.panel(Subject(summary, backends, {"run": made}))), summary, backends


def test_a_point_stands_at_its_rate_and_intensity():
    panel, summary, backends = shown([*of("aten", 50, hidden_size=64), *of("naive", 20)])
    (figure,) = panel.figures
    drawn = lines(figure.plots[0], backends)
    problem = case(hidden_size=64).problem
    assert drawn["aten"]["y"] == [pytest.approx(50, rel=1e-3)]
    intensity = problem.flops("forward") / problem.bytes("forward")
    assert drawn["aten"]["x"] == [pytest.approx(intensity, rel=1e-4)]
    assert drawn["naive"]["customdata"] == [1]
    assert summary.loc[1, "backend"] == "naive"


def test_every_ceiling_is_a_line_that_ends_where_the_next_begins():
    panel, _, backends = shown(of("aten", 50))
    drawn = lines(panel.figures[0].plots[0], backends)
    assert drawn["product rate"]["y"] == [200, 200]
    for level, bandwidth in (("L1", 800), ("L2", 400), ("L3", 100), ("memory", 40)):
        line = drawn[f"{level} bandwidth"]
        assert line["y"] == pytest.approx([x * bandwidth for x in line["x"]], rel=1e-4)
        assert line["y"][1] == pytest.approx(200)
    assert drawn["product rate"]["x"][0] == drawn["L1 bandwidth"]["x"][1]
    assert drawn["product rate"]["x"][1] > max(drawn["memory bandwidth"]["x"])


def test_a_dtypes_roof_is_the_fastest_that_may_make_its_products():
    panel, _, backends = shown([*of("aten", 50), *of("aten", 50, dtype="float16")])
    assert panel.by == ("dtype",)
    rates = {
        figure.key: lines(figure.plots[0], backends)["product rate"]["y"][0]
        for figure in panel.figures
    }
    assert rates == {("float32",): 200, ("float16",): 200}
    panel, _, backends = shown(of("aten", 50, dtype="bfloat16"))
    assert lines(panel.figures[0].plots[0], backends)["product rate"]["y"][0] == 800


def test_the_sentence_tells_the_share_and_counts_what_binds():
    records = [
        *of("aten", 100, "products", hidden_size=64),
        *of("naive", 10, "products", hidden_size=64),
        *of("aten", 50, "weights from L2", hidden_size=128),
        *of("aten", 20, "gates", hidden_size=256),
        *of("aten", 20, "one launch", hidden_size=512),
    ]
    panel, _, _ = shown(records)
    bound = "what sets the floor: arithmetic in 1, data or weights in 1, latency in 2 of 4 cases."
    assert panel.figures[0].answer == (
        "aten is fastest at T = 32, B = 4, H = 64: 100 GFLOP/s, 50% of the product rate; " + bound
    )
    assert panel.answer == (
        "aten comes nearest to the product rate (forward, float32 ieee): 100 GFLOP/s, 50% of the "
        "product rate; " + bound
    )


def test_without_a_product_rate_the_slopes_stand_alone():
    unknown = cpu_limits({("product", "float32 ieee"): 0})
    panel, _, backends = shown(of("aten", 100), unknown)
    assert "product rate" not in lines(panel.figures[0].plots[0], backends)
    assert "the product rate was not measured" in panel.figures[0].answer
    assert "no floor is known" in panel.answer


def test_no_ceilings_is_said_to_be_not_measured():
    for made in (run(of("aten", 9)), run(of("aten", 9), limits={"schema": 99})):
        panel = check(roofline.panel(Subject(summarise(made.records), ["aten"], {"x": made})))
        assert "`lstm-bench limits`" in panel.absent
    panel, _, _ = shown(of("aten", 9), gpu_limits())
    assert panel.absent
    panel, _, _ = shown([record("aten", status="crashed")])
    assert panel.absent.startswith("No backend gave a correct result")
    assert shown([])[0].absent


def test_each_run_stands_under_its_own_ceilings():
    faster = cpu_limits({("product", "float32 ieee"): 400e9})
    runs = [run(of("aten", 50), limits=each.to_dict()) for each in (cpu_limits(), faster)]
    runs.append(run(of("aten", 50)))
    parts = [summarise(r.records).assign(run=n) for r, n in zip(runs, "xyz", strict=True)]
    summary = pd.concat(parts, ignore_index=True)
    panel = check(roofline.panel(Subject(summary, ["aten"], dict(zip("xyz", runs, strict=True)))))
    rates = {f.key: lines(f.plots[0], ["aten"])["product rate"]["y"][0] for f in panel.figures}
    assert rates == {("x",): 200, ("y",): 400}


def test_every_cell_of_a_choice_is_a_point():
    records = [with_floor(one, cpu_limits()) for one in grid()]
    panel, _, _ = shown(records)
    assert [figure.key for figure in panel.figures] == [("forward",), ("backward",)]
    for figure in panel.figures:
        points = [len(each["x"]) for each in figure.plots[0].data if each["meta"] is not None]
        assert points == [18] * 5


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_level_is_no_markup(hostile):
    stored = cpu_limits().to_dict()
    stored["levels"] = [{"name": hostile, "bytes": None}]
    stored["ceilings"] = [each | {"of": hostile, "kind": "read"} for each in stored["ceilings"][:1]]
    made = run(of("aten", 9, hostile), limits=stored)
    panel = check(roofline.panel(Subject(summarise(made.records), ["aten"], {"x": made})))
    name = panel.figures[0].plots[0].data[-1]["name"]
    assert "<" not in name
    assert len(name) < 80
