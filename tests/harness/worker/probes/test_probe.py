"""Probes: made once, sampled by rounds, and a CPU's at work on this one."""

import threading
import time

import numpy as np
import pytest

from lstm_harness.analysis.floors.rounds import ceilings_of
from lstm_harness.model.ceilings import Level
from lstm_harness.worker.probes import cpu, probe
from lstm_harness.worker.probes.multiply_adds import BYTES, SUMS, VECTOR_BYTES, _run, multiply_adds
from lstm_harness.worker.probes.probe import Bench, Bencher, Probe, Sample

LEVELS = (Level("L1", 1000), Level("memory", None))
ENVIRONMENT = {"cpu": {"model": "a CPU", "threads": 2}, "torch": "2.13.0", "numba": "0.68.1"}


@pytest.fixture(autouse=True)
def no_warming(monkeypatch):
    monkeypatch.setattr(probe, "WARM_S", 0.0)
    monkeypatch.setattr(probe, "SAMPLES", 3)


def of_values(name, values, unit="B/s", log=None):
    """A probe whose samples are these, again and again; a value that is an error is raised."""
    left = []

    def sample():
        left.extend([] if left else values)
        value = left.pop(0)
        if isinstance(value, Exception):
            raise value
        if log is not None:
            log.append(name)
        return Sample(value)

    return Probe("read", name, "", unit, "made up", lambda: sample)


def measured(*probes, rounds=3):
    bencher = Bencher(Bench(LEVELS, 2, 100, probes))
    made = bencher.make()
    taken = [bencher.round() for _ in range(rounds)]
    return ceilings_of("cpu", "a host", ENVIRONMENT, made, taken, "now")


def test_probes_take_turns_within_each_round():
    log = []
    measured(*(of_values(name, [1.0], log=log) for name in ("a", "b")), rounds=2)
    assert log == [*["a"] * 3, *["b"] * 3] * 2


def test_a_ceiling_is_the_median_of_rounds_and_its_best_the_fastest_sample():
    values = [10.0, 30.0, 20.0, 21.0, 22.0, 23.0, 1.0, 24.0, 99.0]
    rates, times = measured(of_values("a", values), of_values("b", values, "ns")).ceilings
    assert rates.samples == ((10.0, 30.0, 20.0), (21.0, 22.0, 23.0), (1.0, 24.0, 99.0))
    assert rates.value == times.value == 22.0
    assert (rates.best, times.best) == (99.0, 1.0)
    # t at 95% with 2 degrees of freedom is 4.303
    logs = np.log([20.0, 22.0, 24.0])
    half = 4.303 * logs.std(ddof=1) / 3**0.5
    assert rates.low == pytest.approx(np.exp(logs.mean() - half), rel=1e-3)
    assert rates.high == pytest.approx(np.exp(logs.mean() + half), rel=1e-3)


def test_two_rounds_give_no_interval():
    (one,) = measured(of_values("a", [1.0]), rounds=2).ceilings
    assert (one.low, one.high, one.interval()) == (None, None, "unknown")


def test_a_probe_that_fails_costs_itself_alone():
    made = []

    def make():
        made.append(1)
        raise RuntimeError("\n no such instruction \n and more")

    told = measured(
        Probe("product", "float16 ieee", "lib", "FLOP/s", "", make),
        of_values("late", [1.0, 1.0, 1.0, 1.0, ValueError("")]),
        of_values("fine", [5.0]),
    )
    assert made == [1]
    assert told.failures == {"product float16 ieee lib": "RuntimeError: no such instruction"}
    by_name = {each.of: each for each in told.ceilings}
    assert by_name["late"].samples == ((1.0,) * 3,)
    assert len(by_name["fine"].samples) == 3


def test_a_long_sample_is_taken_once_a_round(monkeypatch):
    monkeypatch.setattr(probe, "SAMPLING_S", 0.0)
    (one,) = measured(of_values("a", [1.0])).ceilings
    assert one.samples == ((1.0,),) * 3


@pytest.mark.parametrize(
    ("unit", "share", "best", "disturbed"),
    [("B/s", 1.0, 10.0, 0), ("B/s", 0.25, 40.0, 2), ("ns", 0.25, 2.5, 2), ("ns", None, 10.0, 0)],
)
def test_time_in_which_others_have_the_cpu_slows_no_best(unit, share, best, disturbed):
    told = measured(Probe("read", "a", "", unit, "", lambda: lambda: Sample(10.0, share)), rounds=2)
    assert told.ceilings[0].value == 10.0
    assert told.ceilings[0].best == pytest.approx(best)
    assert told.disturbed == disturbed


def test_two_probes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="have the same name"):
        probe.in_place([of_values("a", [1.0])] * 2)


def write_caches(root, cpus):
    for number, caches in cpus.items():
        for index, (level, kind, size, shared) in enumerate(caches):
            folder = root / f"cpu{number}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            facts = {"level": level, "type": kind, "size": size, "shared_cpu_list": shared}
            for name, value in facts.items():
                (folder / name).write_text(f"{value}\n")


