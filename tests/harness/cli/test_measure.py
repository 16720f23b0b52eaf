"""`lstm-bench run` leaves what `auto` reads, quietly, and is none the worse where it cannot."""

from pathlib import Path

import pytest

from lstm_harness.analysis.for_auto import measured_of
from lstm_harness.analysis.summary import summarise
from lstm_harness.store import run_folder
from lstm_kernels import measured

SMALL = (
    *("run", "--backend", "naive,aten", "--seq-len", "2", "--batch", "1", "--hidden", "4"),
    *("--pass", "inference", "--threads", "1", "--blocks", "3", "--time-budget", "2", "--quiet"),
)
LINE = "cannot keep what was measured for auto in "


@pytest.fixture
def measure(command):
    """Run a small race; returns what `auto` reads of it, and stderr.

    There is nothing to read where this machine was so busy that a record has a warning.
    """

    def go():
        code, out, err = command(*SMALL)
        assert code == 0, err
        page = Path(out.splitlines()[-1])
        assert page.name == "report.html"
        run = run_folder.load(page.parent)
        return measured_of(run.manifest, summarise(run.records)), err

    return go


def test_a_run_leaves_what_auto_reads(measure, here):
    made, err = measure()
    folder = here / "cache" / "lstm-bench" / "measured"
    files = list(folder.iterdir()) if folder.exists() else []
    assert [measured.read(path) for path in files] == ([made] if made else [])
    assert LINE not in err


def test_a_cache_that_cannot_be_written_costs_a_line_and_no_run(measure, here):
    (here / "cache").write_text("in the way")
    made, err = measure()
    assert err.count(LINE) == (1 if made else 0)
