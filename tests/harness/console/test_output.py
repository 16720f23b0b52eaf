"""What commands print: results to stdout, and with --json one document alone."""

import json
import math
from types import SimpleNamespace

import pytest

from lstm_harness.console import output


def test_plan_is_told_and_kept_nowhere(command, here):
    small = [
        "--seq-len",
        "2,4",
        "--batch",
        "1",
        "--hidden",
        "4",
        "--launch",
        "eager,graph",
        "--backend",
        "naive,cudnn",
    ]
    code, out, err = command("plan", *small)
    assert (code, err) == (0, "")
    assert "naive skips 4 cases: CUDA graphs need a CUDA device" in out.replace("\n", " ")
    assert "48 records in 3 blocks on cpu" in out
    assert [p.name for p in here.iterdir()] == ["tmp"]


def test_plan_as_json(document):
    found = document("plan", "--hidden", "4", "--backend", "aten", "--blocks", "2", "--json")
    assert found["planned_records"] == 4
    assert found["backends"] == ["aten"]


def test_backends_are_listed_with_why_not(command, document):
    rows = {row["name"]: row for row in document("backends", "--device", "cpu", "--json")}
    assert rows["aten"]["available"]
    assert not rows["cudnn"]["available"]
    assert "runs on cuda only" in rows["cudnn"]["reason"]
    assert not rows["reference"]["raced"]


def test_suites_as_json_and_as_text(command, document):
    listed = document("suites", "--json")
    assert "quick" in {suite["name"] for suite in listed}
    for suite in listed:
        assert suite["source"]
        assert suite["cases"]
    (one,) = document("suites", "quick", "--json")
    assert one in listed
    code, out, _ = command("suites", "quick")
    assert code == 0
    assert one["title"] in out


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(70_200, "70.2 µs"), (1_500_000, "1.5 ms"), (2.5e9, "2.5 s"), (12, "0.012 µs")],
)
def test_time_is_told_in_the_unit_that_suits_it(time_ns, text):
    assert output.duration(time_ns) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"runner_up": None}, ""),
        ({"runner_up": "b", "margin": 1.5, "margin_low": math.nan}, "1.50x, interval unknown"),
        (
            {"runner_up": "b", "margin": 1.5, "margin_low": 1.4, "margin_high": 1.6, "tie": False},
            "1.50x (1.40 to 1.60)",
        ),
        (
            {"runner_up": "b", "margin": 1.0, "margin_low": 0.9, "margin_high": 1.1, "tie": True},
            "tie, 1.00x (0.90 to 1.10)",
        ),
    ],
)
def test_margin_is_told_with_its_interval(row, text):
    assert output.margin(row) == text


def test_json_refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="JSON"):
        output.as_json({"a": math.nan})


def test_failures_are_counted_a_reason(capsys):
    output.failures([("mine", "error", "[bold]no[/bold]")] * 2 + [("mine", "crashed", "gone")])
    err = capsys.readouterr().err
    assert "mine: error, 2 records: [bold]no[/bold]" in err
    assert "mine: crashed, 1 record: gone" in err


def test_torn_run_is_told_on_stderr_alone(capsys, tmp_path):
    output.torn(SimpleNamespace(torn=True, folder=tmp_path))
    out, err = capsys.readouterr()
    assert out == ""
    assert "torn" in err
    output.torn(SimpleNamespace(torn=False, folder=tmp_path))
    assert capsys.readouterr().err == ""


def test_what_the_documents_hold_is_plain(document):
    found = document("plan", "--hidden", "4", "--backend", "aten", "--json")
    assert json.loads(json.dumps(found)) == found
