"""What runs leave for `auto`: kept beside what others left, and found by the kernels."""

import json
from importlib.resources import files

import jsonschema
import pytest
import torch
from saved_runs import save
from synthetic_runs import blocks, case, environment

from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.model.sources import sources_digest
from lstm_harness.store import cache_folder, run_folder
from lstm_harness.store.kept_for_auto import keep_for_auto
from lstm_kernels import measured, preference

TIMES = {"numba_cpu": (5000, 5010, 4990), "aten": (9000, 9010, 8990)}
SCHEMA = json.loads((files("lstm_harness.model") / "schemas" / "measured.schema.json").read_text())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    preference.forget()
    return tmp_path / "cache"


def here():
    """This machine, with one thread, as a run tells of it."""
    facts = measured.device_class("cpu", 1)
    cpu = {"model": facts.name, "capability": facts.instructions, "threads": 1}
    return environment() | {"cpu": cpu, "torch": torch.__version__}


def run(folder, times=TIMES, pass_name="inference", **fields):
    """A finished run of one case on this machine by these kernels, but for what is said."""
    fields = {"environment": here(), "kernels_digest": measured.kernels_digest()} | fields
    of = case(pass_name, batch=fields.pop("batch", 4))
    records = [each for name, ns in times.items() for each in blocks(name, ns, of=of)]
    return run_folder.load(save(folder, records, id=folder.name, **fields))


def ids(path):
    return [row.run.id for row in measured.read(path).rows]


def test_what_a_run_leaves_is_what_auto_reads(tmp_path, cache):
    path = keep_for_auto(run(tmp_path / "mine"))
    assert path is not None
    assert path.parent == cache / "lstm-bench" / "measured" == measured.user_folder()
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    preference.forget()
    chosen = preference.preferred(case().problem, "cpu", False, 1)
    assert chosen.order == ("numba_cpu", "aten")
    told = chosen.why("numba_cpu", {})
    assert "the fastest of 2 measured on lstm T32 B4 H64 float32 in inference" in told
    assert "in run mine (your own; " in told


def test_the_kernels_and_the_harness_agree_on_what_the_kernels_are():
    here = measured.SHIPPED.parent.parent
    assert measured.kernels_digest() == sources_digest(here, [])
    assert measured.user_folder() == cache_folder.folder("measured")


def test_runs_add_up_and_the_newer_wins(tmp_path):
    keep_for_auto(run(tmp_path / "first", start="2026-01-01T00:00:00+00:00"))
    path = keep_for_auto(run(tmp_path / "other", batch=16, start="2026-01-02T00:00:00+00:00"))
    assert ids(path) == ["first", "other"]
    keep_for_auto(run(tmp_path / "again", start="2026-01-03T00:00:00+00:00"))
    assert ids(path) == ["again", "other"]
    keep_for_auto(run(tmp_path / "older", start="2025-01-03T00:00:00+00:00"))
    assert ids(path) == ["again", "other"]


def test_a_run_that_was_resumed_takes_its_own_place(tmp_path):
    keep_for_auto(run(tmp_path / "mine"))
    slower = {"numba_cpu": (9900, 9910, 9890), "aten": TIMES["aten"]}
    path = keep_for_auto(run(tmp_path / "again" / "mine", slower))
    (row,) = measured.read(path).rows
    assert row.order == ("aten",)


def test_what_other_sources_left_goes(tmp_path):
    path = keep_for_auto(run(tmp_path / "old", batch=16))
    path.write_text(path.read_text().replace(measured.kernels_digest(), "0" * 64))
    assert ids(path) == ["old"]
    keep_for_auto(run(tmp_path / "new"))
    assert ids(path) == ["new"]


def test_a_run_of_other_sources_tells_nothing_and_takes_nothing(tmp_path):
    path = keep_for_auto(run(tmp_path / "new"))
    assert keep_for_auto(run(tmp_path / "old", kernels_digest="0" * 64)) is None
    assert ids(path) == ["new"]


def test_another_torch_keeps_its_own(tmp_path):
    path = keep_for_auto(run(tmp_path / "old", environment=here() | {"torch": "2.1.0"}))
    keep_for_auto(run(tmp_path / "new"))
    assert sorted(ids(path)) == ["new", "old"]


def test_a_broken_file_is_replaced(tmp_path):
    path = keep_for_auto(run(tmp_path / "old", batch=16))
    path.write_text("{")
    keep_for_auto(run(tmp_path / "new"))
    assert ids(path) == ["new"]


def test_what_tells_nothing_leaves_nothing(tmp_path, cache):
    assert keep_for_auto(run(tmp_path / "alone", {"numba_cpu": TIMES["numba_cpu"]})) is None
    assert keep_for_auto(run(tmp_path / "imported", imported=True)) is None
    edited = run(tmp_path / "edited", records_sha256="0" * 64)
    assert edited.edited
    assert keep_for_auto(edited) is None
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_told_in_a_line(tmp_path, cache):
    cache.write_text("in the way")
    with pytest.raises(MeasuringFailed, match="cannot keep what was measured for auto in "):
        keep_for_auto(run(tmp_path / "mine"))
