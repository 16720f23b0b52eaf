"""The page of a training, on curves that are made up."""

import pytest
from made_up_training import MANIFEST, REFUSED, WORKLOAD, first_losses, learnt, race
from synthetic_runs import HOSTILE, environment
from written_pages import plots_of, text_of

from lstm_harness.console import training as told
from lstm_harness.model.training import End
from lstm_harness.report import training as page

SECONDS, STEPS, LOSS_SECONDS, LOSS_STEPS = range(4)


def render(*curves, **manifest):
    return page.render(WORKLOAD, curves, MANIFEST | manifest)


def named(plot):
    """The traces that the legend tells of, by their names."""
    return {trace["name"]: trace for trace in plot["data"] if trace.get("showlegend", True)}


def test_the_page_says_who_is_first_by_which_command_and_on_what():
    machine = environment()
    asked = ["lstm-bench", "train", "--html", "a page.html"]
    curves = race({"naive": 30, "aten": 6})
    said = text_of(render(*curves, command=asked, environment=machine))
    for sentence in told.sentences(WORKLOAD, curves):
        assert sentence in said
    assert "lstm-bench train --html &#39;a page.html&#39;" in said
    assert f"torch {machine['torch']}" in said
    assert machine["cpu"]["model"] in said
    assert "1 aten lstm 3 3 18.0 300 0.00910 ± 1.0e-04" in said
    assert f"licence {WORKLOAD.licence}" in said
    assert f"goal {WORKLOAD.goal}" in said


def test_each_value_is_drawn_against_seconds_and_against_steps():
    curves = [learnt("naive", seed, 0.9 - seed / 10, 0.5, pace=1 + seed) for seed in range(3)]
    plots = plots_of(render(*curves))
    lines = [named(plot)["naive"] for plot in plots]
    assert [line["x"] for line in lines] == [[2, 4], [100, 200]] * 2
    assert [line["y"] for line in lines] == [[0.8, 0.5]] * 4
    band = plots[STEPS]["data"][0]
    assert (band["x"], band["y"]) == ([100, 200, 200, 100], [0.9, 0.5, 0.5, 0.7])
    assert [plot["layout"]["xaxis"]["title"]["text"] for plot in plots] == [
        *("seconds of training", "steps"),
        *("seconds of training", "steps"),
    ]


def test_the_goal_and_the_baseline_are_levels_of_held_out_data_alone():
    plots = plots_of(render(learnt("naive", 0, 0.1, 0.05, baseline=0.167)))
    held_out = named(plots[STEPS])
    assert held_out["goal: 0.01"]["y"] == [0.01, 0.01]
    assert held_out["baseline: 0.167"]["y"] == [0.167, 0.167]
    assert held_out["goal: 0.01"]["x"] == [0, 200]
    assert list(named(plots[LOSS_STEPS])) == ["naive"]


def test_past_what_all_seeds_came_to_single_seeds_are_drawn():
    curves = [learnt("naive", 0, 0.9, 0.5), learnt("naive", 1, 0.8, 0.4, 0.3)]
    plot = plots_of(render(*curves))[STEPS]
    _, line, beyond = plot["data"][:3]
    assert line["x"] == [100, 200]
    assert (beyond["x"], beyond["y"]) == ([200, 300, None], [0.4, 0.3, None])
    assert beyond["marker"]["size"] == [0, 8, 0]
    assert beyond["legendgroup"] == line["legendgroup"]


def test_what_is_not_finite_is_not_drawn():
    plot = plots_of(render(learnt("naive", 0, 0.9, None, 0.5)))[STEPS]
    assert named(plot)["naive"]["x"] == [100, 300]


def test_what_lies_decades_apart_has_a_logarithmic_axis():
    near, far = (plots_of(render(*race({"naive": 30, "aten": pace}))) for pace in (10, 2))
    assert [plot["layout"]["xaxis"].get("type") for plot in near] == [None] * 4
    assert [plot["layout"]["xaxis"].get("type") for plot in far] == ["log", None, "log", None]
    assert named(far[SECONDS])["goal: 0.01"]["x"] == [2, 90]
    assert near[STEPS]["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize(
    ("curves", "names", "looks"),
    [
        (
            [learnt("naive", 0, 0.1, cell=cell) for cell in ("lstm", "gru")],
            ["lstm", "gru"],
            "colours",
        ),
        (
            [learnt(name, 0, 0.1, cell=cell) for name in ("naive", "aten") for cell in ("a", "b")],
            ["naive a", "aten a", "naive b", "aten b"],
            "colours and dashes",
        ),
    ],
)
def test_contestants_are_told_apart_by_name_and_look(curves, names, looks):
    traces = list(named(plots_of(render(*curves))[LOSS_STEPS]).values())
    assert [trace["name"] for trace in traces] == names
    colours = [trace["meta"]["light"] for trace in traces]
    dashes = [trace["line"]["dash"] for trace in traces]
    assert len(set(zip(colours, dashes, strict=True))) == len(names)
    assert len(set(colours)) == 2
    assert len(set(dashes)) == (1 if looks == "colours" else 2)


def test_a_cheat_is_drawn_and_has_no_rank():
    cheat = learnt("cheat", 0, 0.17, 0.16, opening=first_losses(0, 3, 0.01))
    html = render(*race({"naive": 30, "aten": 6}), cheat)
    assert "cheat learns otherwise with lstm" in text_of(html)
    assert named(plots_of(html)[STEPS])["cheat"]["y"] == [0.17, 0.16]


def test_examples_are_those_of_the_first_seed_told_once_and_clipped():
    long = tuple(f"line {number}" for number in range(20))
    curves = [
        *(learnt(name, 0, 0.1, examples=("1.0: 0.9", "y" * 1000)) for name in ("naive", "aten")),
        learnt("naive", 1, 0.1, examples=("of seed 1",)),
        learnt("numba_cpu", 0, 0.1, examples=long),
        learnt("late", 0, 0.1, end=False),
    ]
    said = text_of(render(*curves))
    assert "naive, seed 0; aten, seed 0 1.0: 0.9 yyy" in said
    assert "y" * 300 not in said
    assert "of seed 1" not in said
    assert "line 7 12 further lines are left out" in said
    assert "late, seed" not in said


def test_who_did_not_end_is_told_with_the_reason():
    late = learnt("aten", 1, 0.1, end=End("out_of_time", "60 s are over"))
    said = text_of(render(learnt("naive", 0, end=REFUSED), late))
    assert "naive, lstm, seed 0: unsupported: not this one" in said
    assert "aten, lstm, seed 1: out_of_time: 60 s are over" in said


def test_a_page_of_refusals_alone_draws_nothing():
    html = render(learnt("naive", 0, end=REFUSED))
    assert "Nothing could be trained." in text_of(html)
    assert plots_of(html) == []
    assert 'class="plot"' not in html


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_text(name):
    curves = [
        learnt(name, 0, 0.1, cell=name, examples=(name,)),
        learnt("naive", 0, 0.1, cell=name),
        learnt(name, 1, end=End("crashed", name)),
    ]
    html = render(*curves, command=["lstm-bench", name])
    before, _, _ = html.partition('<script type="application/json"')
    assert "<script" not in before
    assert "<img" not in before
    assert "<b>" not in before
    plots_of(html)
    assert len(html) < 6_000_000
