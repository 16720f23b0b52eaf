"""The kernels that measure a device compile for two architectures, and compute what they should."""

import json
import os
import subprocess
import sys

import pytest
from bench import ROOTS
from places import SUPPORT

pytest.importorskip("triton")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("limits kernels")]  # compiled once

SCRIPT = SUPPORT / "limits_kernels.py"
WAITING = ("ping-pong", "barriers")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the script tells, compiled or interpreted, in a process and with a cache of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    cache = str(tmp_path_factory.mktemp("triton"))
    clean |= {"TRITON_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(ROOTS)}

    def run(how, **environment):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), how],
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def compiled(told):
    return told("compiled")


def test_every_kernel_compiles_with_neither_stack_nor_spill(compiled):
    assert len(compiled) == 13
    for by_arch in compiled.values():
        for made in by_arch.values():
            assert made["stack_bytes"] == made["spill_bytes"] == 0


@pytest.mark.parametrize("name", ["read memory", "read L2", "read by one"])
def test_reading_goes_past_l1_in_wide_loads_that_stay_in_the_loop(compiled, name):
    for made in compiled[name].values():
        assert made["ptx"].count("ld.global.cg.v4.b32") == 4
        assert made["instructions"]["LDG"] == 4


@pytest.mark.parametrize("name", WAITING)
def test_programs_that_wait_release_and_acquire_and_give_up_at_last(compiled, name):
    for made in compiled[name].values():
        assert "ld.acquire.gpu.global" in made["ptx"]
        assert "gpu.release.add" in made["ptx"]
        assert "trap" in made["ptx"]


def test_the_gates_of_every_step_stay_in_the_loop(compiled):
    # Each sigmoid and tanh is an exponential and a reciprocal: five of them in an LSTM's step.
    for made in compiled["lstm forward"].values():
        assert made["instructions"]["MUFU"] == 10


def test_interpreted_they_compute_what_they_should(told):
    # Gates: 1.5e-6 is the worst that exponentials of three instruction sets reach.
    for name, error in told("interpreted", TRITON_INTERPRET="1").items():
        assert error <= (0 if name.startswith("read") else 1e-4), name
