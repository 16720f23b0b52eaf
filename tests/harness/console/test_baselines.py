"""What `baseline` says of a run."""

from synthetic_runs import blocks, record, run

from lstm_harness.console import baselines


def test_what_a_baseline_would_not_check_is_told(capsys):
    records = [*blocks("aten", [100] * 3), record("naive", status="crashed")]
    baselines.unchecked(run(records, plan={"planned_records": 9}))
    err = " ".join(capsys.readouterr().err.split())
    assert "is not whole: 4 of 9 records" in err
    assert "has records without a time (1 crashed)" in err


def test_a_whole_run_is_kept_in_silence(capsys):
    baselines.unchecked(run(blocks("aten", [100] * 3)))
    assert capsys.readouterr().err == ""