def test_cache_levels_add_up_what_threads_reach(tmp_path, monkeypatch):
    cpus = {
        n: [
            (1, "Data", "48K", n),
            (1, "Instruction", "32K", n),
            (2, "Unified", "1M", n),
            (3, "Unified", "32M", "0-1" if n < 2 else "2-3"),
        ]
        for n in range(4)
    }
    write_caches(tmp_path, cpus)
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    sizes = {n: [level.bytes for level in cpu.cache_levels(n, tmp_path)] for n in (1, 2, 4)}
    assert sizes[1] == [48 << 10, 1 << 20, 32 << 20, None]
    assert sizes[2] == [96 << 10, 2 << 20, 64 << 20, None]
    assert sizes[4] == [192 << 10, 4 << 20, 64 << 20, None]


def test_a_machine_that_tells_no_caches_has_memory(tmp_path):
    levels = cpu.cache_levels(2, tmp_path)
    assert levels == (Level("memory", None),)
    assert cpu.working_sets(levels, 2, 8 << 30) == [(levels[0], 128 << 20)]


def test_working_sets_fit_their_level_and_not_the_one_nearer():
    levels = tuple(
        Level(name, size)
        for name, size in (("L1", 96 << 10), ("L2", 2 << 20), ("L3", 32 << 20), ("memory", None))
    )
    sets = {level.name: size for level, size in cpu.working_sets(levels, 2, 64 << 30)}
    assert sets == {"L1": 24 << 10, "L2": 512 << 10, "L3": 8 << 20, "memory": 128 << 20}
    # Eight threads' share of the last level is no larger than their own L2.
    shared = (Level("L2", 16 << 20), Level("L3", 24 << 20), Level("memory", None))
    assert [level.name for level, _ in cpu.working_sets(shared, 8, 64 << 30)] == ["L2", "memory"]
    # Never more than a quarter of what is free.
    sets = {level.name: size for level, size in cpu.working_sets(levels, 2, 256 << 20)}
    assert sets["memory"] == 32 << 20


def test_loops_read_and_copy_every_word_every_time():
    words = cpu.aligned_words(8192)
    assert words.size == 1024
    assert words.ctypes.data % cpu.PAGE_BYTES == 0
    words[:] = np.arange(1024)
    words[0] = 12345
    once = np.bitwise_xor.reduce(words)
    assert cpu._read(words, 1) == once != 0
    assert cpu._read(words, 2) == 0
    assert cpu._read(words, 3) == once
    into = np.zeros_like(words)
    cpu._copy(words, into, 5)
    assert (into == words + 4).all()


def test_a_team_runs_at_once_and_tells_how_long_its_threads_ran():
    team = cpu.Team(2)
    met = threading.Barrier(2, timeout=120)
    whole, ran = team.times([met.wait, met.wait])
    assert whole > 0
    whole, ran = team.times([lambda: time.sleep(0.05)] * 2)
    assert 0 < ran < whole
    assert whole >= 0.05


def test_repeats_make_a_sample_long_enough():
    assert cpu.repeats_for(lambda count: 0.02 * count) == 1
    assert cpu.repeats_for(lambda count: 1e-6 * count) >= 10_000


def test_every_product_of_this_cpu_multiplies_or_says_why_not():
    for library, (dtypes, _, multiply) in cpu.LIBRARIES.items():
        for dtype in dtypes:
            try:
                made = multiply(dtype, 64)()
            except RuntimeError:
                assert library == "oneDNN"  # which lacks types that this CPU lacks
                continue
            assert made.shape == (64, 64)
    assert cpu.product_size("float32") == 1024


def test_every_probe_of_this_cpu_samples_or_says_why_not(monkeypatch):
    """Too small and too short to mean anything."""
    small = (Level("L1", 16 << 10), Level("memory", None))
    monkeypatch.setattr(cpu, "cache_levels", lambda threads: small)
    sizes = {"LEAST_MEMORY_BYTES": 1 << 18, "PRODUCT_SIZE": 32, "EMULATED_SIZE": 16}
    for name, value in sizes.items():
        monkeypatch.setattr(cpu, name, value)
    monkeypatch.setattr(cpu.repeats_for, "__defaults__", (1e-5,))
    bench = cpu.bench(1)
    bencher = Bencher(bench)
    bencher.make()
    for each, found in zip(bench.probes, bencher.round(), strict=True):
        if each.by == "oneDNN" and isinstance(found, str):
            continue  # it lacks types that this CPU lacks
        assert min(found["samples"]) > 0, each


@pytest.mark.parametrize("dtype", BYTES)
def test_multiply_adds_are_done_as_often_as_they_are_counted(dtype):
    """Of x * 0.5 + 0.5, from 0.5 on, in every sum."""
    start = np.dtype(dtype).type(0.5)
    for repeats, each in ((0, 0.5), (1, 0.75), (2, 0.875), (3, 0.9375)):
        assert _run(start, repeats) == each * SUMS
    once = multiply_adds(dtype, 1)
    assert once == 2 * SUMS * VECTOR_BYTES // BYTES[dtype]
    assert multiply_adds(dtype, 10) == 10 * once
