"""What is on disk after every step; foreign and torn files of whole runs are in test_resume."""

import dataclasses
import json

import pytest
from synthetic_runs import case, record

from lstm_harness.model.errors import MeasuringFailed, UserError
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import STATUSES, Record
from lstm_harness.model.spec import build
from lstm_harness.store import files, run_folder


@pytest.fixture
def run(tmp_path):
    """A run of one backend and one case in three blocks, with no record yet."""
    plan = Plan(("naive",), (case(),), blocks=3, device="cpu", skips={}, absent={})
    spec = build(None, {"hidden": "8"}, {}).to_dict()
    facts = {"id": "race", "start": "", "seed": 0, "kernels_digest": "", "environment": {}}
    run_folder.create(tmp_path / "race")
    run_folder.write_manifest(
        tmp_path / "race", {"schema": 1, "spec": spec, "plan": plan.to_dict(), **facts}
    )
    return tmp_path / "race"


def append(run, *records):
    with run_folder.appender(run) as to:
        for each in records:
            to.append(each)


def test_each_record_is_on_disk_when_append_returns(run):
    with run_folder.appender(run) as to:
        for block in range(3):
            to.append(record(block=block))
            assert [r.block for r in run_folder.load(run).records] == list(range(block + 1))


def test_record_comes_back_as_it_went(run):
    went = record(samples_ns=(5, 4), errors={"y": 1e-7, "c_n": None}, marked=(1,), kernels=("k",))
    append(run, went)
    assert run_folder.load(run).records == (went,)


def test_run_without_a_first_record_has_none(run):
    assert run_folder.load(run).records == ()


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_torn_last_line_is_dropped_on_reading_and_cut_off_on_appending(run, cut):
    append(run, record(block=0), record(block=1))
    path = run / run_folder.RECORDS
    path.write_bytes(path.read_bytes()[:-cut])
    torn = run_folder.load(run)
    assert torn.torn
    assert [r.block for r in torn.records] == [0]
    append(run, record(block=1), record(block=2))
    whole = run_folder.load(run)
    assert not whole.torn
    assert [r.block for r in whole.records] == [0, 1, 2]


def test_manifest_is_replaced_whole_or_not_at_all(run, monkeypatch):
    before = (run / run_folder.MANIFEST).read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(MeasuringFailed, match=r"No space left.*lstm-bench run --resume"):
        run_folder.write_manifest(run, {"schema": 1})
    assert (run / run_folder.MANIFEST).read_bytes() == before


def test_folder_left_by_a_kill_before_the_manifest_stood_may_be_used(tmp_path):
    run_folder.create(tmp_path / "race")
    files.unfinished(tmp_path / "race" / run_folder.MANIFEST).write_text('{"schema": 1, "torn')
    run_folder.create(tmp_path / "race")


def test_folder_with_anything_else_in_it_may_not(run, tmp_path):
    with pytest.raises(UserError, match="already used"):
        run_folder.create(run)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "race"):
        with pytest.raises(UserError):
            run_folder.create(place)


def test_message_quotes_a_folder_with_a_space(tmp_path):
    with (
        pytest.raises(MeasuringFailed, match=r"--resume '.*my race'"),
        run_folder.writing(tmp_path / "my race"),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "ok"])
def test_no_record_but_an_ok_one_can_hold_a_time(status):
    failed = record(status=status)
    with pytest.raises(ValueError, match="has samples; expected none"):
        dataclasses.replace(failed, samples_ns=(1,))
    with pytest.raises(ValueError, match="has no reason; expected one"):
        dataclasses.replace(failed, reason="")


@pytest.mark.parametrize(
    "change", [{"samples_ns": ()}, {"samples_ns": (0,)}, {"samples_ns": (-1, 5)}, {"reason": "x"}]
)
def test_ok_record_needs_samples_above_zero_and_no_reason(change):
    with pytest.raises(ValueError, match="an ok record"):
        dataclasses.replace(record(), **change)


def test_unknown_fields_of_a_record_are_kept():
    stored = record().to_dict() | {"from_the_future": [1, {"a": 2}]}
    assert Record.from_dict(stored).to_dict() == stored


def test_optional_fields_may_be_missing():
    stored = record().to_dict()
    needed = ("schema", "block", "order", "backend", "status", "samples_ns", "device")
    needed += ("problem", "pass", "launch", "cache")
    assert Record.from_dict({name: stored[name] for name in needed}).samples_ns == (
        1000,
        1100,
        1200,
    )


def test_record_is_strict_json(run):
    with run_folder.appender(run) as to, pytest.raises(ValueError, match="JSON"):
        to.append(record(errors={"y": float("nan")}))
    append(run, record())
    json.loads((run / run_folder.RECORDS).read_text())


@pytest.mark.parametrize("name", ["pass", "launch", "cache", "device"])
def test_a_record_of_no_known_case_is_one_line(name):
    stored = record().to_dict() | {name: "sideways"}
    with pytest.raises(ValueError, match=f"{name} 'sideways'; expected one of"):
        Record.from_dict(stored)
