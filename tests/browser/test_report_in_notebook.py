"""The report as a notebook shows it: in a frame of its own, cut off from what is around it."""

import pytest
from report_pages import full_run
from waiting import PATIENCE_S

from lstm_harness.api.results import Report
from lstm_harness.report.write import write_report

pytestmark = pytest.mark.browser
NOTEBOOK = "http://notebook.test/tree/a.ipynb"
PATIENCE_MS = 1000 * PATIENCE_S


@pytest.fixture
def framed(chromium, tmp_path):
    """The frame of a report in a page that a server gave, whose console must stay silent."""
    report = Report(write_report([full_run()], tmp_path / "report.html"))
    around = f"<!doctype html><title>notebook</title>{report._repr_html_()}"
    said = []
    context = chromium.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    kind = "text/html; charset=utf-8"
    page.route("**/*", lambda route: route.fulfill(body=around, content_type=kind))
    page.goto(NOTEBOOK, wait_until="commit", timeout=PATIENCE_MS)
    page.locator("iframe").wait_for(state="attached")
    frame = page.frames[1]
    frame.locator("#all-rows tbody").wait_for(state="attached")
    yield frame
    assert page.url == NOTEBOOK
    context.close()
    assert said == []


def test_it_draws_and_answers(framed):
    assert framed.locator("#map-table tbody button").count() == 9
    framed.locator("#filter").fill("aten backward")
    rows = framed.locator("#all-rows tbody tr")
    rows.filter(has_text="naive").first.wait_for(state="detached")
    assert rows.first.inner_text().startswith("aten")
    assert "filter=aten" in framed.evaluate("location.hash")


def test_its_links_stay_within_it(framed):
    expect = pytest.importorskip("playwright.sync_api").expect
    framed.locator('nav a[href="#trust"]').evaluate("link => link.click()")
    expect(framed.locator("#trust h2").first).to_be_in_viewport(timeout=PATIENCE_MS)
    assert framed.url.startswith("about:srcdoc")
    assert framed.locator("#map-table tbody button").count() == 9


def test_it_hands_its_rows_over_as_a_file(framed):
    with framed.page.expect_download() as download:
        framed.locator("#csv").click()
    assert download.value.suggested_filename.endswith(".csv")
