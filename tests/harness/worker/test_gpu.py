"""What is made of NVML's answers, on an NVML that answers as a test says."""

# ruff: noqa: N802 - the names are NVML's

import sys
from types import SimpleNamespace

import pytest
import torch

from lstm_harness.worker import environment
from lstm_harness.worker.gpu import Gpu


class SimulatedNvml:
    """One GPU; a function that is not in `answers` is not supported by its driver."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        pass

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked.append(uuid)
        if uuid != self.answers.get("uuid"):
            raise self.NVMLError(uuid)
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle, which):
        return self._answer("clock")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._answer("reasons")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid) for pid in self._answer("pids")]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer("energy")

    def nvmlDeviceGetTemperature(self, handle, which):
        return self._answer("temperature")

    def _answer(self, what):
        if what not in self.answers:
            raise self.NVMLError(what)
        return self.answers[what]


def gpu(**answers):
    return Gpu(SimulatedNvml(**answers), "handle")


@pytest.mark.parametrize(
    ("reasons", "names"),
    [
        (0x0, []),
        (0x1, []),
        (0x2, []),
        (0x4, ["power cap"]),
        (0x8 | 0x40, ["hardware slowdown", "hardware thermal slowdown"]),
        (0x20, ["software thermal slowdown"]),
        (0x80, ["hardware power brake"]),
    ],
)
def test_only_what_holds_the_device_back_is_throttling(reasons, names):
    found = gpu(reasons=reasons, clock=1410)
    assert found.throttle_reasons() == names
    assert found.sm_clock_mhz() == 1410


def test_our_own_processes_are_not_foreign():
    assert gpu(pids=[30, 10, 20]).foreign_processes(ours={10}) == [20, 30]
    assert gpu(pids=[10]).foreign_processes(ours={10}) == []


def test_ids_of_another_namespace_are_foreign_only_beyond_our_number():
    assert gpu(pids=[70, 71]).foreign_processes(ours={1, 2}) == []
    assert gpu(pids=[70, 71, 72]).foreign_processes(ours={1, 2}) == [72]


def test_what_a_device_does_not_tell_is_none():
    silent = gpu()
    assert silent.sm_clock_mhz() is None
    assert silent.throttle_reasons() == []
    assert silent.foreign_processes(ours=()) == []
    assert silent.energy_mj() is None
    # This NVML has no function for the power limit at all, as an older pynvml may not.
    assert silent.state()["power_limit_mw"] is None


def test_energy_and_state_are_what_nvml_says():
    told = gpu(energy=77, clock=1410, reasons=0x4, temperature=60, pids=[3])
    assert told.energy_mj() == 77
    assert told.state() == {
        "sm_clock_mhz": 1410,
        "memory_clock_mhz": 1410,
        "power_limit_mw": None,
        "temperature_c": 60,
        "throttle_reasons": ["power cap"],
        "processes": [3],
    }


@pytest.fixture
def device(monkeypatch):
    """torch's only CUDA device, by its UUID; NVML answers what it is given."""

    def there_is(nvml):
        properties = SimpleNamespace(uuid="12-ab")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)

    return there_is


@pytest.mark.parametrize("uuid", ["GPU-12-ab", "MIG-12-ab"])
def test_device_is_found_by_its_uuid(device, uuid):
    nvml = SimulatedNvml(uuid=uuid)
    device(nvml)
    assert Gpu.find("cuda") is not None
    assert nvml.asked[-1] == uuid


def test_device_that_nvml_does_not_know_has_no_facts(device):
    device(SimulatedNvml(uuid="GPU-another"))
    assert Gpu.find("cuda") is None


def test_older_name_of_the_throttle_reasons_serves_too():
    class Older(SimulatedNvml):
        def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
            return self._answer("reasons")

        def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
            raise self.NVMLError("not in this driver")

    assert Gpu(Older(reasons=0x40), "handle").throttle_reasons() == ["hardware thermal slowdown"]


def test_without_pynvml_there_is_no_gpu_and_no_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpu.find("cuda") is None
    assert environment._driver() is None


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    nvml = SimulatedNvml()
    monkeypatch.setattr(nvml, "nvmlInit", lambda: nvml._answer("nothing"))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert Gpu.find("cuda") is None
    assert environment._driver() is None
