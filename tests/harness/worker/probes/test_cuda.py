"""A CUDA device's probes against stand-ins: what each runs, and what becomes of its time."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from lstm_harness.model.protocol import Reading
from lstm_harness.worker.probes import cuda, kernels
from lstm_harness.worker.probes.cuda import LAUNCHES, TURNS, Prober, Properties
from lstm_harness.worker.probes.probe import Bencher

MADE_UP = Properties(sm_count=132, sm_bytes=496_640, l2_bytes=50 << 20, free_bytes=64 << 30)
REGION_NS = 1_000_000


class Clock:
    """Says that every region takes a millisecond, and remembers how many it timed at once."""

    def __init__(self):
        self.regions = []

    def measure(self, executes):
        self.regions.append(len(executes))
        for execute in executes:
            execute()
        return Reading(REGION_NS)


class Graph:
    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1


@contextmanager
def capture(graph):
    yield


CUDA = SimpleNamespace(CUDAGraph=Graph, graph=capture)


@pytest.fixture
def launched():
    return []


@pytest.fixture
def probes(launched):
    """Every probe by its name; tensors have no memory, and kernels are only noted."""
    prober = Prober("meta", MADE_UP, Clock(), cuda=CUDA, run=launched.append)
    return {f"{p.kind} {p.of}": p for p in prober.bench().probes}


def test_every_ceiling_that_the_floor_asks_for_is_measured(probes):
    assert list(probes) == [
        *("copy memory", "read memory", "read L2", "read L2 by one SM"),
        *("product float16 ieee", "product bfloat16 ieee", "product float32 tf32"),
        *("product float32 ieee", "product float64 ieee"),
        *("launch in a stream", "launch in a graph"),
        *(f"gates {c} {s}" for c in ("lstm", "gru", "rnn_tanh", "rnn_relu") for s in SWEEPS),
        *("flag from SM to SM", "barrier of the whole grid"),
    ]


SWEEPS = ("forward", "backward")


def test_bandwidths_count_every_byte(probes, launched):
    a_second = 1e9 / REGION_NS
    assert probes["copy memory"].make()().value == 2 * (1 << 30) * a_second
    assert probes["read memory"].make()().value == (1 << 30) * a_second
    whole = (50 << 20) // 4 // 16384 * 16384
    assert probes["read L2"].make()().value == 256 * whole * a_second
    assert probes["read L2 by one SM"].make()().value == 256 * (1 << 20) * a_second
    grids = [launch.grid for launch in launched]
    assert grids == [(132 * 8,), (132 * 8,), (1,)]
    for launch in launched:
        words, block = launch.arguments["x_ptr"].numel(), launch.arguments["BLOCK"]
        assert launch.arguments["blocks"] * block == words
        assert launch.arguments["mixed_ptr"].numel() == launch.grid[0] * block
        assert block == 16 * 32 * launch.options["num_warps"]


def test_products_count_two_operations_and_keep_their_precision(probes, monkeypatch):
    seen = []
    plain = torch.mm

    def mm(a, b, out):
        seen.append((a.dtype, a.shape[0], torch.backends.cuda.matmul.allow_tf32))
        return plain(a, b, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    names = ("float32 tf32", "float32 ieee", "float16 ieee", "float64 ieee")
    rates = [probes[f"product {name}"].make()().value for name in names]
    assert rates[:3] == [2 * 8192**3 * 1e3] * 3
    assert rates[3] == 2 * 4096**3 * 1e3
    assert seen == [
        (torch.float32, 8192, True),
        (torch.float32, 8192, False),
        (torch.float16, 8192, False),
        (torch.float64, 4096, False),
    ]
    assert not torch.backends.cuda.matmul.allow_tf32


def test_times_are_of_one_launch_step_or_signal(probes, launched):
    assert probes["launch in a stream"].make()().value == REGION_NS / LAUNCHES
    assert probes["launch in a graph"].make()().value == REGION_NS / LAUNCHES
    assert probes["gates gru backward"].make()().value == REGION_NS / 10_000
    assert probes["flag from SM to SM"].make()().value == REGION_NS / TURNS / 2
    assert probes["barrier of the whole grid"].make()().value == REGION_NS / TURNS
    gates, flag, barrier = launched
    assert gates.kernel is kernels.backward_gates
    assert (flag.grid, barrier.grid) == ((2,), (132,))
    for launch in (flag, barrier):
        assert launch.options["launch_cooperative_grid"]
        assert launch.arguments["turns"] == TURNS
        assert 0 < launch.arguments["most_looks"] < 2**31


def test_a_long_queue_is_timed_as_one_region():
    clock = Clock()
    prober = Prober("meta", MADE_UP, clock, cuda=CUDA, run=lambda launch: None)
    by_name = {f"{p.kind} {p.of}": p for p in prober.bench().probes}
    by_name["launch in a stream"].make()()
    by_name["launch in a graph"].make()()
    assert clock.regions == [LAUNCHES, 1]


def test_flags_are_zero_before_every_sample(launched):
    zeroed = []

    def run(launch):
        flags = launch.arguments["flags_ptr"]
        zeroed.append(not flags.any())
        flags.add_(7)

    prober = Prober("cpu", MADE_UP, Clock(), cuda=CUDA, run=run)
    sample = {p.kind: p for p in prober.bench().probes}["flag"].make()
    sample()
    sample()
    assert zeroed == [True, True]


def test_little_memory_makes_the_buffers_smaller():
    poor = Properties(sm_count=8, sm_bytes=200_000, l2_bytes=4 << 20, free_bytes=1 << 30)
    prober = Prober("meta", poor, Clock(), cuda=CUDA, run=lambda launch: None)
    by_name = {f"{p.kind} {p.of}": p for p in prober.bench().probes}
    assert by_name["copy memory"].make()().value == 2 * (1 << 28) * 1e3


def test_kernels_that_wait_come_last_so_that_a_trap_costs_nothing_else():
    trapped = []

    def run(launch):
        trapped.extend([1] if launch.kernel is kernels.ping_pong else [])
        if trapped:
            raise RuntimeError("CUDA error: unspecified launch failure")

    prober = Prober("meta", MADE_UP, Clock(), cuda=CUDA, run=run)
    bencher = Bencher(prober.bench())
    made = bencher.make()
    first = bencher.round()
    failed = [p.kind for p, s in zip(made.probes, first, strict=True) if isinstance(s, str)]
    assert failed == ["flag", "barrier"]


def test_properties_are_taken_from_torch(monkeypatch):
    told = SimpleNamespace(
        multi_processor_count=132, shared_memory_per_multiprocessor=233_472, L2_cache_size=50 << 20
    )
    monkeypatch.setattr(cuda.torch.cuda, "get_device_properties", lambda device: told)
    monkeypatch.setattr(cuda.torch.cuda, "mem_get_info", lambda device: (70 << 30, 80 << 30))
    assert Properties.of("cuda") == Properties(132, 233_472 + 262_144, 50 << 20, 70 << 30)
