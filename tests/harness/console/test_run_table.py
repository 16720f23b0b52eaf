"""What `run` prints at its end."""

import math

import pytest
from synthetic_runs import blocks, case, record, run

from lstm_harness.console import run_table

WON = "aten 70.2 µs 1.50x (1.50 to 1.50) naive"


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
    assert run_table.margin(row) == text


def test_the_table_has_a_row_a_case_in_the_order_of_the_plan(capsys):
    late, early = case(seq_len=8), case(seq_len=64)
    records = [
        *blocks("aten", [70_200] * 3, of=early),
        *blocks("naive", [105_300] * 3, of=early),
        record("naive", of=late, status="crashed"),
    ]
    run_table.write(run(records), None)
    out, err = capsys.readouterr()
    first, second, last = out.splitlines()[1:]
    assert first.split() == [*early.label().split(), *WON.split()]
    assert second.split() == [*late.label().split(), *["no", "correct", "backend"]]
    assert last == str(run(records).folder)
    assert "naive: crashed, 1 record: crashed on purpose" in err
    assert "cudnn takes no part" in err


def test_the_document_holds_the_same_rows_and_the_statuses(tmp_path):
    records = [*blocks("aten", [100] * 3), *blocks("naive", [300] * 3)]
    told = run_table.document(run(records), tmp_path / "report.html")
    assert told["report"] == str(tmp_path / "report.html")
    assert (told["records"], told["statuses"]) == (6, {"ok": 6})
    (row,) = told["fastest"]
    assert list(row) == list(run_table.FIELDS)
    assert (row["backend"], row["runner_up"], row["median_ns"]) == ("aten", "naive", 100)
    assert run_table.document(run(records), None)["report"] is None


def test_who_lacks_limits_or_time_is_told(capsys):
    cut = run(blocks("aten", [100]), plan={"planned_records": 1234}, spec={"time_budget_s": 60})
    run_table.write(cut, None)
    err = " ".join(capsys.readouterr().err.split())
    assert "1 of 1,234 records: the time budget of 60 s is spent" in err
    assert "lstm-bench limits" in err


@pytest.mark.parametrize(("driver", "told"), [(None, True), ("595.58", False)])
def test_a_gpu_that_tells_nothing_of_its_clocks_is_told(driver, told):
    measured = run([record()])
    measured.manifest["environment"]["gpu"] = {"name": "A GPU", "driver": driver}
    assert (
        any("pip install 'lstm-bench[cuda]'" in note for note in run_table.notes(measured)) == told
    )
