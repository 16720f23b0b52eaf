"""A run in little is what the whole run says, and nothing broken passes for it."""

import json

import pytest
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import environment, put

from lstm_harness.history import run_digest
from lstm_harness.model.errors import UserError
from lstm_harness.model.record import SEVERITY, STATUSES
from lstm_harness.store import run_folder

RUNS = {
    "a grid": list(grid(block_count=3)),
    "even blocks": blocks("naive", [1000, 1100, 1201, 1500]),
    "even samples": [record(samples_ns=(10, 13))],
    "one block wrong": [record(block=0), record(block=1, status="incorrect", errors={})],
    "the worse status": [
        record(block=0, status="crashed"),
        record(block=1, status="incorrect"),
        record(block=2, status="timed_out"),
    ],
    "wrong by its own evidence": [record(errors={"y": 1e-3})],
    "not finite": [record(errors={"y": None})],
    "nothing to be held against": [record(errors={"y": 1.0}, tolerance=None)],
    "not believed": [record(block=0), record(block=1, unranked="faster than the device")],
    "wrong and not believed": [record(errors={"y": 1.0}, unranked="faster than the device")],
    "failed and not believed": [record(status="crashed", unranked="faster than the device")],
    "hostile names": [record(name) for name in HOSTILE],
    "no record": [],
    "on a GPU": [record(of=case(device="cuda"))],
}


@pytest.mark.parametrize("records", RUNS.values(), ids=RUNS)
def test_the_quick_way_and_the_thorough_one_agree(tmp_path, records):
    run = put(tmp_path / "run", records)
    assert run_digest.quick(run) == run_digest.thorough(run)


@pytest.mark.parametrize("cut", [1, 30, 500])
def test_a_torn_last_line_is_left_out(tmp_path, cut):
    run = put(tmp_path / "run", blocks("naive", [1000, 2000, 9000]))
    path = run / run_folder.RECORDS
    path.write_bytes(path.read_bytes()[:-cut])
    assert run_digest.quick(run) == run_digest.thorough(run)
    assert list(run_digest.quick(run).cells.values()) == [1500.0]


def test_every_status_has_its_weight():
    assert set(SEVERITY) == set(STATUSES)


def broken(run, change, line=0):
    path = run / run_folder.RECORDS
    lines = path.read_text().splitlines()
    lines[line] = change(lines[line])
    path.write_text("\n".join(lines) + "\n")


def with_fields(**fields):
    return lambda line: json.dumps(json.loads(line) | fields)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: "not JSON",
        lambda line: f"{line},{line}",
        lambda line: "[]",
        lambda line: "{}",
        with_fields(schema=99),
        with_fields(block=3),
        with_fields(block=1),
        with_fields(block=True),
        with_fields(backend="stranger"),
        with_fields(backend=["naive"]),
        with_fields(status="fine"),
        with_fields(status=[]),
        with_fields(samples_ns=[]),
        with_fields(samples_ns=[0]),
        with_fields(samples_ns=[1.5]),
        with_fields(unranked=1),
        with_fields(samples_ns=["7"]),
        with_fields(samples_ns=7),
        with_fields(reason="but"),
        with_fields(status="error"),
        with_fields(**{"pass": "sideways"}),
        with_fields(problem={"cell": "lstm"}),
        with_fields(problem=None),
        with_fields(order=None),
    ],
)
def test_a_record_that_is_none_is_refused_in_one_line(tmp_path, change):
    run = put(tmp_path / "run", blocks("naive", [1000, 2000, 3000]))
    broken(run, change)
    with pytest.raises(UserError) as refused:
        run_digest.read(run)
    assert "\n" not in str(refused.value)
    assert run_folder.RECORDS in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"plan": None},
        {"environment": []},
        {"start": "once"},
        {"start": None},
        {"start": 7},
        {"schema": 99},
    ],
    ids=str,
)
def test_a_manifest_that_is_none_is_refused_in_one_line(tmp_path, change):
    run = put(tmp_path / "run", blocks("naive", [1000]))
    manifest = json.loads((run / run_folder.MANIFEST).read_text())
    (run / run_folder.MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(UserError, match=r"run\.json"):
        run_digest.read(run)


def test_starts_are_compared_in_one_zone(tmp_path):
    starts = ["2026-01-01T12:00:00+02:00", "2026-01-01T11:00:00+00:00", "2026-01-01T10:30:00"]
    runs = [put(tmp_path / str(n), [], start=start) for n, start in enumerate(starts)]
    assert [run_digest.read(run).start[11:16] for run in runs] == ["10:00", "11:00", "10:30"]


def test_what_a_gpu_run_depends_on_is_kept_for_a_gpu_alone(tmp_path):
    facts = environment(
        gpu={"name": "H100", "uuid": "u", "driver": "570"},
        start={"gpu": {"power_limit_mw": 700_000}},
    )
    on_gpu = put(tmp_path / "a", [], environment=facts, plan={"device": "cuda"})
    on_cpu = put(tmp_path / "b", [], environment=facts)
    assert json.loads(run_digest.read(on_gpu).environment)["start.gpu.power_limit_mw"] == 700_000
    assert json.loads(run_digest.read(on_gpu).machine)["gpu.uuid"] == "u"
    assert "gpu.driver" not in run_digest.read(on_cpu).environment
    assert json.loads(run_digest.read(on_cpu).machine) == {
        "host": "bench-host",
        "cpu.model": "A CPU",
    }


@pytest.mark.parametrize("odd", [{"git": "HEAD"}, {"cpu": None}, {"cpu": "a"}, {"settings": [1]}])
def test_an_odd_environment_is_read_as_far_as_it_goes(tmp_path, odd):
    run = put(tmp_path / "run", blocks("naive", [1000]), environment=environment(**odd))
    assert list(run_digest.quick(run).cells.values()) == [1000.0]
