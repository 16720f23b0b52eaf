"""The probes of a CPU: bandwidth by cache level, product rates of libraries and of registers alone.

Bandwidth: every thread reads, or copies, an array of its own that fits the level and not the one
nearer, again and again, in a loop that Numba compiles to vector code and that runs without the GIL;
bytes over the time from the first thread's start to the last one's end. Products: square ones.
"""

# The jitted loops are typed by Numba, at run time.
# mypy: disable-error-code="untyped-decorator"

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns, process_time, thread_time_ns

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from lstm_harness.model.ceilings import Level
from lstm_harness.worker.environment import free_bytes
from lstm_harness.worker.inputs import TORCH_DTYPES
from lstm_harness.worker.probes.multiply_adds import BYTES, multiply_adds
from lstm_harness.worker.probes.probe import Bench, Probe, Sample, Take, in_place

# A sample takes at least this long, except a product that cannot be shorter.
SAMPLE_S = 0.01
PAGE_BYTES = 4096
# Several times all caches together, but no more than is allocated quickly.
MEMORY_FACTOR = 4
MOST_MEMORY_BYTES = 4 << 30
LEAST_MEMORY_BYTES = 256 << 20
# The vector registers of a thread: 32 of 64 bytes with AVX-512, more than others have.
REGISTER_BYTES = 32 * 64
# Large enough for the full rate, short enough to fit between two bursts of other work.
PRODUCT_SIZE = 1024
# A type without instructions on this CPU takes far longer.
EMULATED_SIZE = 256

Words = NDArray[np.int64]


def bench(threads: int) -> Bench:
    """Every probe of this CPU, run by as many threads as a run has."""
    levels = cache_levels(threads)
    probes = [
        Probe(
            kind,
            level.name,
            "",
            "B/s",
            f"{threads} threads, {size / 1024:,.0f} KiB each{more}",
            partial(_bandwidth, kind, size, threads),
        )
        for level, size in working_sets(levels, threads, free_bytes("cpu"))
        for kind, more in (("read", ""), ("copy", ", half to half; read and written bytes"))
    ]
    probes += [
        _product_probe(library, dtype)
        for library, (dtypes, _, _) in LIBRARIES.items()
        for dtype in dtypes
    ]
    probes += [
        Probe(
            "product",
            f"{dtype} ieee",
            "registers",
            "FLOP/s",
            f"{threads} threads, multiply-adds of vectors in registers",
            partial(_multiply_adds, dtype, threads),
        )
        for dtype in BYTES
    ]
    return Bench(levels, threads, REGISTER_BYTES, in_place(probes))


