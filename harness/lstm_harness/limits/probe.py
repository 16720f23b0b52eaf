"""One microbenchmark, as a worker runs it: made ready once, then sampled round by round."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lstm_harness.limits.ceilings import Level

# Before the samples of a probe: what another probe's threads, cache and clocks left has to go.
WARM_S = 0.02
MOST_WARM = 2
# How many samples a round, or as many as that time has begun.
SAMPLES = 3
SAMPLING_S = 0.5
# The share of a round's CPU time that is missing before it counts as disturbed.
MOST_LOST = 0.1


@dataclass(frozen=True)
class Probe:
    """Measures one ceiling; the first five fields are the ceiling's own.

    `make` allocates and compiles, once, and returns what takes one sample, in `unit`; it may refuse
    with any exception, which becomes the reason why there is no figure.
    """

    kind: str
    of: str
    by: str
    unit: str
    detail: str
    make: Callable[[], Callable[[], float]]


@dataclass(frozen=True)
class Bench:
    """The probes of a device, and what `Ceilings` says of the device besides.

    `busy_threads` is how many of the CPU's threads work all the time while it measures, 0 for a
    device that is not the CPU.
    """

    levels: tuple[Level, ...]
    units: int
    near_bytes: int
    probes: tuple[Probe, ...]
    busy_threads: int = 0


class Bencher:
    """A device's probes, made once and sampled by rounds; one that fails is not tried again."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._ready: dict[int, Callable[[], float]] = {}
        self._failed: dict[int, str] = {}

    def facts(self) -> dict[str, Any]:
        """Make every probe, and tell what is measured, and of what."""
        bench = self.bench
        for number, probe in enumerate(bench.probes):
            with self._failing(number):
                self._ready[number] = probe.make()
        shown = ("kind", "of", "by", "unit", "detail")
        return {
            "levels": [{"name": level.name, "bytes": level.bytes} for level in bench.levels],
            "units": bench.units,
            "near_bytes": bench.near_bytes,
            "probes": [{name: getattr(each, name) for name in shown} for each in bench.probes],
        }

    def round(self) -> dict[str, Any]:
        """A few samples of every probe, or why there are none; and whether others disturbed it."""
        wall, cpu = time.monotonic(), time.process_time()
        samples = [self._sampled(number) for number in range(len(self.bench.probes))]
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        lost = 1 - cpu / (wall * self.bench.busy_threads) if self.bench.busy_threads else 0.0
        return {"samples": samples, "disturbed": lost > MOST_LOST}

    def _sampled(self, number: int) -> list[float] | str:
        found: list[float] = []
        if number not in self._failed:
            with self._failing(number):
                found = sampled(self._ready[number])
        return self._failed.get(number) or found

    @contextmanager
    def _failing(self, number: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a library or a compiler may raise anything; it is shown
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            says = lines[0][:200] if lines else "it says nothing"
            self._failed[number] = f"{type(error).__name__}: {says}"


def sampled(sample: Callable[[], float]) -> list[float]:
    """Warm up, then take the samples."""
    started, warm = time.monotonic(), 0
    while warm < MOST_WARM and time.monotonic() - started < WARM_S:
        sample()
        warm += 1
    found, started = [sample()], time.monotonic()
    while len(found) < SAMPLES and time.monotonic() - started < SAMPLING_S:
        found.append(sample())
    return found


def in_place(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Refuse two probes of one name, which no table could tell apart."""
    names = [(each.kind, each.of, each.by) for each in probes]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"probes stand twice: {sorted(twice)}")
    return tuple(probes)
