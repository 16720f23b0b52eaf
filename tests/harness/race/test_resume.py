"""Killed at any moment, a run goes on: exactly the planned records, none twice, none lost."""

import json
import shutil
import signal

import pytest
from bench import bench, manifest_of, records_of, start, workers_of
from waiting import PATIENCE_S, until

GRID = "--backend naive,aten --seq-len 2,4,8 --batch 2 --hidden 8 --pass inference,forward,backward"
HOW = "--blocks 1 --threads 1 --min-samples 3 --rel-ci 0.000001 --quiet"
PLANNED = 18
one_worker = pytest.mark.xdist_group("a finished run")


def stop(process, signal_number):
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def until_no_worker_is_left(folder):
    """A worker may still be importing torch, on slow cores."""
    until(lambda: not workers_of(folder))


# One worker is the surveyor's, one answers, and one is raced.
FEW = "--backend naive --seq-len 2,4 --batch 2 --hidden 8 --pass inference,forward,backward"


def test_killed_it_goes_on_and_no_record_is_lost_or_made_twice(here, command):
    run = here / "race"
    process = start(f"run {FEW} {HOW} --out race", here)
    until(lambda: len(records_of(run)) >= 2, process)
    stop(process, signal.SIGKILL)
    until_no_worker_is_left(here)
    before = (run / "records.jsonl").read_bytes()
    with (run / "records.jsonl").open("ab") as file:
        file.write(b'{"schema": 1, "block": 0, "torn')

    code, _, err = command("run", "--resume", "race", "--quiet")
    assert code == 0, err
    assert (run / "records.jsonl").read_bytes().startswith(before)
    assert [r["order"] for r in records_of(run)] == list(range(6))
    assert len({(r["pass"], json.dumps(r["problem"])) for r in records_of(run)}) == 6
    assert {p.name for p in run.iterdir()} == {"run.json", "records.jsonl", "report.html"}


def test_interrupted_it_says_how_to_go_on(tmp_path):
    run = tmp_path / "race"
    process = start(f"run {FEW} {HOW} --blocks 50 --out race", tmp_path, forked=True)
    until(lambda: len(records_of(run)) >= 2, process)
    code, out, err = stop(process, signal.SIGINT)
    assert (code, out) == (130, "")
    assert err == "lstm-bench: interrupted; go on with: lstm-bench run --resume race\n"
    assert [r["order"] for r in records_of(run)] == list(range(len(records_of(run))))


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_planned_records(tmp_path):
    run = tmp_path / "race"
    manifest, records = run / "run.json", run / "records.jsonl"

    process = start(f"run {GRID} {HOW} --out race", tmp_path)
    until(manifest.exists, process)
    stop(process, signal.SIGKILL)
    until_no_worker_is_left(tmp_path)

    process = start("run --resume race --quiet", tmp_path)
    until(lambda: len(records_of(run)) >= 4, process)
    assert workers_of(tmp_path)
    stop(process, signal.SIGKILL)
    until_no_worker_is_left(tmp_path)
    before = records.read_bytes()
    with records.open("ab") as file:
        file.write(b'{"schema": 1, "block": 0, "torn')

    process = start("run --resume race --quiet", tmp_path)
    until(lambda: manifest_of(run)["end"] is not None, process)
    stop(process, signal.SIGKILL)
    assert len(records_of(run)) == PLANNED
    assert records.read_bytes().startswith(before)

    done = bench("run --resume race --quiet", tmp_path)
    assert done.returncode == 0, done.stderr
    cells = {
        (r["block"], r["backend"], r["pass"], json.dumps(r["problem"])) for r in records_of(run)
    }
    assert len(records_of(run)) == len(cells) == PLANNED
    assert [r["order"] for r in records_of(run)] == list(range(PLANNED))
    assert {p.name for p in run.iterdir()} == {"run.json", "records.jsonl", "report.html"}


@pytest.mark.slow
def test_interrupted_again_and_again_it_says_how_to_go_on(tmp_path):
    run = tmp_path / "race"
    process = start(f"run {GRID} {HOW} --blocks 50 --out race", tmp_path)
    until(lambda: len(records_of(run)) >= 2, process)
    assert stop(process, signal.SIGINT)[0] == 130

    process = start("run --resume race --quiet", tmp_path)
    until(lambda: len(records_of(run)) >= 4, process)
    code, out, err = stop(process, signal.SIGTERM)
    assert (code, out) == (130, "")
    assert err.endswith("lstm-bench run --resume race\n")
    until_no_worker_is_left(tmp_path)
    assert [r["order"] for r in records_of(run)] == list(range(len(records_of(run))))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, bench_in):
    folder = tmp_path_factory.mktemp("finished")
    small = "--backend aten --seq-len 2 --batch 1 --hidden 4 --pass inference --blocks 2"
    done = bench_in(f"run {small} --threads 1 --min-samples 3 --time-budget 1 --out race", folder)
    assert done.returncode == 0, done.stderr
    return folder / "race"


