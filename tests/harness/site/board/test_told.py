"""What a run tells the board, and that it is read again only where it changed."""

import json
from pathlib import Path

import pytest
from synthetic_runs import blocks, case, record, run
from synthetic_store import put, series

from lstm_harness.site import cards, catalogue
from lstm_harness.site.board import classes, told
from lstm_harness.store import run_folder

SEALED = {"records_sha256": "ab" * 32}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def said(store):
    """What the runs of a store of one class tell, by name."""
    ((which, runs),) = classes.grouped(catalogue.collect([store]).runs.values()).items()
    return told.of_class(which, runs)


def test_a_correct_time_is_told_with_its_interval_and_blocks():
    one = told.of_run(run(blocks("naive", [1000, 1010, 1020]), **SEALED))
    (row,) = one.rows
    assert (row["backend"], row["label"], row["median_ns"]) == ("naive", case().label(), 1010)
    assert row["low_ns"] < 1010 < row["high_ns"]
    assert row["block_medians_ns"] == [1000, 1010, 1020]
    assert (one.refused, one.refusals, one.records_sha256) == ("", [], "ab" * 32)


def test_an_interval_that_is_unknown_is_none():
    (row,) = told.of_run(run(blocks("naive", [1000, 1010]), **SEALED)).rows
    assert row["low_ns"] is row["high_ns"] is None


@pytest.mark.parametrize(
    ("spoilt", "status", "reason"),
    [
        ({"status": "incorrect"}, "incorrect", "incorrect on purpose"),
        ({"errors": {"y": 1.0}}, "incorrect", "error of y is 1; bound 1e-05"),
        ({"unranked": "the clock was set"}, "unranked", "the clock was set"),
        ({"errors": {}}, "not checked", told.NOT_CHECKED),
        ({"status": "crashed"}, "crashed", "crashed on purpose"),
    ],
)
def test_what_may_not_be_ranked_is_refused_with_its_reason(spoilt, status, reason):
    records = [*blocks("aten", [1000] * 3), *blocks("naive", [900] * 3)[1:]]
    records.append(record("naive", (900,), **spoilt))
    one = told.of_run(run(records, **SEALED))
    assert [row["backend"] for row in one.rows] == ["aten"]
    (refusal,) = one.refusals
    assert (refusal["backend"], refusal["status"], refusal["reason"]) == ("naive", status, reason)


def test_refusals_for_one_reason_are_one_line():
    cases = [case(seq_len=steps) for steps in (8, 16, 32)]
    records = [record("naive", of=each, status="incorrect") for each in cases]
    (refusal,) = told.of_run(run(records, **SEALED)).refusals
    assert refusal["cases"] == 3


def test_a_reason_for_each_cell_does_not_fill_the_board():
    cases = [case(seq_len=steps) for steps in range(1, told.MOST_REFUSALS + 10)]
    records = [
        record("naive", of=each, status="error", reason=f"number {number}")
        for number, each in enumerate(cases)
    ]
    assert len(told.of_run(run(records, **SEALED)).refusals) == told.MOST_REFUSALS


def test_what_is_unsupported_is_not_refused():
    assert told.of_run(run([record(status="unsupported")], **SEALED)) == told.Told(
        records_sha256="ab" * 32,
        kernels_digest="0123abcd",
        conditions=told.of_run(run([], **SEALED)).conditions,
        rows=[],
        refusals=[],
    )


def test_a_plugins_source_is_told():
    plugins = [{"file": "mine.py", "sha256": "cd" * 32, "backends": ["mine"]}]
    one = told.of_run(run(blocks("mine", [1000] * 3), plugins=plugins, **SEALED))
    assert one.plugins == {"mine": ["mine.py", "cd" * 32]}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"records_sha256": None}, "no SHA-256 of its records"),
        ({"records_sha256": "ab" * 32}, "their SHA-256 differs"),
        ({"revision": {"name": "main", "commit": "ab" * 20}}, "one side of an ab"),
    ],
)
def test_a_run_of_which_nothing_counts_says_why(tmp_path, fields, says):
    folder = put(tmp_path / "one", blocks("naive", [1000] * 3), **fields)
    one = told.of_run(run_folder.load(folder))
    assert says in one.refused
    assert not one.rows


def test_records_that_were_cut_off_after_the_run_are_edited(tmp_path):
    folder = put(tmp_path / "one", blocks("naive", [1000] * 3))
    file = folder / run_folder.RECORDS
    file.write_text(file.read_text()[:-10])
    assert "their SHA-256 differs" in told.of_run(run_folder.load(folder)).refused


def test_each_run_is_read_once_and_again_where_it_changed(tmp_path, monkeypatch):
    series(tmp_path / "store", [1000, 1100])
    seen, really = [], run_folder.load
    before = said(tmp_path / "store")
    monkeypatch.setattr(
        run_folder, "load", lambda folder: seen.append(Path(folder).name) or really(folder)
    )
    assert said(tmp_path / "store") == before
    assert seen == []
    manifest = tmp_path / "store" / "run-001" / run_folder.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"records_sha256": None}))
    assert said(tmp_path / "store")["run-001"].refused
    assert "run-000" not in seen[2:]


def test_what_was_kept_and_damaged_is_read_again(tmp_path):
    series(tmp_path / "store", [1000, 1100])
    before = said(tmp_path / "store")
    for file in (tmp_path / "cache").rglob("*.board-*"):
        file.write_text("nonsense")
    assert said(tmp_path / "store") == before


def test_a_run_that_is_gone_is_forgotten(tmp_path):
    import shutil

    series(tmp_path / "store", [1000, 1100])
    said(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "run-001")
    assert list(said(tmp_path / "store")) == ["run-000"]
    ((which, _),) = classes.grouped(catalogue.collect([tmp_path / "store"]).runs.values()).items()
    file = cards.cache_file(tmp_path / "store", f"board-{which.slug}")
    assert "run-001" not in file.read_text()
