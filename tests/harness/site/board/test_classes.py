"""The class of a run's device: its name, and an address that depends on nothing else."""

import re

import pytest
from synthetic_runs import HOSTILE, blocks, case
from synthetic_store import environment, put

from lstm_harness.site import catalogue
from lstm_harness.site.board import classes

GPU = {"name": "NVIDIA H200", "uuid": "GPU-1", "sm_count": 132}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def classes_of(store):
    return list(classes.grouped(catalogue.collect([store]).runs.values()))


def test_a_cpu_is_its_model_and_cores(tmp_path):
    for cores in (1, 2):
        cpu = {"model": "A CPU", "physical_cores": cores, "threads": 2}
        put(tmp_path / str(cores), blocks("naive", [1000]), environment=environment(cpu=cpu))
    assert [one.name for one in classes_of(tmp_path)] == ["A CPU, 1 core", "A CPU, 2 cores"]


def test_a_run_on_the_cpu_of_a_host_with_a_gpu_is_of_the_cpu(tmp_path):
    measured_on = environment(gpu=GPU)
    put(tmp_path / "cpu", blocks("naive", [1000]), environment=measured_on)
    on_gpu = blocks("naive", [1000], of=case(device="cuda"))
    put(tmp_path / "gpu", on_gpu, environment=measured_on, plan={"device": "cuda"})
    assert [one.name for one in classes_of(tmp_path)] == ["A CPU, 2 cores", "NVIDIA H200"]


@pytest.mark.parametrize("facts", [{"gpu": None}, {"gpu": {}}, {"gpu": {"name": None}}])
def test_what_is_not_recorded_is_called_unknown(tmp_path, facts):
    on_gpu = blocks("naive", [1000], of=case(device="cuda"))
    put(tmp_path / "a", on_gpu, environment=environment(**facts), plan={"device": "cuda"})
    assert [one.name for one in classes_of(tmp_path)] == ["unknown GPU"]
    unknown = environment(cpu={"model": None, "physical_cores": None})
    put(tmp_path / "b", blocks("naive", [1000]), environment=unknown)
    assert "unknown CPU, cores not known" in [one.name for one in classes_of(tmp_path)]


def test_an_address_stays_when_runs_are_added(tmp_path):
    put(tmp_path / "a", blocks("naive", [1000]))
    (before,) = classes_of(tmp_path)
    other = environment(cpu={"model": "a cpu", "physical_cores": 2})
    put(tmp_path / "0", blocks("naive", [1000]), environment=other)
    after = classes_of(tmp_path)
    assert before in after
    assert len({one.slug for one in after}) == 2


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_makes_a_plain_address(tmp_path, name):
    cpu = {"model": name, "physical_cores": 2}
    put(tmp_path / "a", blocks("naive", [1000]), environment=environment(cpu=cpu))
    (one,) = classes_of(tmp_path)
    assert re.fullmatch(r"[a-z0-9-]{8,69}", one.slug)
    assert len(one.name) < 150
    assert "\u202e" not in one.name


def test_cpus_of_one_name_and_two_generations_are_two_classes(tmp_path):
    for which in ("A 25 17", "A 26 2"):
        cpu = {"model": "A CPU", "generation": which, "physical_cores": 2}
        put(tmp_path / which, blocks("naive", [1000]), environment=environment(cpu=cpu))
    names = [one.name for one in classes_of(tmp_path)]
    assert names == ["A CPU, A 25 17, 2 cores", "A CPU, A 26 2, 2 cores"]
