"""The index of a store is fast, never wrong, and never needed."""

import json
import os
from pathlib import Path
from statistics import median

import pytest
from synthetic_runs import blocks, grid
from synthetic_store import put, series

from lstm_harness.history import index, run_digest
from lstm_harness.history.index import INDEX, refresh
from lstm_harness.history.series import gather
from lstm_harness.model.errors import UserError
from lstm_harness.store import files, run_folder


@pytest.fixture
def runs(tmp_path):
    """A store of four runs at two depths."""
    series(tmp_path / "store" / "deeper", [1000, 1010, 1020])
    put(tmp_path / "store" / "grid", grid(block_count=1))
    return tmp_path / "store"


@pytest.fixture
def read(monkeypatch):
    """The runs that were read since."""
    seen, really = [], run_digest.read

    def reading(folder):
        seen.append(folder.name)
        return really(folder)

    monkeypatch.setattr(run_digest, "read", reading)
    return seen


def times(found):
    return {path: run.get("times", run.get("error")) for path, run in found.runs.items()}


def test_runs_are_found_at_any_depth_and_read_once(runs, read):
    first = refresh(runs)
    assert set(first.runs) == {"deeper/run-000", "deeper/run-001", "deeper/run-002", "grid"}
    assert len(read) == 4
    assert times(refresh(runs)) == times(first)
    assert len(read) == 4


def test_a_run_that_changed_is_read_again_and_no_other(runs, read):
    refresh(runs)
    read.clear()
    changed = runs / "deeper" / "run-001"
    (changed / run_folder.RECORDS).write_text("")
    assert refresh(runs).runs["deeper/run-001"]["times"] == []
    assert read == ["run-001"]


def test_a_run_that_has_gone_is_forgotten_and_a_new_one_added(runs):
    refresh(runs)
    (runs / "grid").rename(runs.parent / "away")
    put(runs / "new", blocks("naive", [7000]))
    found = refresh(runs)
    assert "grid" not in found.runs
    assert found.runs["new"]["times"] == [7000.0]
    assert times(refresh(runs)) == times(found)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"version": 0}',
        b'{"version": 1, "cells": [], "facts": [], "runs": {"grid": {}}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda content: str(content[:20]),
)
def test_an_index_that_is_none_counts_for_nothing(runs, content):
    whole = times(refresh(runs))
    (runs / INDEX).write_bytes(content)
    assert times(refresh(runs)) == whole
    assert files.derived(runs / INDEX)["version"] == index.VERSION


@pytest.mark.parametrize("change", [{"facts": 99}, {"roster": 99}, {"times": []}, {"id": None}])
def test_an_index_with_an_entry_that_misleads_counts_for_nothing(runs, change):
    whole = times(refresh(runs))
    digest, _, text = (runs / INDEX).read_text().partition("\n")
    kept = json.loads(text)
    kept["runs"]["deeper/run-001"] |= change
    (runs / INDEX).write_text(f"{digest}\n{json.dumps(kept)}")
    assert times(refresh(runs)) == whole


def test_runs_of_the_same_cells_share_one_roster(tmp_path):
    records = list(grid(("naive", "aten"), block_count=1))
    put(tmp_path / "store" / "forth", records)
    put(tmp_path / "store" / "back", records[::-1])
    put(tmp_path / "store" / "half", records[::2])
    found = refresh(tmp_path / "store")
    assert len(found.rosters) == 2
    assert found.runs["forth"]["roster"] == found.runs["back"]["roster"]
    assert found.runs["forth"]["times"] == found.runs["back"]["times"]
    medians = {(r.backend, r.case.label()): median(r.samples_ns) for r in records}
    history = gather(found)
    assert len(history.series) == len(medians)
    for one in history.series:
        expected = medians[one.backend, one.case.label()]
        assert set(one.times_ns) == {expected}


def test_a_store_that_cannot_be_written_is_read_all_the_same(runs, monkeypatch, read):
    def full(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", full)
    assert len(refresh(runs).runs) == len(refresh(runs).runs) == 4
    assert len(read) == 8
    assert {p.name for p in runs.iterdir()} == {"deeper", "grid"}


def test_processes_of_their_own_find_the_same(runs, monkeypatch):
    alone = times(refresh(runs))
    (runs / INDEX).unlink()
    monkeypatch.setattr(index, "WORTH_PROCESSES_BYTES", 0)
    monkeypatch.setattr(index, "CHUNK", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert times(refresh(runs)) == alone


def test_links_are_not_followed(runs, tmp_path):
    outside = put(tmp_path / "outside", blocks("naive", [1]))
    (runs / "link").symlink_to(outside)
    (runs / "loop").symlink_to(runs)
    assert "link" not in set(run_folder.RUN.below(runs))
    assert len(set(run_folder.RUN.below(runs))) == 4
    half = runs / "half"
    half.mkdir()
    (half / run_folder.MANIFEST).symlink_to(outside / run_folder.MANIFEST)
    assert "not a plain file" in refresh(runs).runs["half"]["error"]


def test_a_pipe_in_the_place_of_a_run_blocks_nobody(runs):
    (runs / "pipe").mkdir()
    os.mkfifo(runs / "pipe" / run_folder.MANIFEST)
    assert "not a plain file" in refresh(runs).runs["pipe"]["error"]


def test_an_index_that_is_a_link_is_replaced_and_what_it_points_to_left(runs, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (runs / INDEX).symlink_to(precious)
    refresh(runs)
    assert precious.read_text() == "mine"
    assert not (runs / INDEX).is_symlink()


def test_broken_runs_are_told_and_do_not_break_others(runs):
    (runs / "torn").mkdir()
    (runs / "torn" / run_folder.MANIFEST).write_text('{"schema"')
    (runs / "deep").mkdir()
    (runs / "deep" / run_folder.MANIFEST).write_text("[" * 100_000)
    found = refresh(runs)
    assert "not JSON" in found.runs["torn"]["error"]
    assert "nested" in found.runs["deep"]["error"]
    assert len(found.runs) == 6


def test_a_start_outside_the_calendar_is_told(runs):
    put(runs / "early", blocks("naive", [1000]), start="0001-01-01T00:00:00+14:00")
    assert "expected a time" in refresh(runs).runs["early"]["error"]


def test_a_run_given_for_a_store_is_left_as_it_is(runs):
    run = runs / "grid"
    assert set(refresh(run).runs) == {"."}
    assert {p.name for p in run.iterdir()} == {run_folder.MANIFEST, run_folder.RECORDS}


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(UserError, match="give a folder of runs"):
            refresh(place)
