"""The picture in the README: a report as Chromium shows it.

python tests/browser/screenshot.py results/<machine>/<name>/report.html results/report.png
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main(report: Path, picture: Path) -> None:
    """Open a report and save what the first screen shows."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no Chromium found; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(report.resolve().as_uri())
        page.wait_for_load_state("load")
        page.wait_for_timeout(1000)  # the curves are drawn after the map
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
