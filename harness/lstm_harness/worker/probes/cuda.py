"""The probes of a CUDA device; every time is the device's, by the harness's own clock.

Bandwidth of memory and L2, product rates through torch.mm, the time of a tiny kernel in a long
queue and in a graph, and what a persistent kernel pays a step: a flag from SM to SM, a barrier of
the whole grid, the gates of one step. Kernels whose programs wait for each other come last: where
one hangs and is trapped, the CUDA context is lost, and only they have no figure.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lstm_harness.model.ceilings import Level
from lstm_harness.worker.clock import Clock, make_clock
from lstm_harness.worker.inputs import TORCH_DTYPES
from lstm_harness.worker.probes.probe import Bench, Probe, Sample, Take, in_place
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.registry import TORCH_CELLS

# Of an SM, the same in every architecture that Triton compiles for.
REGISTER_FILE_BYTES = 256 * 1024
MOST_COPY_BYTES = 1 << 30
# What L2 certainly holds: an H100's L2 has two halves, which may each hold a copy.
L2_SHARE = 4
L2_ROUNDS = 256
ONE_SM_BYTES = 1 << 20
READ_WARPS = 8
PROGRAMS_PER_SM = 8
ONE_SM_WARPS = 32
PRODUCTS = (
    *(("float16", "ieee"), ("bfloat16", "ieee")),
    *(("float32", "tf32"), ("float32", "ieee"), ("float64", "ieee")),
)
PRODUCT_SIZE = 8192
LAUNCHES = 500
TURNS = 2000
GATE_STEPS = 10_000

Run = Callable[[Launch], None]


@dataclass(frozen=True)
class Properties:
    """What the driver reports about a device, as far as it is used here."""

    sm_count: int
    sm_bytes: int
    l2_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, device: str) -> "Properties":
        """Ask torch."""
        told = torch.cuda.get_device_properties(device)
        shared = int(told.shared_memory_per_multiprocessor)
        return cls(
            sm_count=int(told.multi_processor_count),
            sm_bytes=shared + REGISTER_FILE_BYTES,
            l2_bytes=int(told.L2_cache_size),
            free_bytes=int(torch.cuda.mem_get_info(device)[0]),
        )


def bench(device: str) -> Bench:
    """Every probe of this device."""
    return Prober(device, Properties.of(device), make_clock(device, "warm")).bench()


@dataclass(frozen=True)
class Prober:
    """Makes a device's probes.

    `cuda` and `run` are torch.cuda and how a Triton kernel is launched, or their replacements
    in a test.
    """

    device: str
    properties: Properties
    clock: Clock
    cuda: Any = torch.cuda
    run: Run = Launch.run

    def bench(self) -> Bench:
        """The levels and every probe, those that wait for each other last."""
        told = self.properties
        levels = (Level("L2", told.l2_bytes), Level("memory", None))
        probes = [*self._bandwidths(), *self._products(), *self._launches()]
        probes += [*self._gates(), *self._signals()]
        return Bench(levels, told.sm_count, told.sm_bytes, in_place(probes))

    def _bandwidths(self) -> Iterator[Probe]:
        told = self.properties
        large = min(MOST_COPY_BYTES, told.free_bytes // 4)
        grid = told.sm_count * PROGRAMS_PER_SM
        copied = f"copy_ of {_mib(large)}; read and written bytes"
        yield Probe("copy", "memory", "", "B/s", copied, partial(self._copy, large))
        for level, size, programs, rounds, warps in (
            ("memory", large, grid, 1, READ_WARPS),
            ("L2", told.l2_bytes // L2_SHARE, grid, L2_ROUNDS, READ_WARPS),
            ("L2 by one SM", ONE_SM_BYTES, 1, L2_ROUNDS, ONE_SM_WARPS),
        ):
            detail = f"{_mib(size)} {rounds} times past L1, {programs} programs"
            make = partial(self._read, size, programs, rounds, warps)
            yield Probe("read", level, "", "B/s", detail, make)

    def _products(self) -> Iterator[Probe]:
        for dtype, precision in PRODUCTS:
            size = PRODUCT_SIZE if dtype != "float64" else PRODUCT_SIZE // 2
            make = partial(self._product, dtype, precision, size)
            detail = f"{size} x {size} x {size}"
            yield Probe("product", f"{dtype} {precision}", "torch.mm", "FLOP/s", detail, make)

    def _launches(self) -> Iterator[Probe]:
        detail = f"{LAUNCHES} kernels that add 1 to one number"
        yield Probe("launch", "in a stream", "", "ns", detail, self._stream)
        yield Probe("launch", "in a graph", "", "ns", detail, self._graph)

    def _gates(self) -> Iterator[Probe]:
        for cell in TORCH_CELLS:
            for sweep in ("forward", "backward"):
                detail = f"{GATE_STEPS} dependent steps of one warp"
                make = partial(self._gate_chain, cell, sweep)
                yield Probe("gates", f"{cell} {sweep}", "", "ns", detail, make)

    def _signals(self) -> Iterator[Probe]:
        there_and_back = f"half of there and back, {TURNS} times, by release and acquire through L2"
        yield Probe("flag", "from SM to SM", "", "ns", there_and_back, self._ping_pong)
        detail = f"one counter, {self.properties.sm_count} programs, {TURNS} times"
        yield Probe("barrier", "of the whole grid", "", "ns", detail, self._barrier)

    def _copy(self, size: int) -> Take:
        source, target = (self._words(size) for _ in range(2))
        return self._rate(2 * size, lambda: target.copy_(source))

    def _read(self, size: int, programs: int, rounds: int, warps: int) -> Take:
        from lstm_harness.worker.probes import kernels

        block = kernels.block_words(warps)
        x = self._words(size // (4 * block) * 4 * block)
        launch = kernels.read_launch(x, self._words(4 * programs * block), programs, rounds, warps)
        return self._rate(x.numel() * 4 * rounds, lambda: self.run(launch))

    def _product(self, dtype: str, precision: str, size: int) -> Take:
        numbers = TORCH_DTYPES[dtype]
        a, b, c = (torch.randn(size, size, dtype=numbers, device=self.device) for _ in range(3))
        timed = self._rate(2 * size**3, lambda: torch.mm(a, b, out=c))

        def take() -> Sample:
            with _tf32(precision == "tf32"):
                return timed()

        return take

    def _stream(self) -> Take:
        one = self._words(4)
        launches = [lambda: one.add_(1)] * LAUNCHES
        return self._time(LAUNCHES, launches)

    def _graph(self) -> Take:
        one = self._words(4)
        one.add_(1)
        graph = self.cuda.CUDAGraph()
        with self.cuda.graph(graph):
            for _ in range(LAUNCHES):
                one.add_(1)
        return self._time(LAUNCHES, [graph.replay])

    def _gate_chain(self, cell: str, sweep: str) -> Take:
        from lstm_harness.worker.probes import kernels

        p, last = (torch.full((4, kernels.GATE_TILE), 0.5, device=self.device) for _ in range(2))
        launch = kernels.gates_launch(p, last[0], GATE_STEPS, cell, sweep)
        return self._time(GATE_STEPS, [lambda: self.run(launch)])

    def _ping_pong(self) -> Take:
        from lstm_harness.worker.probes import kernels

        flags = self._words(2 * kernels.FLAG_BYTES)
        launch = kernels.ping_pong_launch(flags, TURNS)
        return self._signalling(flags, launch, 2 * TURNS)

    def _barrier(self) -> Take:
        from lstm_harness.worker.probes import kernels

        flag = self._words(kernels.FLAG_BYTES)
        launch = kernels.barriers_launch(flag, self.properties.sm_count, TURNS)
        return self._signalling(flag, launch, TURNS)

    def _signalling(self, flags: Tensor, launch: Launch, signals: int) -> Take:
        """A sample of a kernel that counts from zero."""
        timed = self._time(signals, [lambda: self.run(launch)])

        def take() -> Sample:
            flags.zero_()
            return timed()

        return take

    def _rate(self, amount: int, run: Callable[[], object]) -> Take:
        silent = [_silent(run)]
        return lambda: Sample(amount / self.clock.measure(silent).elapsed_ns * 1e9)

    def _time(self, count: int, runs: Sequence[Callable[[], object]]) -> Take:
        silent = [_silent(run) for run in runs]
        return lambda: Sample(self.clock.measure(silent).elapsed_ns / count)

    def _words(self, size: int) -> Tensor:
        return torch.zeros(size // 4, dtype=torch.int32, device=self.device)


def _silent(run: Callable[[], object]) -> Callable[[], None]:
    def execute() -> None:
        run()

    return execute


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _mib(size: int) -> str:
    return f"{size / 2**20:,.4g} MiB"
