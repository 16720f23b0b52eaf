"""Kept ceilings count where everything they depend on is the same, and nowhere else."""

import json
from dataclasses import replace

import pytest
from known_limits import cpu_limits, gpu_limits

from lstm_harness.model.ceilings import SCHEMA, Ceiling, Ceilings
from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.store import kept_limits


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def asked(ceilings, **conditions):
    """What is kept, for a run on the device of these ceilings but for some conditions."""
    now = ceilings.conditions | conditions
    return kept_limits.kept(ceilings.device, ceilings.identity, now)


@pytest.mark.parametrize("ceilings", [cpu_limits(), gpu_limits()], ids=["cpu", "gpu"])
def test_what_is_kept_is_found_again_the_same(ceilings, cache):
    path = kept_limits.keep(ceilings)
    assert path.parent == cache / "lstm-bench" / "limits"
    assert asked(ceilings) == (ceilings, "")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_none_kept_says_what_to_type():
    found, reason = asked(cpu_limits())
    assert found is None
    assert reason == (
        "no ceilings are stored for this device, so there is no floor: "
        "run lstm-bench limits to measure them"
    )


@pytest.mark.parametrize(
    ("ceilings", "changed"),
    [
        (cpu_limits(), {"torch": "2.14.0"}),
        (cpu_limits(), {"cpu": "another CPU"}),
        (gpu_limits(), {"driver": "2"}),
        (gpu_limits(), {"triton": "3.9.0"}),
    ],
    ids=str,
)
def test_what_is_stale_is_refused_with_what_changed(ceilings, changed):
    kept_limits.keep(ceilings)
    found, reason = asked(ceilings, **changed)
    ((name, now),) = changed.items()
    assert found is None
    assert f"with another {name} ({ceilings.conditions[name]}, now {now})" in reason
    assert reason.endswith("so there is no floor: run lstm-bench limits to measure them")
    assert "\n" not in reason


def test_ceilings_of_each_number_of_threads_are_kept_apart():
    two = cpu_limits()
    one = replace(two, conditions=two.conditions | {"threads": 1})
    kept_limits.keep(two)
    assert asked(one) == (None, kept_limits.NONE_KEPT)
    kept_limits.keep(one)
    assert asked(one) == (one, "")
    assert asked(two) == (two, "")


def test_a_file_put_in_the_place_of_another_device_is_refused():
    ours = cpu_limits()
    theirs = replace(ours, identity="their host", conditions=ours.conditions | {"threads": 8})
    path = kept_limits.path_of(ours.device, ours.identity, ours.conditions)
    kept_limits.keep(theirs).rename(path)
    found, reason = asked(ours)
    assert found is None
    assert "identity (their host, now a host), threads (8, now 2)" in reason


TORN = {
    "torn": lambda stored: json.dumps(stored)[:200],
    "empty": lambda stored: "",
    "a list": lambda stored: "[]",
    "no ceilings": lambda stored: json.dumps({**stored, "ceilings": None}),
    "a later schema": lambda stored: json.dumps({**stored, "schema": SCHEMA + 1}),
    "no schema": lambda stored: json.dumps({k: v for k, v in stored.items() if k != "schema"}),
    "no number": lambda stored: (
        json.dumps(stored).replace("8e+11", '"fast"').replace("800000000000.0", '"fast"')
    ),
    "below zero": lambda stored: json.dumps(stored).replace("800000000000.0", "-1"),
}


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_what_is_no_whole_file_of_ours_is_refused(torn):
    ceilings = cpu_limits()
    path = kept_limits.keep(ceilings)
    path.write_text(torn(ceilings.to_dict()))
    found, reason = asked(ceilings)
    assert found is None
    assert str(path) in reason
    assert "lstm-bench limits" in reason


def test_a_folder_that_cannot_be_written_is_told_in_a_line(cache):
    (cache / "lstm-bench").write_text("a file where a folder goes")
    with pytest.raises(MeasuringFailed, match="set XDG_CACHE_HOME"):
        kept_limits.keep(cpu_limits())
    assert asked(cpu_limits())[0] is None


def test_names_of_devices_are_no_paths():
    path = kept_limits.path_of("cpu", "../../etc/passwd", {"threads": 2})
    assert path.name == "cpu-.._.._etc_passwd-2-threads.json"


def test_unknown_fields_are_ignored():
    ceilings = cpu_limits()
    stored = ceilings.to_dict() | {"of_a_later_version": 1}
    stored["ceilings"] = [each | {"more": 1} for each in stored["ceilings"]]
    assert Ceilings.from_dict(json.loads(json.dumps(stored))) == ceilings


@pytest.mark.parametrize("figure", [0.0, -1.0, float("nan"), float("inf"), None, "fast"])
def test_a_ceiling_is_a_number_above_zero(figure):
    with pytest.raises(ValueError, match="expected a number above 0"):
        Ceiling("read", "L1", "", "B/s", 1.0, None, None, figure, ((1.0,),), (), "")
