"""The clocks: one small interface for a CPU's and a CUDA device's.

A clock times executions that were prepared before. It also reports what distinguishes a
quiet sample from a disturbed one.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, Protocol

import torch

from lstm_harness.model.protocol import Reading
from lstm_harness.worker.gpu import Gpu
from lstm_harness.worker.passes import Malformed

# A blocking kernel holds the device back while launches queue up; past this it would only waste
# time, for the launch queue is full (1024 launches) and the pass is bound by its launches anyway.
LONGEST_BLOCK_NS = 10_000_000
CYCLES_PER_NS = 2
# What is left to drain after the last event of a pass that waits for its own work: one
# synchronise call, with room for the scheduler.
LATE_NS = 100_000
LATE_SAMPLES = 3
# What an involuntary switch costs where another process takes its slice of the scheduler's time; a
# single one may be a kernel thread that took microseconds.
SWITCH_NS = 1_000_000
FREE_SWITCHES = 1
# The share of a sample that other processes may take before it is marked.
MOST_LOST = 0.05


class Clock(Protocol):
    """Times a region on a device."""

    def ready(self) -> None:
        """Bring the caches into the state for the next region."""
        ...

    def measure(self, executes: Sequence[Callable[[], None]]) -> Reading:
        """Time all the executions as one region."""
        ...

    def wall_ns(self, executes: Sequence[Callable[[], None]]) -> int | None:
        """The host's time from an idle device to an idle device, if that is another figure."""
        ...


class CpuClock:
    """perf_counter_ns around the region, and CPU time and context switches.

    A sample is marked if another process ran on this process's cores for more than a twentieth of
    it. Missing CPU time without a context switch does not mark it: the backend
    waited by itself.
    """

    def __init__(self, flush: Callable[[], object] | None = None) -> None:
        self._flush = flush

    def ready(self) -> None:
        """Bring the caches into the state for the next region."""
        if self._flush:
            self._flush()

    def measure(self, executes: Sequence[Callable[[], None]]) -> Reading:
        """Time all the executions as one region."""
        switches_before = getrusage(RUSAGE_SELF).ru_nivcsw
        cpu_before = time.process_time_ns()
        start = time.perf_counter_ns()
        for execute in executes:
            execute()
        elapsed = time.perf_counter_ns() - start
        cpu = time.process_time_ns() - cpu_before
        switches = getrusage(RUSAGE_SELF).ru_nivcsw - switches_before
        return Reading(
            elapsed_ns=elapsed,
            cpu_ns=cpu,
            involuntary_switches=switches,
            marked=_lost(elapsed, cpu, switches) > MOST_LOST,
        )

    def wall_ns(self, executes: Sequence[Callable[[], None]]) -> None:
        """None: the first figure is already wall time."""


class CudaClock:
    """Events around the region, after a short blocking kernel so that launches queue up first.

    Args:
        cuda: torch.cuda, or its replacement in a test.
        gpu: reads SM clock and throttling; None if NVML is not installed.
        flush: evicts the last-level cache before each sample.
    """

    def __init__(
        self,
        cuda: Any = torch.cuda,
        gpu: Gpu | None = None,
        flush: Callable[[], object] | None = None,
    ) -> None:
        self._cuda = cuda
        self._gpu = gpu
        self._flush = flush
        self._launch_ns = 0
        self._late_in_a_row = 0

    def ready(self) -> None:
        """Bring the caches into the state for the next region."""
        if self._flush:
            self._flush()

    def measure(self, executes: Sequence[Callable[[], None]]) -> Reading:
        """Time all the executions as one region.

        Raises:
            Malformed: work continued after the region, on a stream it did not wait for.
        """
        start = self._cuda.Event(enable_timing=True)
        stop = self._cuda.Event(enable_timing=True)
        self._cuda.synchronize()
        self._cuda._sleep(CYCLES_PER_NS * min(self._launch_ns, LONGEST_BLOCK_NS))
        start.record()
        launch_start = time.perf_counter_ns()
        for execute in executes:
            execute()
        self._launch_ns = time.perf_counter_ns() - launch_start
        stop.record()
        stop.synchronize()
        elapsed = max(1, round(start.elapsed_time(stop) * 1e6))
        late = self._was_late(elapsed)
        reasons = tuple(self._gpu.throttle_reasons()) if self._gpu else ()
        return Reading(
            elapsed_ns=elapsed,
            sm_clock_mhz=self._gpu.sm_clock_mhz() if self._gpu else None,
            marked=bool(reasons) or late,
            throttling=reasons,
        )

    def wall_ns(self, executes: Sequence[Callable[[], None]]) -> int:
        """The host's time from an idle device to an idle device."""
        self._cuda.synchronize()
        start = time.perf_counter_ns()
        for execute in executes:
            execute()
        self._cuda.synchronize()
        return time.perf_counter_ns() - start

    def _was_late(self, elapsed_ns: int) -> bool:
        """Whether work continued after the region; a single time may be a delay of the host."""
        start = time.perf_counter_ns()
        self._cuda.synchronize()
        late_ns = time.perf_counter_ns() - start
        was_late = late_ns > LATE_NS + 0.05 * elapsed_ns
        self._late_in_a_row = self._late_in_a_row + 1 if was_late else 0
        if self._late_in_a_row >= LATE_SAMPLES:
            raise Malformed(
                f"work continued for {late_ns / 1e3:.0f} µs after the pass returned, "
                "on a stream that the current one does not wait for"
            )
        return was_late


def _lost(elapsed_ns: int, cpu_ns: int, switches: int) -> float:
    """The share of a sample in which others ran: by context switches, or missing CPU time."""
    if not switches:
        return 0.0
    switched_ns = max(0, switches - FREE_SWITCHES) * SWITCH_NS
    return max(elapsed_ns - cpu_ns, switched_ns) / max(1, elapsed_ns)


def make_clock(device: str, cache: str) -> Clock:
    """The clock of a device; with a cold cache it flushes the last level before each sample."""
    flush = _flusher(device) if cache == "cold" else None
    if device == "cpu":
        return CpuClock(flush)
    return CudaClock(gpu=Gpu.find(device), flush=flush)


def last_level_cache_bytes(device: str) -> int:
    """The size of a device's last-level cache; 64 MiB if the system does not report it."""
    if device != "cpu":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [
        path.read_text().strip()
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    units = {"K": 1024, "M": 1024**2}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes), default=64 * 1024**2)


def _flusher(device: str) -> Callable[[], object]:
    buffer = torch.zeros(2 * last_level_cache_bytes(device), dtype=torch.uint8, device=device)
    return lambda: buffer.add_(1)
