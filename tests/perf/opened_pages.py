"""How long a page takes in Chromium until a script of the test's says so."""

import shutil
from pathlib import Path
from typing import Any

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# Others may use the machine: of so many tries the fastest tells most.
TIMES = 3


def opened(page: Path, watch: str) -> list[Any]:
    """Open a page afresh, several times.

    Args:
        watch: a script that runs before the page's own, and sets `window.found` to a promise.
    Returns:
        What the promise came to, each time.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=120_000)
        for _ in range(TIMES):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.add_init_script(watch)
            tab.goto(page.as_uri(), timeout=120_000)
            found.append(tab.evaluate("window.found"))
            tab.close()
        browser.close()
    return found
