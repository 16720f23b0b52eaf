"""A run as frames, as a notebook shows it, and against another."""

import math
import re
import sys

import pytest
from saved_runs import save
from synthetic_runs import HOSTILE, blocks, case, grid, record

import lstm_harness as lb
from lstm_harness.api.results import MOST_ROWS
from lstm_harness.interop.record_parquet import RECORD_COLUMNS


@pytest.fixture
def saved(tmp_path):
    """Records on disk, as a run."""

    def make(records, name="race", **fields):
        return lb.load(save(tmp_path / name, records, **fields))

    return make


def test_frames_hold_what_was_measured(saved):
    late, early = case(seq_len=8), case(seq_len=64)
    records = [
        *blocks("aten", [100, 110, 120], of=early),
        *blocks("naive", [200, 220, 240], of=early),
        record("naive", of=late, status="crashed"),
    ]
    run = saved(records)
    assert list(run.records["samples_ns"][:2]) == [(100,) * 3, (110,) * 3]
    assert list(run.records["status"]) == ["ok"] * 6 + ["crashed"]
    summary = run.summary.set_index(["backend", "seq_len"])
    assert summary.loc[("aten", 64), "median_ns"] == 110
    assert math.isnan(summary.loc[("naive", 8), "median_ns"])
    won, lost = run.fastest.to_dict("records")
    assert (won["backend"], won["runner_up"]) == ("aten", "naive")
    assert won["margin"] == pytest.approx(2)
    assert lost["backend"] is None
    assert "naive: crashed, 1 record: crashed on purpose" in run.notes
    assert repr(run) == f"<lstm_harness.Run {str(run.path)!r}: 7 records>"


def test_records_have_the_columns_that_parquet_has(saved):
    run = saved([record()])
    assert list(run.records.columns) == list(RECORD_COLUMNS)
    assert list(saved([], "empty").records.columns) == list(RECORD_COLUMNS)


@pytest.mark.parametrize("name", ["records", "summary", "fastest", "compare"])
def test_the_columns_that_a_frames_page_names_are_there(saved, name):
    run = saved(grid(("aten", "naive")))
    member = getattr(lb.Run, name)
    page = (member if name == "compare" else member.func).__doc__
    named = set(re.findall(r"`(\w+)`", page.partition("Columns:")[2]))
    frame = run.compare(run) if name == "compare" else getattr(run, name)
    told = {"records", "attrs", "headline", "notes", "differences"}
    assert len(named) > 8
    assert named - told <= set(frame.columns)


def test_a_notebook_shows_the_table_and_the_notes_and_obeys_no_name(saved):
    records = [each for name in HOSTILE for each in blocks(name, [100, 100, 100])]
    shown = saved([*records, *blocks("aten", [50] * 3)], label=HOSTILE[0])._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "2.00x (2.00 to 2.00)" in shown
    assert "cudnn does not run" in shown


def test_a_notebook_is_shown_so_many_cases_and_no_more(saved):
    cases = [case(seq_len=length) for length in range(1, MOST_ROWS + 3)]
    run = saved([each for one in cases for each in blocks("aten", [50] * 3, of=one)])
    assert run._repr_html_().count("<td>aten</td>") == MOST_ROWS
    assert "and 2 cases more" in run._repr_html_()
    assert len(run._repr_html_()) < 20_000
    assert len(run.fastest) == MOST_ROWS + 2


def test_what_became_slower_is_told_as_the_command_tells_it(saved, document):
    quick = saved([*blocks("aten", [1_000_000, 1_001_000, 1_002_000] * 2)], "base")
    slow = saved([*blocks("aten", [1_500_000, 1_501_000, 1_502_000] * 2)], "new")
    table = slow.compare(quick)
    (row,) = table.to_dict("records")
    told = document("compare", quick.path, slow.path, "--json")
    (verdict,) = told["verdicts"]
    assert (row["verdict"], row["backend"], row["measure"]) == ("REGRESSION", "aten", "time")
    assert row["verdict"] == verdict["kind"]
    for name in ("label", "base", "new", "ratio", "low", "high", "p", "q", "base_blocks", "margin"):
        assert row[name] == verdict[name]
    assert {name: row[name] for name in verdict["case"]} == verdict["case"]
    for name in ("headline", "notes", "differences"):
        assert table.attrs[name] == told[name]
    assert set(quick.compare(str(slow.path))["verdict"]) == {"IMPROVEMENT"}
    assert set(slow.compare(quick, margin=0.9)["verdict"]) == {"SAME"}


def test_a_baseline_is_found_by_its_name(saved, command, here):
    run = saved(grid(("aten",)))
    code, _, err = command("baseline", "save", run.path, "main")
    assert code == 0, err
    assert set(run.compare("main")["verdict"]) == {"SAME"}


@pytest.mark.parametrize(
    ("given", "says"),
    [(("no-such",), "neither a run's folder nor a baseline"), ((".", 1.5), "margin=1.5; expected")],
)
def test_what_cannot_be_compared_is_one_line(saved, here, given, says):
    with pytest.raises(lb.UserError, match=says):
        saved([record()]).compare(*given)


def test_the_report_is_one_file_in_the_run_or_where_it_is_asked(saved, tmp_path):
    run = saved(grid(("aten", "naive")))
    report = run.report()
    assert report.path == run.path / "report.html"
    assert run.report(tmp_path / "here.html").path.read_text() == report.path.read_text()
    with pytest.raises(lb.UserError, match="is a folder"):
        run.report(tmp_path)


class WithoutJinja2:
    """A module of pages where jinja2 is not installed."""

    def __getattr__(self, name):
        raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")


def test_a_machine_without_report_libraries_says_what_to_install(saved, monkeypatch):
    run = saved([record()])
    monkeypatch.setitem(sys.modules, "lstm_harness.report.write", WithoutJinja2())
    with pytest.raises(lb.UserError, match="pip install jinja2 plotly"):
        run.report()


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(lb.UserError, match="is not a run"):
        lb.load(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        lb.rum  # noqa: B018 - the name is asked for
