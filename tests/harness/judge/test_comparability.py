"""What forbids comparing two machines, and what is only told."""

import copy

import pytest
from synthetic_runs import manifest

from lstm_harness.judge.comparability import differences, notes

GPU = {
    "name": "A GPU",
    "uuid": "1",
    "sm_count": 132,
    "driver": "600.1",
}


def changed(place, value, of=None):
    """A manifest in which one fact is another."""
    made = copy.deepcopy(of or manifest())
    *folders, name = place.split(".")
    at = made
    for folder in folders:
        at = at[folder]
    at[name] = value
    return made


def with_gpu(**facts):
    power = facts.pop("power_limit_mw", 700_000)
    start = {"gpu": {"power_limit_mw": power}}
    made = changed("environment.gpu", GPU | facts)
    return changed("environment.start", start, changed("plan.device", "cuda", made))


def test_a_machine_compares_with_itself():
    assert differences(manifest(), manifest()) == []
    assert notes(manifest(), manifest()) == []


def test_another_source_of_a_plugin_is_told_where_both_sides_have_it():
    there, here = (
        manifest() | {"plugins": [{"file": "mine.py", "sha256": digit * 64, "backends": ["mine"]}]}
        for digit in "ab"
    )
    assert differences(there, here) == []
    assert notes(there, here) == [f"plugin mine.py {'a' * 12} in the base, {'b' * 12} in the new"]
    assert notes(there, there) == notes(there, manifest()) == []


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("plan.device", "cuda", "device cpu in the base, cuda in the new"),
        ("environment.cpu.model", "B CPU", "cpu A CPU in the base, B CPU in the new"),
        ("environment.cpu.physical_cores", 4, "cpu cores 2 in the base, 4 in the new"),
        ("environment.cpu.threads", 1, "threads 2 in the base, 1 in the new"),
        ("environment.settings.allow_tf32", True, "allow_tf32 off in the base, on in the new"),
        (
            "environment.settings.OMP_NUM_THREADS",
            "1",
            "OMP_NUM_THREADS 2 in the base, 1 in the new",
        ),
    ],
)
def test_other_hardware_threads_and_settings_forbid(place, value, says):
    assert differences(manifest(), changed(place, value)) == [says]


def test_cpus_of_one_name_may_be_of_two_generations():
    there, here = (changed("environment.cpu.generation", each) for each in ("A 25 17", "A 26 2"))
    assert differences(there, here) == ["cpu generation A 25 17 in the base, A 26 2 in the new"]
    # An older run does not say.
    assert differences(manifest(), here) == []


@pytest.mark.parametrize(
    ("fact", "value", "says"),
    [
        ("name", "B GPU", "gpu A GPU in the base, B GPU in the new"),
        ("sm_count", 114, "gpu SMs 132 in the base, 114 in the new"),
        ("power_limit_mw", 350_000, "gpu power limit in mW 700000 in the base, 350000 in the new"),
    ],
)
def test_another_gpu_forbids(fact, value, says):
    assert differences(with_gpu(), with_gpu(**{fact: value})) == [says]
    assert differences(with_gpu(), with_gpu()) == []


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("environment.host", "other", "host bench-host in the base, other in the new"),
        ("environment.torch", "2.12.0", "torch 2.13.0 in the base, 2.12.0 in the new"),
        ("environment.triton", None, "triton 3.9.0 in the base, none in the new"),
        ("environment.git.commit", "ffff", "git commit 0123abcd in the base, ffff in the new"),
        ("kernels_digest", "ffff", "kernels' sources 0123abcd in the base, ffff in the new"),
    ],
)
def test_software_and_host_are_told_and_forbid_nothing(place, value, says):
    other = changed(place, value)
    assert differences(manifest(), other) == []
    assert notes(manifest(), other) == [says]


def test_driver_and_card_are_told():
    assert notes(with_gpu(), with_gpu(driver="601", uuid="2")) == [
        "gpu driver 600.1 in the base, 601 in the new",
        "gpu UUID 1 in the base, 2 in the new",
    ]


def test_memory_poisoned_for_the_checks_is_no_difference():
    base = changed("environment.settings.poisoned_memory", True)
    assert differences(base, changed("environment.settings.poisoned_memory", False)) == []


def test_variables_of_openmp_are_compared_as_one_setting():
    none, two = ({"omp": {}}, {"omp": {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}})
    base, new = (changed("environment.settings", settings) for settings in (none, two))
    assert differences(base, new) == [
        "omp none set in the base, OMP_PLACES=cores, OMP_PROC_BIND=true in the new"
    ]


def test_what_one_side_does_not_know_is_said_and_forbids_nothing():
    unknown = changed("environment.cpu", {"model": "A CPU"})
    assert differences(manifest(), unknown) == []
    assert "threads not recorded in new" in notes(manifest(), unknown)
    assert "threads not recorded in base" in notes(unknown, manifest())
    assert "the machine of base is not recorded" in notes({}, manifest())


def test_a_difference_far_into_a_long_setting_is_one():
    places = ",".join(f"{{{core}}}" for core in range(60))
    long = {"omp": {"OMP_PLACES": places, "OMP_PROC_BIND": "false"}}
    base = changed("environment.settings", long)
    new = changed("environment.settings", {"omp": long["omp"] | {"OMP_PROC_BIND": "close"}})
    assert differences(base, new) == ["omp …false in the base, …close in the new"]


def test_tuned_parameters_of_one_side_alone_are_told():
    used = {"used": {"digest": "abc", "date": "2026-01-01"}, "refused": []}
    tuned = changed("environment.tuned", {"triton": used})
    assert notes(tuned, tuned) == []
    refused = {"used": None, "refused": ["of other sources"]}
    for other in (manifest(), changed("environment.tuned", {"triton": refused})):
        assert notes(tuned, other) == [
            "tuned parameters of triton abc in the base, none in the new"
        ]
        assert notes(other, tuned) == [
            "tuned parameters of triton none in the base, abc in the new"
        ]


def test_hostile_facts_stay_on_one_short_line():
    (said,) = differences(manifest(), changed("environment.cpu.model", "x\n" * 9999))
    assert "\n" not in said
    assert len(said) < 200
