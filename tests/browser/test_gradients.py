"""The page of gradients in Chromium: drawn, told, reachable, and at home."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from made_up_gradients import gradients, halving
from synthetic_runs import environment

from lstm_harness.report.gradients import render

pytestmark = pytest.mark.browser

CELLS = ("rnn_tanh", "lstm", "gru")
COMMAND = ("lstm-bench", "gradients", "--html", "gradients.html")


def found(*more):
    lines = [
        (cell, tuple(halving(100, every=2 + at + off) for off in (0, 0.2, -0.2)))
        for at, cell in enumerate(CELLS)
    ]
    return gradients(*lines, *more, environment=environment(), command=COMMAND)


def colours(page):
    lines = page.locator("#series-0 .scatterlayer .lines path.js-line").all()
    return [line.evaluate("each => getComputedStyle(each).stroke") for line in lines]


def test_a_line_and_a_band_a_cell_are_drawn_in_the_colours_of_the_scheme(browse):
    light, dark = (colours(browse(render(found()), scheme=scheme)) for scheme in ("light", "dark"))
    assert len(set(light)) == len(set(dark)) == len(CELLS)
    assert not set(light) & set(dark)


def test_bands_are_filled_and_lines_are_named(browse):
    page = browse(render(found()))
    filled = page.locator("#series-0 .scatterlayer .js-fill").all()
    assert len(filled) == len(CELLS)
    assert page.locator("#series-0 .legendtext").all_text_contents() == list(CELLS)
    names = page.get_attribute("#series-0", "aria-labelledby").split()
    assert "50 steps before the loss" in " ".join(page.inner_text(f"#{name}") for name in names)


def test_the_axis_is_one_of_powers(browse):
    ticks = browse(render(found())).locator("#series-0 .ytick text").all_text_contents()
    assert any("10\N{MINUS SIGN}" in tick.replace("\u200b", "") for tick in ticks), ticks


@pytest.mark.parametrize("width", [400, 2560])
def test_it_does_not_scroll_sideways(browse, width):
    page = browse(render(found(("mgu", "a reason " * 40))), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_serious_fault_of_access(browse, scheme):
    page = browse(render(found(("mgu", "not this one"))), scheme=scheme)
    violations = Axe().run(page).response["violations"]
    serious = [one["id"] for one in violations if one["impact"] in ("serious", "critical")]
    assert serious == []


def test_with_nothing_to_draw_it_says_so(browse):
    page = browse(render(gradients(("mgu", "not this one"))))
    assert "No gradient could be followed." in page.inner_text("header")
    assert page.locator(".plot").count() == 0
