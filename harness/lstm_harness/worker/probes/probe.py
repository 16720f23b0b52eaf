"""One microbenchmark in a worker: prepared once, then sampled round by round."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from lstm_harness.model.ceilings import Level
from lstm_harness.model.protocol import ProbeMade, ProbesMade

# A warm-up before the samples of a probe: threads, caches and clocks of another probe must settle.
WARM_S = 0.02
MOST_WARM = 2
# How many samples a round has, or as many as start within that time.
SAMPLES = 4
SAMPLING_S = 0.5


class Sample(NamedTuple):
    """One sample, in its probe's unit; on a CPU, the share of its time that its threads ran."""

    value: float
    cpu_share: float | None = None


Take = Callable[[], Sample]


@dataclass(frozen=True)
class Probe:
    """Measures one ceiling; the first five fields are the ceiling's own.

    `make` allocates and compiles, once, and returns a function that takes one sample; both may
    refuse with any exception, which becomes the reason why there is no figure.
    """

    kind: str
    of: str
    by: str
    unit: str
    detail: str
    make: Callable[[], Take]


@dataclass(frozen=True)
class Bench:
    """The probes of a device, and what else `Ceilings` says about the device."""

    levels: tuple[Level, ...]
    units: int
    near_bytes: int
    probes: tuple[Probe, ...]


class Bencher:
    """A device's probes, made once and sampled by rounds; one that fails is not tried again."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._ready: dict[int, Take] = {}
        self._failed: dict[int, str] = {}

    def make(self) -> ProbesMade:
        """Make every probe, and return what is measured, and on what."""
        bench = self.bench
        for number, probe in enumerate(bench.probes):
            with self._failing(number):
                self._ready[number] = probe.make()
        told = (ProbeMade(p.kind, p.of, p.by, p.unit, p.detail) for p in bench.probes)
        return ProbesMade(tuple(told), bench.levels, bench.units, bench.near_bytes)

    def round(self) -> list[Mapping[str, tuple[float, ...]] | str]:
        """A few samples of every probe, with this process's share of the CPU, or why not."""
        return [self._sampled(number) for number in range(len(self.bench.probes))]

    def _sampled(self, number: int) -> Mapping[str, tuple[float, ...]] | str:
        samples: list[Sample] = []
        if number not in self._failed:
            with self._failing(number):
                samples = sampled(self._ready[number])
        return self._failed.get(number) or {
            "samples": tuple(sample.value for sample in samples),
            "cpu_shares": tuple(s.cpu_share for s in samples if s.cpu_share is not None),
        }

    @contextmanager
    def _failing(self, number: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a library or a compiler may raise anything; it is shown
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            says = lines[0][:200] if lines else "no message"
            self._failed[number] = f"{type(error).__name__}: {says}"


def sampled(take: Take) -> list[Sample]:
    """Warm up, then take the samples."""
    started, warm = time.monotonic(), 0
    while warm < MOST_WARM and time.monotonic() - started < WARM_S:
        take()
        warm += 1
    samples, started = [take()], time.monotonic()
    while len(samples) < SAMPLES and time.monotonic() - started < SAMPLING_S:
        samples.append(take())
    return samples


def in_place(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Refuse two probes of one name, which no table could tell apart."""
    names = [(each.kind, each.of, each.by) for each in probes]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"probes have the same name: {sorted(twice)}")
    return tuple(probes)
