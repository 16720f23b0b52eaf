"""The page of a training in Chromium: drawn, told, reachable, and at home."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from made_up_training import MANIFEST, REFUSED, WORKLOAD, first_losses, learnt, race
from synthetic_runs import environment

from lstm_harness.report.training import render

pytestmark = pytest.mark.browser

PACES = {"naive": 30, "aten": 3, "numba_cpu": 1}
LONG = "a reason " * 40


def page_of(*more, paces=PACES):
    cheat = [
        learnt("cheat", seed, *[0.17 - seed / 100] * 5, opening=first_losses(seed, 3, 0.01))
        for seed in range(3)
    ]
    curves = [*race(paces), *cheat, learnt("numba_cpu", 3, 0.1, 0.05, 0.02, 0.001), *more]
    return render(WORKLOAD, curves, MANIFEST | {"environment": environment()})


def strokes(page, figure):
    lines = page.locator(f"#series-{figure} .scatterlayer .lines path.js-line").all()
    return {line.evaluate("each => getComputedStyle(each).stroke") for line in lines}


def test_four_figures_draw_every_contestant_in_the_colours_of_the_scheme(browse):
    light, dark = (browse(page_of(), scheme=scheme) for scheme in ("light", "dark"))
    for figure, levels in enumerate((1, 1, 0, 0)):
        drawn = strokes(light, figure), strokes(dark, figure)
        # The goal and the baseline share a colour.
        assert [len(each) for each in drawn] == [len(PACES) + 1 + levels] * 2
        assert not drawn[0] & drawn[1]


def test_bands_are_filled_and_lines_and_levels_are_named(browse):
    page = browse(page_of())
    assert page.locator("#series-1 .scatterlayer .js-fill").count() == len(PACES) + 1
    names = ["numba_cpu", "aten", "naive", "cheat", "goal: 0.01", "baseline: 0.167"]
    assert page.locator("#series-1 .legendtext").all_text_contents() == names
    labels = page.get_attribute("#series-1", "aria-labelledby").split()
    said = " ".join(page.inner_text(f"#{label}") for label in labels)
    assert "against steps" in said
    assert "numba_cpu is first at the goal" in said


@pytest.mark.parametrize("width", [400, 2560])
def test_it_does_not_scroll_sideways(browse, width):
    refused = learnt("mgu", 0, end=REFUSED.__class__("error", LONG))
    said = learnt("late", 0, 0.1, examples=("w" * 1000,))
    page = browse(page_of(refused, said), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_has_no_serious_fault_of_access(browse, scheme):
    page = browse(page_of(learnt("mgu", 0, end=REFUSED)), scheme=scheme)
    violations = Axe().run(page).response["violations"]
    serious = [one["id"] for one in violations if one["impact"] in ("serious", "critical")]
    assert serious == []


def test_with_nothing_to_draw_it_says_so(browse):
    page = browse(render(WORKLOAD, [learnt("mgu", 0, end=REFUSED)], MANIFEST))
    assert "Nothing could be trained." in page.inner_text("header")
    assert page.locator(".plot").count() == 0