@pytest.fixture
def copy(finished, here):
    """A finished run to spoil."""
    return shutil.copytree(finished, here / "race")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kernels_digest": "0" * 64}, "the kernels' sources"),
        ({"environment": {"torch": "1.0"}}, "another host, cpu, torch"),
    ],
)
@one_worker
def test_what_would_not_compare_is_not_resumed(copy, refused, change, says):
    path = copy / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = (copy / "records.jsonl").read_bytes()
    assert says in refused("run", "--resume", copy)
    assert (copy / "records.jsonl").read_bytes() == before


@one_worker
def test_a_last_line_that_is_torn_is_measured_again(copy, command):
    path = copy / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    code, _, err = command("report", copy)
    assert code == 0
    assert "torn" in err
    assert command("run", "--resume", copy, "--quiet")[0] == 0
    assert [r["block"] for r in records_of(copy)] == [0, 1]
    assert path.read_bytes().splitlines()[0] == whole.splitlines()[0]


@one_worker
def test_options_that_a_resumed_run_would_ignore_are_refused(copy, refused):
    assert "leave out" in refused("run", "--resume", copy, "--blocks", 9)
    assert "keeps its folder" in refused("run", "--resume", copy, "--out", "other")


FOREIGN_RECORDS = [
    (b"not json\n", "line 1 is not JSON"),
    (b"\xff\xfe\x00\n", "line 1 is not JSON"),
    (b"[1, 2]\n", "line 1 is not a record"),
    (b'{"name": "something else"}\n', "line 1 is not a record of lstm-bench: it has no schema"),
    (b'{"schema": 1}\n', "line 1 is not a whole record: 'problem' is missing"),
    (b'{"schema": 2}\n', "has schema 2; this lstm-bench reads up to 1: upgrade it"),
    (b'{"schema": "x"}\n', "has schema 'x'"),
    (b"\n", "line 1 is not JSON"),
]


@pytest.mark.parametrize(("content", "says"), FOREIGN_RECORDS)
@one_worker
def test_foreign_records_are_refused_in_one_line(copy, refused, content, says):
    path = copy / "records.jsonl"
    path.write_bytes(content + path.read_bytes())
    assert says in refused("report", copy)


@one_worker
def test_foreign_records_are_not_resumed_either(copy, refused):
    (copy / "records.jsonl").write_bytes(b"not json\n")
    assert "not JSON" in refused("run", "--resume", copy)
    assert (copy / "records.jsonl").read_bytes() == b"not json\n"


@pytest.mark.parametrize(
    "change",
    [
        {"block": 7},
        {"backend": "naive"},
        {"backend": {}},
        {"block": "x"},
        {"status": "fine"},
        {"samples_ns": [1.5]},
        {"samples_ns": "abc"},
        {"samples_ns": []},
        {"errors": 3},
        {"problem": 5},
        {"pass": "sideways"},
    ],
)
@one_worker
def test_record_that_cannot_be_this_runs_is_refused(copy, refused, change):
    path = copy / "records.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]) + "\n")
    assert "line 1" in refused("report", copy)


@one_worker
def test_record_that_stands_there_twice_is_refused(copy, refused):
    path = copy / "records.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    assert "line 3" in refused("report", copy)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ('{"schema": 1, "plan', "not JSON"),
        ("[]", "no schema"),
        ('{"name": "something else"}', "no schema"),
        ('{"schema": 2}', "upgrade it"),
        ('{"schema": 1, "plan": {}, "spec": {}}', "no field 'id'"),
        ('{"schema": 1, "plan": 5, "spec": {"grids": 5}}', "not the manifest"),
    ],
)
@one_worker
def test_foreign_manifest_is_refused_in_one_line(copy, refused, content, says):
    (copy / "run.json").write_text(content)
    assert says in refused("report", copy)
    assert says in refused("run", "--resume", copy)


def test_what_is_no_run_at_all(here, refused):
    (here / "file").touch()
    for place in ("nowhere", "tmp", "file"):
        assert "is not a run" in refused("report", place)
        assert "is not a run" in refused("run", "--resume", place)


@one_worker
def test_report_that_cannot_be_written(copy, refused):
    assert "cannot write" in refused("report", copy, "-o", "/dev/null/page.html")
    assert "is a folder" in refused("report", copy, "-o", copy)
