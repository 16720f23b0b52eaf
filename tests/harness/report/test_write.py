import pytest
from synthetic_runs import grid, run

from lstm_harness.model.errors import UserError
from lstm_harness.report.write import write_report


def test_write_returns_the_path_of_a_whole_page(tmp_path):
    out = tmp_path / "report.html"
    out.write_text("an older one")
    assert write_report([run(grid(block_count=1))], out) == out
    html = out.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", [".", "missing/report.html"])
def test_a_path_that_cannot_be_written_is_one_line(tmp_path, name):
    with pytest.raises(UserError, match="-o"):
        write_report([run()], tmp_path / name)


def test_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="needs a run"):
        write_report([], tmp_path / "report.html")
