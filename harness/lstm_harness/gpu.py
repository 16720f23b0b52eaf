"""What NVML tells of a GPU: clocks, throttling, power, energy, foreign processes."""

import os
from collections.abc import Collection
from typing import Any, Self

# Reasons that make a sample slower than the device can be; idle and the user's own clock
# settings are not among them (nvml.h, nvmlClocksThrottleReasons).
THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


class Gpu:
    """One GPU as NVML sees it.

    Args:
        nvml: the pynvml module, or what stands in for it in a test.
        handle: NVML's handle of the device.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @classmethod
    def find(cls, index: int) -> Self | None:
        """The GPU that CUDA calls `index`, or None where NVML or the driver is missing."""
        try:
            import pynvml

            pynvml.nvmlInit()
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            name = visible.split(",")[index] if visible else str(index)
            if name.isdecimal():
                return cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(name)))
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(name))
        except (ImportError, IndexError):
            return None
        except pynvml.NVMLError:
            return None

    def clock_and_throttling(self) -> tuple[float | None, bool]:
        """The SM clock in MHz, and whether the device is being held back just now."""
        clock = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        return clock, bool(self.throttle_reasons())

    def throttle_reasons(self) -> list[str]:
        """Why the device is held back just now; empty where it is not, or NVML does not tell."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return [name for bit, name in THROTTLING.items() if reasons & bit]

    def foreign_processes(self, ours: Collection[int]) -> list[int]:
        """Process ids that compute on this GPU and are not ours.

        Inside a container NVML gives the host's ids. Where not one of ours is among them nothing
        can be told apart by id: then as many as we have there at most are taken for ours.
        """
        running = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        pids = sorted(process.pid for process in running)
        if ours and not set(pids) & set(ours):
            return pids[len(ours) :]
        return [pid for pid in pids if pid not in ours]

    def energy_mj(self) -> float | None:
        """Energy used since the driver was loaded, in mJ; None where the device does not count."""
        used: int | None = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return used

    def state(self) -> dict[str, Any]:
        """Clocks, power and temperature now, for the manifest."""
        nvml = self._nvml
        return {
            "sm_clock_mhz": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            "power_limit_mw": self._ask("nvmlDeviceGetEnforcedPowerLimit"),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            "throttle_reasons": self.throttle_reasons(),
            "processes": self.foreign_processes(ours=()),
        }

    def _ask(self, function: str, *arguments: Any) -> Any:
        """One NVML figure; None where this device, driver or pynvml does not have it."""
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (AttributeError, self._nvml.NVMLError):
            return None
