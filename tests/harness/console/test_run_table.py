"""What `run` prints at its end."""

import json
import math

import pytest
from synthetic_runs import blocks, case, record, run

from lstm_harness.console import run_table


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


def printed(capsys, records, against=None):
    run_table.write(run(records), None, against)
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(run(records).folder)
    backends, cases = (part.splitlines() for part in out.split("\n\n"))
    return [line.split() for line in backends], [line.split() for line in cases], err


def test_every_backend_has_a_row_and_every_case_in_the_order_of_the_plan(capsys):
    late, early = case(seq_len=8), case(seq_len=64)
    records = [
        *blocks("naive", [105_300] * 3, of=early),
        *blocks("aten", [70_200] * 3, of=early),
        *blocks("slow", [702_000] * 3, of=early),
        *blocks("aten", [40_000] * 3, of=late),
        record("naive", of=late, status="crashed"),
    ]
    backends, cases, err = printed(capsys, records)
    assert backends[1:] == [
        ["aten", "2", "of", "2", "2", "0", "1.00x", "1.00x"],
        ["naive", "1", "of", "2", "0", "0", "1.50x", "1.50x"],
        ["slow", "1", "of", "2", "0", "0", "10.0x", "10.0x"],
    ]
    assert cases[:3] == [
        ["case", "aten", "naive", "slow"],
        ["T64", "70.2", "µs", "1.50x", "10.0x"],
        ["T8", "40", "µs", "crashed"],
    ]
    assert ["Every", "case:", "lstm", "B4", "H64", "float32", "forward"] in cases
    assert "naive: crashed, 1 record: crashed on purpose" in err
    assert "cudnn does not run" in err


def test_all_are_held_against_the_one_that_is_named(capsys):
    here, there = case(seq_len=8), case(seq_len=64)
    records = [
        *blocks("aten", [50_000] * 3, of=here),
        *blocks("naive", [100_000] * 3, of=here),
        *blocks("aten", [10_000] * 3, of=there),
        record("naive", of=there, status="error"),
    ]
    backends, cases, _ = printed(capsys, records, "naive")
    assert backends[0][-2:] == ["over", "naive's"]
    assert [row[-1] for row in backends[1:]] == ["0.500x", "1.00x"]
    # Where naive has no time, who has one tells it.
    assert cases[1:3] == [["T8", "0.500x", "100", "µs"], ["T64", "10", "µs", "error"]]
    _, _, err = printed(capsys, records, "cudnn")
    assert "no ratio to cudnn: it has no time in this run; who has: aten, naive" in err


def test_a_tie_has_no_number_and_an_unknown_interval_a_question_mark(capsys):
    one, other = case(seq_len=8), case(seq_len=64)
    records = [
        *blocks("aten", [100_000, 101_000, 99_000], of=one),
        *blocks("naive", [101_000, 100_000, 100_500], of=one),
        *blocks("aten", [100_000] * 2, of=other),
        *blocks("naive", [150_000] * 2, of=other),
    ]
    backends, cases, _ = printed(capsys, records)
    assert cases[1:3] == [["T8", "100", "µs", "tie"], ["T64", "100", "µs", "1.50x?"]]
    assert backends[2][4:6] == ["0", "1"]


def test_nobody_right_is_told_by_status(capsys):
    run_table.write(
        run([record("aten", status="incorrect"), record("naive", status="error")]), None
    )
    out, _ = capsys.readouterr()
    assert out.splitlines()[0].split() == ["case", "aten", "naive"]
    assert out.splitlines()[1].split()[-2:] == ["incorrect", "error"]


def test_noise_is_told_with_its_share_and_the_widest_interval():
    loud = run(blocks("aten", [100, 200, 300], marked=(0, 1)))
    marked, wide = run_table.noise(loud)
    assert marked.startswith("67% of the samples were taken while something else used the machine")
    assert "the 95% interval of 1 of 1 time is wider than ±5%; the widest is over 100%" in wide
    assert f"(aten on {case().label()})" in wide
    assert list(run_table.noise(run(blocks("aten", [100] * 3)))) == []
    assert list(run_table.noise(run([record(status="error")]))) == []


def test_the_document_holds_the_same_rows_and_the_statuses(tmp_path):
    records = [*blocks("aten", [100] * 3), *blocks("naive", [300] * 3)]
    told = run_table.document(run(records), tmp_path / "report.html")
    assert told["report"] == str(tmp_path / "report.html")
    assert (told["records"], told["statuses"]) == (6, {"ok": 6})
    (row,) = told["fastest"]
    assert list(row) == list(run_table.FIELDS)
    assert (row["backend"], row["runner_up"], row["median_ns"]) == ("aten", "naive", 100)
    first, second = told["contestants"]
    assert (first["backend"], first["fastest"], second["mean"]) == ("aten", 1, pytest.approx(3))
    (named,) = told["cases"]
    assert named["backends"]["naive"]["to_fastest"]["tie"] is False
    assert (told["against"], told["noise"]["wide"]) == (None, 0)
    assert run_table.document(run(records), None)["report"] is None
    json.dumps(run_table.document(run(blocks("aten", [100])), None), allow_nan=False)


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
