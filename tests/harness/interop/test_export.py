"""A run for other tools: what each form holds, and that a name in it runs nothing."""

import csv
import json
import sys
from dataclasses import asdict

import pyarrow.parquet as pq
import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import put

from lstm_harness.interop.export import harmless
from lstm_harness.interop.record_parquet import RECORD_COLUMNS
from lstm_harness.model.case import CALL_FIELDS


@pytest.fixture
def exported(command, here):
    """Export records in a form; returns the file's path."""

    def go(form, records, **fields):
        put(here / "run", records, **fields)
        code, out, err = command("export", "run", "--format", form, "-o", "made")
        assert code == 0, err
        assert out == "made\n"
        return here / "made"

    return go


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_a_backend_case_and_block(exported):
    records = [*blocks("naive", [1000, 1100, 1200]), *blocks("aten", [500, 510, 520])]
    found = rows(exported("csv", records))
    assert [(row["block"], row["backend"], row["median_ns"]) for row in found] == [
        *(("0", "naive", "1000.0"), ("0", "aten", "500.0")),
        *(("1", "naive", "1100.0"), ("1", "aten", "510.0")),
        *(("2", "naive", "1200.0"), ("2", "aten", "520.0")),
    ]
    assert found[0]["label"] == "lstm T32 B4 H64 float32 forward"
    assert found[0]["worst_error"] == "2e-07"


def test_csv_says_what_failed_and_leaves_unknown_numbers_empty(exported):
    (row,) = rows(exported("csv", [record(status="crashed")]))
    assert row["status"] == "crashed"
    assert row["reason"] == "crashed on purpose"
    assert row["median_ns"] == row["sequences_per_s"] == ""


def test_csv_of_no_record_has_its_header(exported):
    path = exported("csv", [])
    assert rows(path) == []
    assert path.read_text().startswith("block,backend,label,cell,seq_len")


@pytest.mark.parametrize(
    "name",
    [
        '=HYPERLINK("http://x","y")',
        "+1",
        "-1+cmd|' /C calc'!A0",
        "@SUM(1)",
        "\t=1",
        "\n=1",
        "\uff1d1",
    ],
)
def test_no_text_is_a_formula(exported, name):
    (row,) = rows(exported("csv", [record(name, status="error", reason=name)]))
    assert row["backend"] == row["reason"] == f"'{name}"


def test_a_control_character_is_none_in_a_table(exported):
    (row,) = rows(exported("csv", [record("\r=1", status="error", reason="\x1b[31m")]))
    assert (row["backend"], row["reason"]) == ("\ufffd=1", "\ufffd[31m")


def test_a_number_below_zero_stays_a_number():
    assert harmless(-1.5) == -1.5
    assert harmless("a=1") == "a=1"


@pytest.mark.parametrize("form", ["csv", "parquet", "pytest-benchmark"])
def test_hostile_names_go_through(exported, form):
    lone = "lone \ud800 surrogate"
    assert exported(form, [record(name) for name in (*HOSTILE, lone)]).stat().st_size > 0


def test_parquet_has_a_row_a_record_with_its_samples(exported):
    records = list(grid(["naive"], block_count=2, seq_len=(32,), batch=(1, 4)))
    table = pq.read_table(exported("parquet", records))
    assert table.column_names == list(RECORD_COLUMNS)
    read = table.to_pylist()
    assert [tuple(row["samples_ns"]) for row in read] == [r.samples_ns for r in records]
    assert [dict(row["errors"]) for row in read] == [dict(r.errors) for r in records]
    assert {row["batch"] for row in read} == {1, 4}
    manifest = json.loads(table.schema.metadata[b"lstm_bench.manifest"])
    assert manifest["id"] == "run"


def test_parquet_has_every_field_of_a_record(exported):
    stored = set(record().to_dict()) - {"schema", "problem"} | set(asdict(case().problem))
    assert set(RECORD_COLUMNS) == stored | {"extra", *CALL_FIELDS}
    called = case(batch_first=True, autocast="float16")
    odd = record(errors={"y": None}, status="incorrect", extra={"later": [1]}, of=called)
    (row,) = pq.read_table(exported("parquet", [odd])).to_pylist()
    assert row["errors"] == [("y", None)]
    assert row["heads"] == 1
    assert (row["batch_first"], row["autocast"], row["dropout"]) == (True, "float16", 0.0)
    assert json.loads(row["extra"]) == {"later": [1]}


def test_the_columns_of_parquet_stay_what_they_were():
    kinds = {"text": "backend cell dtype precision lengths pass launch cache device status reason"}
    kinds["text"] += " stopped_by floor_term extra autocast"
    kinds["whole"] = "block order seq_len batch input_size hidden_size num_layers proj_size heads"
    kinds["whole"] += " inner_repeats peak_bytes saved_bytes oracle_rows"
    kinds["number"] = "tolerance setup_ms compile_ms energy_mj sm_clock_mhz floor_ns dropout"
    kinds["flag"] = "bidirectional bias batch_first"
    kinds["wholes"] = "samples_ns cpu_ns wall_ns involuntary_switches marked"
    kinds["numbers"] = "steal_ms"
    kinds["texts"] = "kernels warnings"
    kinds["figures"] = "errors"
    known = {name: kind for kind, names in kinds.items() for name in names.split()}
    assert {name: RECORD_COLUMNS[name] for name in known} == known


def test_parquet_without_pyarrow_says_what_to_install(refused, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    put(here / "run", [record()])
    said = refused("export", "run", "--format", "parquet", "-o", "made")
    assert "pip install 'lstm-bench[store]'" in said
    assert not (here / "made").exists()


def test_what_pytest_benchmark_will_not_show_is_said(command, here):
    put(here / "run", [record("naive"), record("aten", status="crashed")])
    code, _, err = command("export", "run", "--format", "pytest-benchmark", "-o", "made")
    assert code == 0
    assert err.startswith("1 of 2 records have no time; pytest-benchmark shows neither them")


def test_mistakes_are_told_in_one_line(refused, here):
    put(here / "run", [record()])
    assert "did you mean 'parquet'" in refused("export", "run", "--format", "parket", "-o", "x")
    assert "is a folder" in refused("export", "run", "--format", "csv", "-o", "run")
    assert "is not a run" in refused("export", "nowhere", "--format", "csv", "-o", "x")
    (here / "file").touch()
    assert "cannot write" in refused("export", "run", "--format", "csv", "-o", "file/x")
