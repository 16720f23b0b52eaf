"""The page of gradients, on data that is made up."""

import pytest
from made_up_gradients import gradients, halving
from synthetic_runs import HOSTILE, environment
from written_pages import plots_of, text_of

from lstm_harness.report import gradients as page
from lstm_harness.report import lines


def test_the_page_says_who_keeps_most_by_which_command_and_on_what():
    machine = environment()
    asked = ("lstm-bench", "gradients", "--html", "a page.html")
    found = gradients(
        *(("lstm", halving(4)), ("gru", halving(4, every=2))), command=asked, environment=machine
    )
    said = text_of(page.render(found))
    assert "2 steps before the loss, gru has 0.50 of its gradient left, lstm 0.25." in said
    assert "lstm-bench gradients --html &#39;a page.html&#39;" in said
    assert f"torch {machine['torch']}" in said
    assert machine["cpu"]["model"] in said
    assert "lstm 1.0 0.50 0.25 0.062 1.0 gru 1.0 0.71 0.50 0.25 2.0" in said


def test_a_line_is_the_median_in_a_band_from_the_least_to_the_most():
    html = page.render(gradients(("lstm", ((1.0, 0.5), (1.0, 0.1), (1.0, 0.4)))))
    (plot,) = plots_of(html)
    band, line = plot["data"]
    assert (line["x"], line["y"]) == ([0, 1], [1, 0.4])
    assert (band["x"], band["y"]) == ([0, 1, 1, 0], [1, 0.5, 0.1, 1])
    assert band["fill"] == "toself"
    assert plot["layout"]["yaxis"]["type"] == "log"
    assert "0.40 0.10 to 0.50" in text_of(html)


def test_lines_have_colours_symbols_and_names_of_their_own():
    cells = ["lstm", "gru", "rnn_tanh", "mgu", "ugrnn"]
    (plot,) = plots_of(page.render(gradients(*((cell, halving(2)) for cell in cells))))
    lines = plot["data"][1::2]
    assert [line["name"] for line in lines] == cells
    looks = [(line["meta"]["light"], line["marker"]["symbol"]) for line in lines]
    assert len(set(looks)) == len({colour for colour, _ in looks}) == len(cells)
    assert [band["legendgroup"] for band in plot["data"][0::2]] == [
        line["legendgroup"] for line in lines
    ]


def test_what_is_0_or_not_finite_is_told_and_not_drawn():
    html = page.render(gradients(("lstm", (1.0, 1e-40, 0.0, 0.0)), ("gru", (1.0, 2.0, None, None))))
    (plot,) = plots_of(html)
    assert [line["x"] for line in plot["data"][1::2]] == [[0, 1], [0, 1]]
    said = text_of(html)
    assert "lstm is 0 from 2 steps on, and not drawn there." in said
    assert "gru 1.0 2.0 not finite not finite" in said


def test_where_one_seed_is_0_the_line_goes_on_without_the_band():
    (plot,) = plots_of(page.render(gradients(("lstm", ((1.0, 0.5, 0.0), (1.0, 0.5, 0.2))))))
    band, line = plot["data"]
    assert line["x"] == [0, 1, 2]
    assert band["x"] == [0, 1, 1, 0]


def test_a_long_sequence_is_drawn_at_some_of_its_steps():
    (plot,) = plots_of(page.render(gradients(("lstm", halving(5000, every=300)))))
    drawn = plot["data"][1]["x"]
    assert drawn[0] == 0
    assert drawn[-1] > 4980
    assert len(drawn) <= lines.MOST_POINTS


def test_who_has_none_is_told_with_the_reason():
    html = page.render(gradients(("lstm", halving(2)), ("mgu", "not this one")))
    assert "naive on mgu T1 B1 H4 float32: unsupported: not this one" in text_of(html)


def test_a_page_of_refusals_alone_draws_nothing():
    html = page.render(gradients(("mgu", "not this one")))
    assert "No gradient could be followed." in text_of(html)
    assert plots_of(html) == []
    assert 'class="plot"' not in html


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_text(name):
    lines = ("lstm", halving(2)), ("gru", name)
    found = gradients(*lines, backend=name, command=("lstm-bench", name))
    html = page.render(found)
    before, _, _ = html.partition('<script type="application/json"')
    assert "<script" not in before
    assert "<img" not in before
    assert "<b>" not in before
    plots_of(html)
    assert len(html) < 6_000_000
