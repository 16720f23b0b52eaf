"""Twelve questions that a reader comes with, each with the place and the words that answer it.

A reader opens the report, and then clicks once or not at all.
"""

import csv
import io
import re

import pytest
from report_pages import full_run
from synthetic_runs import blocks, case, grid, record, run

from lstm_harness.judge.comparison import compare_runs
from lstm_harness.report import verdicts
from lstm_harness.report.page import render

pytestmark = pytest.mark.browser

X = "\N{MULTIPLICATION SIGN}"
SHAPE = "#pass=forward&hidden_size=128&T=32&B=1"


@pytest.fixture(params=[1280, 400])
def report(request, view):
    return view(full_run(), width=request.param, fragment=SHAPE)


def seen(page, place):
    """The text of a place, which must be there to be seen."""
    found = page.locator(place).first
    assert found.is_visible()
    return " ".join(found.inner_text().split())


def answer(page, question):
    """The sentence below a question, as the page's list of questions leads to it."""
    title = page.locator("h2", has_text=question)
    assert title.count() == 1, question
    return seen(page, f"#{title.get_attribute('id').removesuffix('-title')} > .answer")


def test_1_which_backend_should_i_use_for_my_shape(report):
    report.locator('#map-table button[data-t="64"][data-b="16"]').click()
    assert seen(report, "#detail h3").startswith("T = 64, B = 16")
    assert seen(report, "#detail li").startswith("● aten")


def test_2_by_how_much(report):
    assert re.fullmatch(rf"● aten 1\.\d\d{X}", seen(report, "#map-table tbody button"))
    second = seen(report, "#detail li:nth-child(2)")
    assert re.search(rf"numba_cpu .* 1\.\d\d{X} the fastest's time", second)
    assert f"one time over another: 2.00{X} means twice the time" in seen(report, "#ratio")


def test_3_is_it_proven_right(report):
    said = answer(report, "Can I trust it?")
    assert said.startswith("Every backend keeps each tensor within its bound, in ")
    row = report.locator("#trust tbody tr", has_text="aten")
    assert "pass" in row.inner_text()


def test_4_can_i_trust_the_timing(report):
    said = seen(report, "#noise")
    assert re.search(r"Half of the 180 times are known within ±[\d.]+% or better", said)
    assert "samples is marked as disturbed" in said


def test_5_how_far_from_the_limit(report):
    said = answer(report, "How far from the limit?")
    assert re.search(r"reaches [\d.]+% of the speed that the floor allows", said)


def test_6_is_backward_heavy(report):
    said = answer(report, "Is backward the heavy part?")
    assert re.match(rf"Yes: backward takes [\d.]+{X} forward's time", said)


def test_7_how_much_faster_than_the_naive_loop(report):
    said = answer(report, "How much faster than per_gate, rung by rung?")
    assert re.search(rf"The speed-up of aten over per_gate is [\d.]+{X} in forward", said)


def test_8_what_does_it_cost_in_memory(report):
    assert "lowest peak" in answer(report, "What does it cost in memory?")
    assert "at the peak" in seen(report, "#memory .chosen-answer")


def test_9_which_backends_did_not_run_and_why(report):
    assert seen(report, "header .absent") == (
        "Did not run: cudnn, triton (needs a CUDA device; this machine has none)."
    )
    assert "needs a GPU" in seen(report, "#refusals tbody tr")


def test_10_which_machine_and_command_made_this(report):
    assert "A CPU" in seen(report, "header .where")
    assert "Command lstm-bench run quick" in seen(report, "#environment .facts")


def test_11_how_do_i_get_the_raw_numbers(report):
    with report.expect_download() as download:
        report.get_by_role("button", name="Download CSV").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert len(list(csv.DictReader(io.StringIO(text, newline="")))) == 181
    assert "every sample in records.jsonl" in seen(report, "#rows > p:last-child")


def test_12_what_changed_against_another_run(report, browse):
    assert "lstm-bench report BASE NEW --verdicts" in seen(report, "#against")
    base = run(blocks("aten", [100_000, 100_500, 99_500, 100_200, 99_800]), label="base")
    new = run(blocks("aten", [150_000, 150_500, 149_500, 150_200, 149_800]), label="new")
    page = browse(render([base, new], verdicts.section(compare_runs(base, new))))
    assert answer(page, "What changed?").startswith("Regression: 1 slower or larger")


def test_a_tie_is_neutral_and_says_who_ties(view):
    near, far = case(seq_len=32), case(seq_len=64)
    records = [
        *blocks("aten", [1000, 1050, 990], of=near),
        *blocks("numba_cpu", [1010, 1000, 1040], of=near),
        *blocks("aten", [1000, 1001, 999], of=far),
        *blocks("numba_cpu", [2000, 2001, 1999], of=far),
    ]
    page = view(run(records))
    tie, win = page.locator("#map-table tbody button").all()
    assert " ".join(tie.inner_text().split()) == "● aten ▽ numba_cpu tie"
    says = "tie: aten and numba_cpu cannot be told apart"
    assert tie.get_attribute("title").startswith(says)
    assert tie.get_attribute("aria-label").startswith(f"T 32, B 4: {says}")
    fill = "(node) => getComputedStyle(node).backgroundColor"
    style = "getComputedStyle(document.documentElement)"
    raised = page.evaluate(f"{style}.getPropertyValue('--raised')")
    assert tie.evaluate(fill) == raised != win.evaluate(fill)


def test_few_points_are_said_to_be_few(view):
    page = view(run([record("aten"), record("naive")]))
    few = "Few points: 1 case, 1 block each (no interval below 3 blocks)."
    assert seen(page, "#map-points") == few
    assert seen(page, "#ladder .few") == few


NAMED = ".map b, .legend label, .detail li > span, .plain .name, .choices label"
# What is wider than its box, or higher, is cut.
CUT = """(named) => [...document.querySelectorAll(named)]
  .filter((node) => node.checkVisibility() && getComputedStyle(node).display !== "inline")
  .filter((n) => n.scrollWidth > n.clientWidth + 1 || n.scrollHeight > n.clientHeight + 2)
  .map((node) => node.textContent)"""


def test_names_are_whole_on_a_phone(view):
    page = view(run(grid(batch=(1, 2, 4, 8, 16, 32))), width=400)
    assert page.locator("#map-table button").count() == 18
    names = page.locator("#map-table .word")
    assert {*names.all_inner_texts()} == {"aten", "numba_cpu"}
    assert all(name.is_visible() for name in names.all())
    assert page.evaluate(CUT, NAMED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
