"""Where a comparison is told: on the terminal, and in the files that were asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_harness.console.guards import libraries
from lstm_harness.model.errors import UserError

if TYPE_CHECKING:
    from lstm_harness.judge.comparison import Comparison


@dataclass(frozen=True)
class Outputs:
    """Where a comparison is reported, in addition to the table or instead of it.

    Raises:
        UserError: it cannot be told there; better now than when all is measured.
    """

    as_json: bool = False
    explain: str | None = None
    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None

    def __post_init__(self) -> None:
        from lstm_harness.store.files import refuse_unwritable

        if self.as_json and self.explain is not None:
            raise UserError("--json with --explain: the document holds the numbers; leave one out")
        files = [file for file in (self.junit, self.markdown, self.html) if file is not None]
        for file in files:
            refuse_unwritable(file)
            if files.count(file) > 1:
                raise UserError(f"{file} is given for two outputs; give each a file of its own")


def tell(comparison: "Comparison", outputs: Outputs) -> None:
    """Write what was asked for: files first, so that a pipe that breaks loses none.

    Raises:
        UserError: a file cannot be written, or `--explain` names no case.
    """
    from lstm_harness.console import comparison as table
    from lstm_harness.console import output
    from lstm_harness.judge.exporters import document, explain

    explained = (
        None if outputs.explain is None else list(explain.lines(comparison, outputs.explain))
    )
    _write_files(comparison, outputs)
    if outputs.as_json:
        output.as_json(document.document(comparison))
    elif explained is not None:
        for line in explained:
            output.line(line)
    else:
        table.write(comparison)


def _write_files(comparison: "Comparison", outputs: Outputs) -> None:
    from lstm_harness.judge.exporters import markdown
    from lstm_harness.store.files import write_file

    with libraries("", "junitparser jinja2 plotly", "leave out --junit and --html"):
        if outputs.junit:
            from lstm_harness.judge.exporters import junit

            write_file(outputs.junit, junit.xml(comparison))
        if outputs.html:
            from lstm_harness.report import verdicts

            write_file(outputs.html, verdicts.render(comparison).encode())
    if outputs.markdown:
        write_file(outputs.markdown, markdown.text(comparison).encode())
