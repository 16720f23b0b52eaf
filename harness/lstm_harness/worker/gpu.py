"""What NVML reports about a GPU: clocks, throttling, power, energy, foreign processes."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any, Self

import torch

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
        nvml: the pynvml module, or its replacement in a test.
        handle: NVML's handle of the device.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    @classmethod
    def find(cls, device: str) -> Self | None:
        """The GPU that CUDA calls `device`, or None where NVML or the driver is missing.

        It is found by its UUID: NVML and CUDA may count devices in different orders.
        """
        try:
            import pynvml

            pynvml.nvmlInit()
        except ImportError:
            return None
        except pynvml.NVMLError:
            return None
        # A part of a GPU (MIG) has another kind of UUID.
        uuid = torch.cuda.get_device_properties(device).uuid
        for kind in ("GPU", "MIG"):
            with suppress(pynvml.NVMLError):
                return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"{kind}-{uuid}"))
        return None

    def sm_clock_mhz(self) -> float | None:
        """The SM clock now."""
        clock: float | None = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        return clock

    def throttle_reasons(self) -> list[str]:
        """Why the device is slowed down now; empty if it is not, or if NVML does not say."""
        # The same figure under its newer and its older name.
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return [name for bit, name in THROTTLING.items() if reasons & bit]

    def foreign_processes(self, ours: Collection[int]) -> list[int]:
        """Process ids that compute on this GPU and are not ours.

        Inside a container NVML gives the host's ids. If none of ours is among them, nothing
        can be distinguished by id: then at most as many as we have there count as ours.
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
            "sm_clock_mhz": self.sm_clock_mhz(),
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
