"""Clocks; the CUDA clock on a simulated device, whose host and streams have their own times."""

from types import SimpleNamespace

import pytest

from lstm_harness.worker import clock
from lstm_harness.worker.clock import (
    CYCLES_PER_NS,
    LATE_SAMPLES,
    LONGEST_BLOCK_NS,
    CpuClock,
    CudaClock,
)
from lstm_harness.worker.passes import Malformed

LAUNCH_NS = 5_000


class SimulatedCuda:
    """What CudaClock asks of torch.cuda, and the host's clock; all times in ns."""

    def __init__(self):
        self.host_ns = 1
        self.free_ns = {"current": 0, "other": 0}
        self.log = []

    def work(self, duration_ns, stream="current"):
        """Launch one kernel: the host pays for the launch, the stream for the work."""
        self.host_ns += LAUNCH_NS
        self.free_ns[stream] = max(self.host_ns, self.free_ns[stream]) + duration_ns
        self.log.append("work")

    def synchronize(self):
        self.host_ns = max(self.host_ns, *self.free_ns.values())
        self.log.append("synchronize")

    def _sleep(self, cycles):
        self.free_ns["current"] = (
            max(self.host_ns, self.free_ns["current"]) + cycles / CYCLES_PER_NS
        )
        self.log.append("block")

    def Event(self, enable_timing):  # noqa: N802 - the name is torch.cuda's
        assert enable_timing
        return SimulatedEvent(self)


class SimulatedEvent:
    def __init__(self, cuda):
        self.cuda = cuda

    def record(self):
        self.at_ns = max(self.cuda.host_ns, self.cuda.free_ns["current"])
        self.cuda.log.append("event")

    def synchronize(self):
        self.cuda.host_ns = max(self.cuda.host_ns, self.at_ns)

    def elapsed_time(self, stop):
        return (stop.at_ns - self.at_ns) / 1e6


@pytest.fixture
def cuda(monkeypatch):
    simulated = SimulatedCuda()
    host = SimpleNamespace(perf_counter_ns=lambda: simulated.host_ns)
    monkeypatch.setattr(clock, "time", host)
    return simulated


def test_device_time_is_measured_and_not_the_launches(cuda):
    short_kernels = [lambda: cuda.work(1_000)] * 50
    timer = CudaClock(cuda)
    launch_bound = timer.measure(short_kernels).elapsed_ns
    queued = timer.measure(short_kernels).elapsed_ns
    assert launch_bound >= 49 * LAUNCH_NS
    assert queued == 50 * 1_000


def test_blocking_kernel_is_bounded(cuda):
    timer = CudaClock(cuda)
    for _ in range(2):
        before = cuda.host_ns
        timer.measure([lambda: cuda.work(1)] * 10_000)
    assert cuda.host_ns - before <= LONGEST_BLOCK_NS + 10_000 * (LAUNCH_NS + 1)


def test_flush_comes_before_the_block_and_both_before_the_first_event(cuda):
    timer = CudaClock(cuda, flush=lambda: cuda.log.append("flush"))
    for _ in range(2):
        cuda.log.clear()
        timer.ready()
        timer.measure([lambda: cuda.work(10)])
        assert cuda.log[:6] == ["flush", "synchronize", "block", "event", "work", "event"]


def test_work_that_outlives_the_region_on_another_stream_is_refused(cuda):
    timer = CudaClock(cuda)
    late = [lambda: (cuda.work(1_000), cuda.work(900_000 + 2_000, "other"))]
    assert all(timer.measure(late).marked for _ in range(LATE_SAMPLES - 1))
    with pytest.raises(Malformed, match=r"work continued for 9\d\d µs after"):
        timer.measure(late)


def test_one_late_sample_is_marked_and_forgiven(cuda):
    timer = CudaClock(cuda)
    for _ in range(LATE_SAMPLES + 1):
        assert timer.measure([lambda: cuda.work(900_000, "other")]).marked
        assert not timer.measure([lambda: cuda.work(1_000)]).marked


def test_work_on_another_stream_that_the_region_waits_for_is_right(cuda):
    def joined():
        cuda.work(900_000, "other")
        cuda.free_ns["current"] = cuda.free_ns["other"]

    assert CudaClock(cuda).measure([joined]).elapsed_ns >= 900_000


@pytest.mark.parametrize("throttled", [True, False])
def test_sample_under_throttling_is_marked(cuda, throttled):
    gpu = SimpleNamespace(
        sm_clock_mhz=lambda: 1410.0, throttle_reasons=lambda: ["power cap"] * throttled
    )
    reading = CudaClock(cuda, gpu=gpu).measure([lambda: cuda.work(10)])
    assert (reading.marked, reading.sm_clock_mhz) == (throttled, 1410.0)


def test_wall_time_runs_from_idle_to_idle(cuda):
    cuda.work(5_000_000)
    wall = CudaClock(cuda).wall_ns([lambda: cuda.work(1_000), lambda: cuda.work(1_000, "other")])
    assert wall == 2 * LAUNCH_NS + 1_000


class SimulatedHost:
    """A CPU whose process runs, waits and is switched away as a test says."""

    def __init__(self, monkeypatch):
        self.wall = self.cpu = self.switches = 0
        times = SimpleNamespace(perf_counter_ns=lambda: self.wall, process_time_ns=lambda: self.cpu)
        monkeypatch.setattr(clock, "time", times)
        usage = lambda who: SimpleNamespace(ru_nivcsw=self.switches)  # noqa: E731
        monkeypatch.setattr(clock, "getrusage", usage)

    def run(self, wall_ns, cpu_ns, switches=0):
        self.wall += wall_ns
        self.cpu += cpu_ns
        self.switches += switches


@pytest.mark.parametrize(
    ("spell", "marked"),
    [
        ({"wall_ns": 10**7, "cpu_ns": 10**7}, False),
        ({"wall_ns": 10**7, "cpu_ns": 2 * 10**7}, False),
        ({"wall_ns": 10**7, "cpu_ns": 8 * 10**6, "switches": 1}, True),
        ({"wall_ns": 10**7, "cpu_ns": 8 * 10**6}, False),
    ],
)
def test_disturbed_cpu_sample_is_marked(monkeypatch, spell, marked):
    host = SimulatedHost(monkeypatch)
    reading = CpuClock().measure([lambda: host.run(**spell)])
    assert reading.marked is marked
    assert (reading.elapsed_ns, reading.cpu_ns) == (spell["wall_ns"], spell["cpu_ns"])


def test_cpu_clock_times_all_executions_as_one_region_and_flushes_outside(monkeypatch):
    host = SimulatedHost(monkeypatch)
    timer = CpuClock(flush=lambda: host.run(10**9, 10**9))
    timer.ready()
    assert host.wall == 10**9
    assert timer.measure([lambda: host.run(10, 10)] * 3).elapsed_ns == 30


def test_cold_clock_flushes_more_than_the_last_level_cache(monkeypatch):
    monkeypatch.setattr(clock, "last_level_cache_bytes", lambda device: 1000)
    assert clock.make_clock("cpu", "warm")._flush is None
    assert clock.make_clock("cpu", "cold")._flush().numel() >= 2000


def test_this_machine_tells_its_cache():
    assert clock.last_level_cache_bytes("cpu") >= 2**18
