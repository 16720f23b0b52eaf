"""Runs to one HTML file that needs no network.

    text      numbers and names, as a reader sees them and a parser cannot mistake them
    marks     the fixed colour and symbol of each backend
    figures   a Summary to the map of winners, and what all figures share
    panels    what a section that draws is: one question, figures that follow the switches
    ladder, heaviness, throughput, limits, roofline, sequence_cost, memory, energy, costs
              a panel each, throughput two
    samples   every raw sample, packed
    tables    a Summary and a manifest to what is listed
    page      all of it into the template
    verdicts  a comparison: a section of the page of two runs, and a page of its own
    history   a store's series over time, on a page of their own
    catalogue the runs of stores, each with its name in a link
    index     the page that lists them
    site      all pages of stores into a folder
    pages     the same, made in memory for whoever serves them

Only this package imports plotly and jinja2.
"""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from lstm_harness.model.errors import UserError
from lstm_harness.report.page import render
from lstm_harness.store.files import replace_whole
from lstm_harness.store.run_folder import Run

__all__ = ["render", "write", "write_page"]


def write(runs: Sequence[Run], out: Path, verdicts: Markup | None = None) -> Path:
    """Write the report of one run, or of several side by side, and return its path.

    Args:
        verdicts: what comparing two runs came to; see `page.render`.
    Raises:
        UserError: no run given, or `out` cannot be written.
    """
    if not runs:
        raise UserError("a report needs a run; give the folder that lstm-bench run made")
    return write_page(render(runs, verdicts), out)


def write_page(page: str, out: Path) -> Path:
    """Write a page whole or not at all and return its path.

    Raises:
        UserError: `out` cannot be written.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder; give a file's name")
    try:
        replace_whole(out, page.encode())
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give another place") from None
    return out
