"""A browser, and reports opened in it with the network cut and the console watched."""

import os
import re
import shutil

import pytest
from waiting import PATIENCE_S

from lstm_harness.report.write import write_report

REQUIRED = os.environ.get("LSTM_BENCH_REQUIRE_BROWSER") == "1"
# A page of figures takes long on a core that others use too.
PATIENCE_MS = 1000 * PATIENCE_S
# Whether every figure of a page is drawn: plotly.js is unpacked after the page is loaded.
ALL_DRAWN = """() => [...document.querySelectorAll("[id^=series-]")]
    .every(each => each.querySelector(".main-svg"))"""
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)


def absent(why):
    """Skip for want of a browser, or fail where one was promised."""
    (pytest.fail if REQUIRED else pytest.skip)(why)


@pytest.fixture(scope="session")
def chromium():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        absent("no Chromium found; install it to test the page")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=list(QUIET), timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def view(chromium, tmp_path):
    """Open the report of runs with the network cut; its console must stay silent."""
    said, contexts = [], []

    def open_page(*runs, width=1280, scheme="light", fragment=""):
        out = write_report(runs, tmp_path / "report.html")
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            offline=True,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if outside(request) else None)
        page.goto(out.as_uri() + fragment)
        page.locator("#all-rows tbody").wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def browse(chromium, tmp_path):
    """Open a page's HTML; its console must stay silent and it must ask for nothing."""
    said, contexts = [], []

    def go(html, width=1280, scheme="light"):
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_load_state("load")
        page.wait_for_function(ALL_DRAWN)
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def visit(chromium):
    """Open an address; its console must stay silent and its requests at home."""
    said, contexts = [], []

    def go(address, width=1280, scheme="light"):
        home = re.split("/(?:runs|devices|trainings)/", address)[0].rsplit("/", 1)[0]
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))

        def seen(request):
            if not request.url.startswith((home, "data:", "blob:")):
                said.append(request.url)

        page.on("request", seen)
        page.goto(address)
        page.wait_for_load_state("load")
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []


def outside(request):
    return not request.url.startswith(("file:", "data:", "blob:"))
