"""A run on disk as pandas frames, its report, and its comparison with another."""

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import pandas as pd

from lstm_harness.analysis.record_table import record_table
from lstm_harness.console import output, run_table
from lstm_harness.console.guards import libraries
from lstm_harness.judge.comparison import compared, side_of, side_of_run
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict_table import verdict_table
from lstm_harness.model.errors import UserError
from lstm_harness.model.text import count
from lstm_harness.store import run_folder

# A notebook stores what it shows: more cases than these belong in a frame.
MOST_ROWS = 30
MARGIN = 0.05


@dataclass(frozen=True)
class Report:
    """A page in one file, which a notebook shows inline.

    The page contains its plotting library, some 5 MB, and so does the output that shows it;
    `path` is the file itself, to open or to link to.
    """

    path: Path
    height_px: int = 900

    def _repr_html_(self) -> str:
        """The page in a frame that neither affects the notebook nor takes its style."""
        page = self.path.read_text(encoding="utf-8")
        # Links within the page, and the view in its address, are relative to the page, not to the
        # notebook around it.
        own = page.replace("<head>", '<head><base href="about:srcdoc">', 1)
        return (
            f"<p>{escape(str(self.path))}</p>"
            f'<iframe srcdoc="{escape(own)}" sandbox="allow-scripts allow-downloads" '
            f'style="width: 100%; height: {self.height_px}px; border: 1px solid #ccc"></iframe>'
        )


class Run:
    """A run on disk: its folder, what was measured as pandas frames, its report.

    Attributes:
        path: the folder, with run.json, records.jsonl and, once it is made, report.html.
        manifest: what run.json says: the request, the plan and the machine (results/README.md).
    Raises:
        UserError: there is no run, or it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._run = run_folder.load(Path(path))
        self.path = self._run.folder
        self.manifest = self._run.manifest

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row for each record: what one block measured for one backend on one case.

        Columns: `block`, `order`, `backend`; the case's (`cell`, `seq_len`, `batch`, `input_size`,
        `hidden_size`, ..., `pass`, `launch`, `cache`, `device`, ...); `status`, `reason`;
        `samples_ns`, a tuple of every sample; `errors`; and the rest of a record, as
        results/README.md tells.
        """
        return record_table(self._run.records)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row for each (backend, case): medians over blocks, intervals, derived figures.

        Columns: `backend`, `label`, the case's as in `records`; `status`, `reason`; `median_ns`
        with its 95% interval `low_ns` to `high_ns`; `step_us`, `sequences_per_s`, `tflops`;
        `floor_ns`, `floor_share`; `worst_error`, `tolerance`; `peak_bytes`, `saved_bytes`; and the
        rest, as in `lstm_harness.analysis.summary`. Unknown figures are NaN.
        """
        return run_table.summary(self._run)

    @cached_property
    def fastest(self) -> pd.DataFrame:
        """One row for each case: which backend wins, and by how much.

        Columns: `label`, the case's, `backend` (None where none is correct), `median_ns`,
        `runner_up`, `runner_up_ns`, `margin` (the runner-up's time over the winner's) with its 95%
        interval `margin_low` to `margin_high`, `tie`, `contenders`.
        """
        return run_table.fastest(self._run)

    @property
    def notes(self) -> list[str]:
        """Notes for a reader, one line each: backends that did not run, failures, warnings."""
        return [*output.told_damage(self._run), *run_table.notes(self._run)]

    def report(self, path: str | Path | None = None) -> Report:
        """Write the report, one HTML file; a notebook shows the returned page.

        Args:
            path: the file; by default report.html in the run's folder.
        Raises:
            UserError: it cannot be written, or a library that it needs is not installed.
        """
        with libraries("no report"):
            from lstm_harness.report.write import write_report
        out = self.path / run_folder.REPORT if path is None else Path(path)
        return Report(write_report([self._run], out))

    def compare(self, base: "Run | str | Path", margin: float = MARGIN) -> pd.DataFrame:
        """Compare this run with another, as `lstm-bench compare BASE THIS` does.

        Args:
            base: a run, a run's folder, or a baseline's name or file.
            margin: the slowdown to tolerate: 0.05 is 5%.
        Returns:
            One row for each verdict, worst first. Columns: `verdict` (REGRESSION, IMPROVEMENT,
            SAME, INCONCLUSIVE, ...), `backend`, `label`, `measure` (time, peak_bytes or
            saved_bytes), `base` and `new` in ns or bytes, `ratio` (new over base) with its 95%
            interval `low` to `high`, `reason`, and the rest of
            `lstm_harness.judge.verdict.Verdict`; the case's last. The frame's `attrs` hold a
            `headline`, the `notes` and the `differences` of the two.
        Raises:
            UserError: `base` is none of these, or the margin is not a share from 0 to below 1.
        """
        if not 0 <= margin < 1:
            raise UserError(f"margin={margin}; expected a share from 0 to below 1, like 0.05")
        other = side_of_run(base._run) if isinstance(base, Run) else side_of(Path(base))
        comparison = compared(other, side_of_run(self._run), margin)
        table = verdict_table(comparison)
        table.attrs = {
            "headline": words.headline(comparison),
            "notes": list(comparison.notes),
            "differences": list(comparison.differences),
        }
        return table

    def __repr__(self) -> str:
        measured = count(len(self._run.records), "record")
        return f"<lstm_harness.Run {str(self.path)!r}: {measured}>"

    def _repr_html_(self) -> str:
        """The fastest backend of every case, as `lstm-bench run` prints it, and the notes."""
        lines = [
            [*cells, "", "", ""][: len(run_table.COLUMNS)]
            for cells in run_table.lines(self.fastest)
        ]
        shown = pd.DataFrame(lines[:MOST_ROWS], columns=list(run_table.COLUMNS))
        more = len(lines) - len(shown)
        rest = f"<p>and {count(more, 'case')} more: see <code>.fastest</code></p>" if more else ""
        notes = self.notes
        listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
        return (
            f"<p><code>{escape(str(self.path))}</code></p>"
            f"{shown.to_html(index=False, border=0)}{rest}"
            f"<details><summary>{count(len(notes), 'note')}</summary><ul>{listed}</ul></details>"
        )
