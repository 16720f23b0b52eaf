"""A page into a file."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from lstm_harness.model.errors import UserError
from lstm_harness.report.page import render
from lstm_harness.store.files import refuse_url
from lstm_harness.store.run_folder import Run


def write_report(runs: Sequence[Run], out: Path, verdicts: Markup | None = None) -> Path:
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
    refuse_url(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder; give a file's name")
    fresh = out.with_name(out.name + ".new")
    try:
        fresh.write_text(page, encoding="utf-8")
        fresh.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; give another place") from None
    return out
