"""The tables of a store are its records, read once; nothing spoilt, stale or doubled is in them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median

import bench
import duckdb
import pyarrow.parquet as pq
import pytest
from places import ROOT
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import put, put_halves_and_whole, series, start
from waiting import PATIENCE_S

from lstm_harness.interop import store_parquet
from lstm_harness.interop.sql import ask
from lstm_harness.interop.store_parquet import INDEX, LOCK, tables
from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.store import cache_folder, files, run_folder

PLACES = "select run, block, median_ns from records order by all"


@pytest.fixture
def runs(here):
    """A store of four runs at two depths."""
    series(here / "store" / "deeper", [1000, 1010, 1020])
    put(here / "store" / "grid", grid(("naive", "aten"), block_count=2, batch=(1,)))
    return here / "store"


@pytest.fixture
def read(monkeypatch):
    """The runs that were read since."""
    seen, really = [], run_folder.load

    def loading(folder):
        seen.append(folder.name)
        return really(folder)

    monkeypatch.setattr(run_folder, "load", loading)
    return seen


def rows(store, sql=PLACES):
    with tables(store) as found:
        return [*ask(found, sql).rows]


def left_out(store):
    with tables(store) as found:
        return dict(found.left_out)


def cache(store):
    return cache_folder.of_store(store, "query")


def kept(store):
    """The files that hold tables."""
    return {path for path in cache(store).iterdir() if path.name not in (INDEX, LOCK)}


def places_of(store, *names):
    return sorted(
        (name, each.block, float(median(each.samples_ns)))
        for name in names
        for each in run_folder.load(store / name).records
    )


def test_every_field_of_a_record_is_in_its_row(here):
    odd = record(
        "naive",
        (10, 13),
        block=1,
        of=case("train", seq_len=7, bidirectional=True),
        errors={"y": 1e-7, "h_n": None},
        tolerance=None,
        cpu_ns=(9, 11),
        steal_ms=(0.5, 0.0),
        marked=(1,),
        kernels=("a kernel",),
        machine="a machine",
        extra={"later": [1]},
    )
    put(here / "store" / "one", [record(block=0), odd], label="a label", start=start(3))
    with tables(here / "store") as found:
        answer = ask(found, "from records where block = 1")
        (values,) = answer.rows
    row = dict(zip((name for name, _ in answer.columns), values, strict=True))
    stored = odd.to_dict()
    problem = stored.pop("problem")
    for name in ("schema", "later"):
        stored.pop(name)
    assert {name: row[name] for name in problem} == problem
    assert {name: row[name] for name in stored} == stored
    assert json.loads(row["extra"]) == {"later": [1]}
    assert row["run"] == row["run_id"] == "one"
    assert (row["run_label"], row["suite"]) == ("a label", "quick")
    assert row["started"].isoformat() + "+00:00" == start(3)
    assert (row["host"], row["device_name"]) == ("bench-host", "A CPU")
    assert row["label"] == odd.case.label()
    assert (row["median_ns"], row["samples"], row["marked_share"]) == (11.5, 2, 0.5)
    assert row["worst_error"] == float("inf")


def test_a_run_is_a_row_with_its_machine(here):
    gpu = {"name": "A GPU", "uuid": "GPU-1"}
    environment = {"host": "h", "gpu": gpu, "git": {"commit": "c0", "dirty": True}}
    plan = {"device": "cuda", "blocks": 4, "planned_records": 4}
    put(
        here / "store" / "one", [record(of=case(device="cuda"))], environment=environment, plan=plan
    )
    columns = "machine, device_name, git_commit, git_dirty, blocks, planned_records, records"
    assert rows(here / "store", f"select {columns}, environment->>'$.host' from runs") == [
        ("GPU-1", "A GPU", "c0", True, 4, 4, 1, "h")
    ]


def test_a_time_that_does_not_count_is_not_a_median(here):
    wrong = record("wrong", errors={"y": 1.0})
    records = [
        record("right"),
        wrong,
        record("fake", unranked="too fast"),
        record("gone", status="crashed"),
    ]
    put(here / "store" / "one", records)
    asked = "select backend, status, standing, median_ns, samples from records order by backend"
    assert rows(here / "store", asked) == [
        ("fake", "ok", "error", None, 3),
        ("gone", "crashed", "crashed", None, 0),
        ("right", "ok", "ok", 1100.0, 3),
        ("wrong", "ok", "incorrect", None, 3),
    ]


def test_samples_are_rows_in_step(here):
    one = record(samples_ns=(10, 20, 30), cpu_ns=(9, 19, 29), steal_ms=(0.0, 1.0, 0.0), marked=(1,))
    put(here / "store" / "one", [one])
    asked = "select sample, sample_ns, cpu_ns, steal_ms, involuntary_switches, marked from samples"
    assert rows(here / "store", asked) == [
        (0, 10, 9, 0.0, None, False),
        (1, 20, 19, 1.0, None, True),
        (2, 30, 29, 0.0, None, False),
    ]


def test_the_published_runs_are_what_their_records_say(here):
    expected = {}
    for manifest in (ROOT / "results").glob("*/*/run.json"):
        run = run_folder.load(manifest.parent)
        name = str(manifest.parent.relative_to(ROOT / "results"))
        times = [median(each.samples_ns) for each in run.records if each.samples_ns]
        samples = sum(len(each.samples_ns) for each in run.records)
        expected[name] = (len(run.records), samples, len(times), sum(times))
    assert len(expected) > 5
    asked = (
        "select run, count(*), sum(samples)::bigint, count(median_ns), sum(median_ns) from records"
    )
    found = {name: rest for name, *rest in rows(ROOT / "results", f"{asked} group by run")}
    assert found.keys() == expected.keys()
    for name, (*counts, total) in found.items():
        assert tuple(counts) == expected[name][:3]
        assert total == pytest.approx(expected[name][3], rel=1e-12)


def test_runs_are_found_at_any_depth_and_read_once(runs, read):
    names = [f"deeper/run-00{day}" for day in range(3)] + ["grid"]
    assert rows(runs) == places_of(runs, *names)
    read.clear()
    assert len(rows(runs)) > 12
    assert read == []


def test_a_run_that_changed_is_read_again_and_no_other(runs, read):
    rows(runs)
    changed = runs / "deeper" / "run-001"
    (changed / run_folder.RECORDS).write_text("")
    read.clear()
    assert {run for run, *_ in rows(runs)} == {"deeper/run-000", "deeper/run-002", "grid"}
    assert read == ["run-001"]
    assert rows(runs, "select records from runs where run = 'deeper/run-001'") == [(0,)]


def test_a_run_that_has_gone_is_gone_and_a_new_one_there(runs, read):
    rows(runs)
    (runs / "grid").rename(runs.parent / "away")
    put(runs / "new", blocks("naive", [7000]))
    read.clear()
    assert rows(runs, "select run, median_ns from records where run in ('new', 'grid')") == [
        ("new", 7000.0)
    ]
    assert read == ["new"]
    assert rows(runs, "select count(*) from runs") == [(4,)]


def test_parts_are_neither_too_many_nor_too_large(here, monkeypatch):
    monkeypatch.setattr(store_parquet, "MOST_SMALL", 3)
    monkeypatch.setattr(store_parquet, "PART_BYTES", 8_000)
    monkeypatch.setattr(store_parquet, "CHUNK", 2)
    store, counts = here / "store", []
    for day in range(12):
        put(store / f"run-{day}", blocks("naive", [1000 + day] * 3), start=start(day))
        assert rows(store, "select count(*), count(distinct run) from records") == [
            (3 * (day + 1), day + 1)
        ]
        counts.append(len(store_parquet._load(cache(store))[0]))
    assert max(counts) > 3
    assert any(after < before for before, after in pairwise(counts))
    expected = [(f"run-{day}", block, 1000.0 + day) for day in range(12) for block in range(3)]
    assert rows(store) == sorted(expected)


def test_nothing_that_no_index_names_stays(runs):
    rows(runs)
    (cache(runs) / "rest.0123.new").write_text("of a killed process")
    put(runs / "new", blocks("naive", [7000]))
    (runs / "grid" / run_folder.RECORDS).write_text("")
    rows(runs)
    rows(runs)
    parts, _ = store_parquet._load(cache(runs))
    assert {path.name for path in kept(runs)} == {n for p in parts for n in (p.runs, p.records)}


def test_files_stay_while_somebody_reads_them(runs):
    with tables(runs) as found:
        (runs / "grid" / run_folder.RECORDS).write_text("")
        assert len(rows(runs)) == 9
        assert len(rows(runs)) == 9
        assert len([*ask(found, PLACES).rows]) > 9
    rows(runs)
    assert not any(path.exists() for path in found.records)


@pytest.mark.parametrize("way", ["flipped", "cut", "empty", "gone", "foreign", "a link"])
@pytest.mark.parametrize("which", ["runs", "records"])
def test_a_spoilt_file_is_made_again(runs, way, which, tmp_path):
    whole = rows(runs)
    with tables(runs) as found:
        (path,) = getattr(found, which)
    content = path.read_bytes()
    path.unlink()
    if way == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif way == "cut":
        path.write_bytes(content[:-9])
    elif way == "empty":
        path.touch()
    elif way == "foreign":
        duckdb.sql("select 1 as run").write_parquet(str(path))
    elif way == "a link":
        path.symlink_to(tmp_path / "nowhere")
    assert rows(runs) == whole
    assert rows(runs) == whole


@pytest.mark.parametrize("content", [b"", b"{", b'{"made_by": []}', b"\xff" * 99], ids=str)
def test_an_index_that_is_not_one_counts_for_nothing(runs, content):
    whole = rows(runs)
    (cache(runs) / INDEX).write_bytes(content)
    assert rows(runs) == whole
    assert files.derived(cache(runs) / INDEX)["made_by"] == store_parquet._made_by()


def test_tables_of_other_columns_are_made_again(runs, read, monkeypatch):
    rows(runs)
    monkeypatch.setattr(store_parquet, "VERSION", 99)
    read.clear()
    rows(runs)
    assert len(read) == 4


def test_broken_runs_are_told_and_not_read_again(runs, read):
    for name, content in {"torn": '{"schema"', "deep": "[" * 100_000}.items():
        (runs / name).mkdir()
        (runs / name / run_folder.MANIFEST).write_text(content)
    put(runs / "no time", [record()], start="yesterday")
    put(runs / "too late", [record()], end="9999-12-31T23:59:59-14:00")
    half = runs / "half"
    half.mkdir()
    (half / run_folder.MANIFEST).symlink_to(runs / "grid" / run_folder.MANIFEST)
    told = left_out(runs)
    assert told.keys() == {"torn", "deep", "no time", "too late", "half"}
    assert "not JSON" in told["torn"]
    assert "not a plain file" in told["half"]
    read.clear()
    assert left_out(runs) == told
    assert read == []


def test_of_a_run_and_its_copy_one_counts(runs):
    first = run_folder.load(runs / "grid")
    put(runs / "copy", first.records[:-1], **{"id": "grid"})
    assert left_out(runs) == {"copy": "it is a copy of grid"}
    assert {run for run, *_ in rows(runs)} == {*(f"deeper/run-00{day}" for day in range(3)), "grid"}
    (runs / "grid").rename(runs.parent / "away")
    assert left_out(runs) == {}
    assert "copy" in {run for run, *_ in rows(runs)}


def test_a_record_counts_once_where_runs_were_merged(here):
    put_halves_and_whole(here / "store")
    assert left_out(here / "store") == dict.fromkeys(
        ("first", "second"), "it was merged into whole"
    )
    assert rows(here / "store") == places_of(here / "store", "whole")
    (here / "store" / "whole").rename(here / "away")
    assert rows(here / "store") == places_of(here / "store", "first", "second")


def test_a_merged_run_does_not_hide_itself(here):
    told = {"id": "one", "machines": [], "environment": {}, "records_sha256": "0" * 64}
    put(here / "store" / "one", [record()], parts=[told], records_sha256="0" * 64)
    assert left_out(here / "store") == {}


def test_the_machine_of_a_record_is_its_own_where_it_is_known(here):
    records = [record(block=0, machine="GPU-1"), record(block=1)]
    put(here / "store" / "one", records)
    asked = "select machine from records order by block"
    assert rows(here / "store", asked) == [("GPU-1",), ("bench-host",)]


def test_processes_of_their_own_find_the_same(runs, monkeypatch):
    alone = rows(runs)
    (cache(runs) / INDEX).unlink()
    monkeypatch.setattr(store_parquet, "WORTH_PROCESSES_BYTES", 0)
    monkeypatch.setattr(store_parquet, "CHUNK", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert rows(runs) == alone


def test_hostile_names_are_there_whole_and_harmless(here):
    hostile = [name for name in HOSTILE if name.isprintable()]
    put(here / "store" / "it's; drop", [record(name) for name in hostile], id="\x1b[31mred")
    found = rows(here / "store", "select run, run_id, backend from records")
    assert {backend for *_, backend in found} == set(hostile)
    assert {run for run, *_ in found} == {"it's; drop"}
    assert {name for _, name, _ in found} == {"\ufffd[31mred"}


def test_a_hidden_run_with_a_quote_in_its_name_is_hidden(runs):
    first = run_folder.load(runs / "grid")
    put(runs / "it's a copy", first.records, **{"id": "grid"})
    assert left_out(runs) == {"it's a copy": "it is a copy of grid"}
    assert "it's a copy" not in {run for run, *_ in rows(runs)}


def test_a_store_without_runs_is_refused(here):
    (here / "store").mkdir()
    with pytest.raises(UserError, match="holds no run that can be read"), tables(here / "store"):
        pass
    with pytest.raises(UserError, match="is not a folder"), tables(here / "nowhere"):
        pass


def test_a_run_without_records_is_a_row_of_runs(here):
    put(here / "store" / "begun", [])
    assert rows(here / "store", "select run, records from runs") == [("begun", 0)]
    assert rows(here / "store") == []


def test_a_cache_that_cannot_be_written_is_told(runs, monkeypatch):
    (runs.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(runs.parent / "file"))
    with pytest.raises(MeasuringFailed, match="set XDG_CACHE_HOME"), tables(runs):
        pass


def test_a_full_disk_is_told_and_what_was_kept_stays(runs, monkeypatch):
    whole = rows(runs)

    def full(*_):
        raise OSError(28, "No space left on device")

    put(runs / "new", blocks("naive", [7000]))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(MeasuringFailed, match="No space left"), tables(runs):
            pass
    assert rows(runs) == sorted([*whole, ("new", 0, 7000.0)])


def test_what_an_interrupted_query_read_is_kept(runs, read, monkeypatch):
    monkeypatch.setattr(store_parquet, "PART_BYTES", 1)
    monkeypatch.setattr(store_parquet, "CHUNK", 1)

    def interrupt(done, total, label):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tables(runs, interrupt):
        pass
    assert len(read) == 3
    read.clear()
    assert {run for run, *_ in rows(runs)} == {*(f"deeper/run-00{day}" for day in range(3)), "grid"}
    assert read == ["run-002", "grid"]


def test_two_processes_at_once_agree(here):
    for day in range(40):
        put(here / "store" / f"run-{day:02}", blocks("naive", [1000 + day] * 3), start=start(day))
    asked = "select/**/sum(median_ns),count(*)/**/from/**/records"

    def go(_):
        process = bench.start(f"query --store store --csv {asked}", here)
        return process.communicate(timeout=PATIENCE_S), process.returncode

    with ThreadPoolExecutor(3) as pool:
        done = [*pool.map(go, range(3))]
    for (out, err), code in done:
        assert (code, err) == (0, ""), err
        assert out.splitlines()[1] == f"{float(sum(3 * (1000 + day) for day in range(40)))},120"


def test_a_part_is_never_written_twice_in_place(runs):
    rows(runs)
    before = {path: path.stat().st_mtime_ns for path in kept(runs)}
    put(runs / "new", blocks("naive", [7000]))
    rows(runs)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all(pq.read_schema(path).names[0] == "run" for path in kept(runs))


def test_a_copy_is_not_of_another_machine(runs):
    first = run_folder.load(runs / "grid")
    environment = first.manifest["environment"] | {"host": "other"}
    put(runs / "other", first.records, id="grid", environment=environment)
    assert left_out(runs) == {}
