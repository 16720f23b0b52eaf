"""Results to stdout, warnings to stderr, and one JSON document alone."""

import math
from types import SimpleNamespace

import pytest

from lstm_harness.console import output


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(70_200, "70.2 µs"), (1_500_000, "1.5 ms"), (2.5e9, "2.5 s"), (12, "0.012 µs")],
)
def test_time_is_told_in_the_unit_that_suits_it(time_ns, text):
    assert output.duration(time_ns) == text


def test_json_refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="JSON"):
        output.as_json({"a": math.nan})


def test_failures_are_counted_a_reason(capsys):
    output.failures([("mine", "error", "[bold]no[/bold]")] * 2 + [("mine", "crashed", "gone")])
    err = capsys.readouterr().err
    assert "mine: error, 2 records: [bold]no[/bold]" in err
    assert "mine: crashed, 1 record: gone" in err


def test_torn_run_is_told_on_stderr_alone(capsys, tmp_path):
    output.damaged(SimpleNamespace(torn=True, edited=False, folder=tmp_path))
    out, err = capsys.readouterr()
    assert out == ""
    assert "torn" in err
    output.damaged(SimpleNamespace(torn=False, edited=False, folder=tmp_path))
    assert capsys.readouterr().err == ""


def test_run_whose_records_were_edited_is_told(capsys, tmp_path):
    output.damaged(SimpleNamespace(torn=False, edited=True, folder=tmp_path))
    assert "is not what the run wrote" in capsys.readouterr().err