def cache_levels(threads: int, root: Path = Path("/sys/devices/system/cpu")) -> tuple[Level, ...]:
    """The caches that this many threads reach, by level, and memory."""
    parts: dict[int, dict[tuple[int, str], int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        for index in sorted((root / f"cpu{cpu}" / "cache").glob("index*")):
            facts = {name: (index / name).read_text().strip() for name in _CACHE_FILES}
            if facts["type"] != "Instruction":
                level = int(facts["level"])
                part = level, facts["shared_cpu_list"]
                parts.setdefault(level, {})[part] = _bytes(facts["size"])
    caches = tuple(
        Level(f"L{level}", sum(sorted(sizes.values(), reverse=True)[:threads]))
        for level, sizes in sorted(parts.items())
    )
    return (*caches, Level("memory", None))


_CACHE_FILES = ("level", "type", "size", "shared_cpu_list")


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"K": 1024, "M": 1024**2, "G": 1024**3}[size[-1]]


def working_sets(levels: tuple[Level, ...], threads: int, free: int) -> list[tuple[Level, int]]:
    """Bytes for each thread to work on, level by level: half its share of the level.

    A level that is not larger than the nearer one cannot be distinguished from it and is left out.
    """
    sets = []
    nearer = 0
    for level in levels:
        if level.bytes is None:
            total = max(LEAST_MEMORY_BYTES, MEMORY_FACTOR * nearer * threads)
            share = min(total, MOST_MEMORY_BYTES, free // 4) // threads
        else:
            share = level.bytes // threads // 2
        if share > nearer:
            sets.append((level, share // PAGE_BYTES * PAGE_BYTES))
        nearer = max(nearer, (level.bytes or 0) // threads)
    return sets


@numba.njit(nogil=True)
def _read(words: Words, repeats: int) -> int:
    """Read an array this many times; four vectors of results hide an exclusive or's latency."""
    mixed = 0
    for _ in range(repeats):
        for i in range(words.size):
            mixed ^= words[i]
    return mixed


@numba.njit(nogil=True)
def _copy(words: Words, into: Words, repeats: int) -> None:
    """Copy an array this many times; adding the turn keeps every copy, so it is not a memcpy."""
    for turn in range(repeats):
        for i in range(words.size):
            into[i] = words[i] + turn


def _bandwidth(kind: str, size: int, threads: int) -> Take:
    arrays = [aligned_words(size) for _ in range(threads)]
    runs = [partial(_run, kind, array) for array in arrays]
    runs[0](1)  # compiled once, before threads meet
    team = Team(threads)
    repeats = repeats_for(lambda count: team.times([partial(run, count) for run in runs])[0])
    moved = size * threads * repeats
    return lambda: _sample(moved, *team.times([partial(run, repeats) for run in runs]))


def _run(kind: str, words: Words, repeats: int) -> None:
    if kind == "read":
        _read(words, repeats)
    else:
        half = words.size // 2
        _copy(words[:half], words[half:], repeats)


def aligned_words(size: int) -> Words:
    """An array from a page on; a load that straddles two cache lines takes twice as long."""
    raw = np.ones(size // 8 + PAGE_BYTES // 8, dtype=np.int64)
    first = -raw.ctypes.data % PAGE_BYTES // 8
    return raw[first : first + size // 8]


class Team:
    """Threads that start together, timed from the first one's start to the last one's end."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._start = threading.Barrier(threads)

    def times(self, runs: list[Callable[[], object]]) -> tuple[float, float]:
        """Run one function a thread, all at once.

        Returns:
            the time in s, and the longest that a thread ran in it.
        """
        spans = list(self._pool.map(self._timed, runs))
        whole = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
        return whole / 1e9, max(ran for _, _, ran in spans) / 1e9

    def _timed(self, run: Callable[[], object]) -> tuple[int, int, int]:
        self._start.wait()
        start, ran = perf_counter_ns(), thread_time_ns()
        run()
        ran = thread_time_ns() - ran
        return start, perf_counter_ns(), ran


def repeats_for(seconds: Callable[[int], float], least_s: float = SAMPLE_S) -> int:
    """How often to repeat what is timed so that a sample is long enough."""
    repeats = 1
    while (took := seconds(repeats)) < least_s:
        repeats = max(repeats + 1, int(repeats * min(20.0, 1.2 * least_s / max(took, 1e-9))))
    return repeats


def _multiply_adds(dtype: str, threads: int) -> Take:
    run = partial(multiply_adds, dtype)
    run(1)  # compiled once, before threads meet
    team = Team(threads)
    repeats = repeats_for(lambda count: team.times([partial(run, count)] * threads)[0])
    flops = threads * multiply_adds(dtype, repeats)
    return lambda: _sample(flops, *team.times([partial(run, repeats)] * threads))


def torch_mm(dtype: str, size: int) -> Callable[[], object]:
    """A square product by torch.mm."""
    a, b = (torch.randn(size, size).to(TORCH_DTYPES[dtype]) for _ in range(2))
    return partial(torch.mm, a, b)


def _numpy(dtype: str, size: int) -> Callable[[], object]:
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal((size, size)).astype(dtype) for _ in range(2))
    return partial(np.matmul, a, b)


def _onednn(dtype: str, size: int) -> Callable[[], object]:
    a, weight = (torch.randn(size, size).to(TORCH_DTYPES[dtype]) for _ in range(2))
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, size)
    return partial(torch.ops.mkldnn._linear_pointwise, a, packed, None, "none", [], "")


# By name: its dtypes, how it is used, and its product.
LIBRARIES: dict[str, tuple[tuple[str, ...], str, Callable[[str, int], Callable[[], object]]]] = {
    "torch.mm": (("float64", "float32", "bfloat16", "float16"), "", torch_mm),
    "numpy": (("float64", "float32"), ", by NumPy's BLAS", _numpy),
    "oneDNN": (
        ("float32", "bfloat16", "float16"),
        ", by torch's mkldnn linear, weights packed once",
        _onednn,
    ),
}


def _product_probe(library: str, dtype: str) -> Probe:
    size = product_size(dtype)
    _, how, multiply = LIBRARIES[library]
    make = partial(_product, partial(multiply, dtype, size), 2 * size**3)
    return Probe("product", f"{dtype} ieee", library, "FLOP/s", f"{size} cubed{how}", make)


def product_size(dtype: str) -> int:
    """How large a product of this dtype is: small if this CPU has no instructions for it."""
    supported = {
        "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
        "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    native = dtype not in supported or supported[dtype]()
    return PRODUCT_SIZE if native else EMULATED_SIZE


def _product(make: Callable[[], Callable[[], object]], flops: int) -> Take:
    multiply, threads = make(), torch.get_num_threads()
    repeats = repeats_for(lambda count: _times(multiply, count, threads)[0])
    return lambda: _sample(flops * repeats, *_times(multiply, repeats, threads))


def _times(run: Callable[[], object], repeats: int, threads: int) -> tuple[float, float]:
    """The time of this many calls in s, and about how long each of this many threads ran in it."""
    start, ran = perf_counter(), process_time()
    for _ in range(repeats):
        run()
    ran = process_time() - ran
    return perf_counter() - start, ran / threads


def _sample(amount: float, seconds: float, ran: float) -> Sample:
    return Sample(amount / seconds, min(1.0, ran / seconds))
