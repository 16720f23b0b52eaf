"""Pictures of a report as Chromium shows it: desktop in light and dark, and a phone.

python tests/browser/screenshot.py results/<machine>/<name>/report.html results/screenshots
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FOLDER = Path("results") / "screenshots"
# A picture's name, then the window in CSS pixels and the colours.
PICTURES = {
    "desktop-light": (1280, 1100, "light"),
    "desktop-dark": (1280, 1100, "dark"),
    "phone": (390, 844, "light"),
}
# What a page is given to draw its figures once it is there.
DRAWING_MS = 1500


def main(report: Path, folder: Path = FOLDER) -> int:
    """Save the first screen of a report in every form; returns the exit code."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no Chromium found; install it with: apt-get install chromium")
    if not report.is_file():
        sys.exit(f"{report} is no file; make it with: lstm-bench report RUN")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for picture in pictures(browser, report, folder):
            print(picture)  # noqa: T201 - the result itself
        browser.close()
    return 0


def pictures(browser: Browser, report: Path, folder: Path) -> Iterator[Path]:
    """One picture after the other."""
    for name, (width, height, scheme) in PICTURES.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        page.goto(report.resolve().as_uri())
        page.wait_for_load_state("load")
        page.wait_for_timeout(DRAWING_MS)
        picture = folder / f"{name}.png"
        page.screenshot(path=picture)
        context.close()
        yield picture


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: python tests/browser/screenshot.py REPORT.html [FOLDER]")
    sys.exit(main(*map(Path, sys.argv[1:])))
