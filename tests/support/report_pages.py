"""What browser tests ask of an open report."""

import json

from known_limits import cpu_limits
from synthetic_runs import case, grid, record, run
from written_pages import unpacked

from lstm_harness.analysis.floors.floor import with_floor


def full_run(**fields):
    """A run with something for most panels to draw, marked samples and a failure among it."""
    records = [with_floor(one, cpu_limits()) for one in grid()]
    records += [
        record("triton", of=case(hidden_size=128), status="unsupported", reason="needs a GPU")
    ]
    return run(records, limits=cpu_limits().to_dict(), **fields)


def payload(page):
    """What the page's script reads."""
    return json.loads(unpacked(page.locator("#data").inner_text()))


def drawn(page, section):
    """Bring a section into view and wait for its plots; the marks of each."""
    page.locator(f"#{section}").scroll_into_view_if_needed()
    plots = page.locator(f"#{section} .plot")
    for number in range(plots.count()):
        plots.nth(number).locator(".main-svg").first.wait_for()
    return [plots.nth(number).locator(".points path").count() for number in range(plots.count())]


def shows(page, section):
    """What a section says of the choice, and which numbers it shows."""
    chosen = page.locator(f"#{section} .chosen").inner_text()
    details = page.locator(f"#{section} .drawn > details")
    if not details.is_visible():
        return chosen, ""
    if details.get_attribute("open") is None:
        details.locator("summary").click()
        details.locator("table").first.wait_for()
    return chosen, details.inner_text()


def choices(page):
    """The values that the switches show as chosen."""
    return page.locator("#switches input:checked + span").all_inner_texts()
