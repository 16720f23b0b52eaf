"""Every backend on the quick suite through pytest-benchmark's public interface, in device time.

    pytest tests/perf --benchmark-json=x.json
    pytest tests/perf --benchmark-compare

The timer is a clock that the measured callable advances by what the device's own clock says
(docs/method.md, The clocks), so that pytest-benchmark's rounds hold device time and no cost of
preparing inputs. Each backend is compared with float64 before and after. One session is one
process for all backends, and so one block: import several files for a verdict.
"""

import gc
import secrets
from dataclasses import replace

import pytest
import torch

from lstm_harness.interop.benchmark_json import extra_info
from lstm_harness.model.protocol import (
    CloseCell,
    Draw,
    Handed,
    JudgeSample,
    OpenCell,
    PrepareSample,
)
from lstm_harness.model.spec import build, named_suite
from lstm_harness.race.sampler import choose_repeats
from lstm_harness.worker.environment import physical_cores
from lstm_harness.worker.executor import Executor, set_precision
from lstm_harness.worker.handlers import why_missing
from lstm_harness.worker.oracle import Oracle
from lstm_kernels import registry

SEED = 0
ROUNDS, WARM_UP_ROUNDS = 20, 3
# What a benchmark's rounds may take together, about: short passes are repeated inside a round.
BUDGET_S = 1.0

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
CELLS = [
    pytest.param(backend.name, case, id=f"{backend.name}-{case.label()}-{device}".replace(" ", "-"))
    for device in DEVICES
    for backend in registry.registered().values()
    if backend.raced and device in backend.devices
    for case in build(named_suite("quick"), {}, {}).cases(device)
]


class DeviceTime:
    """A clock that stands still until somebody says how long the device worked."""

    def __init__(self):
        self._ns = 0.0

    def advance(self, elapsed_ns):
        self._ns += elapsed_ns

    def seconds(self):
        return self._ns / 1e9


CLOCK = DeviceTime()

pytestmark = pytest.mark.benchmark(timer=CLOCK.seconds, disable_gc=True)


@pytest.fixture(autouse=True, scope="module")
def threads():
    """As many threads as a run takes: all physical cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(physical_cores())
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def collecting():
    """An open cell collects no garbage; what comes after one that failed does."""
    yield
    gc.enable()


@pytest.fixture(scope="module")
def oracles():
    """What is right, by device."""
    return {device: Oracle(device) for device in DEVICES}


@pytest.fixture(scope="module")
def executors():
    """The backends loaded so far; one that cannot run here is skipped with the reason."""
    loaded = {}

    def executor_of(backend, case):
        reason = why_missing(case.device, backend, checking=False)
        if reason:
            pytest.skip(reason)
        if case.pass_name not in registry.get(backend).passes:
            pytest.skip(f"{backend} has no {case.pass_name}")
        key = backend, case.device
        if key not in loaded:
            loaded[key] = Executor(registry.load(backend), case.device)
        reason = registry.unsupported(backend, case.problem, case.device)
        if reason:
            pytest.skip(reason)
        return loaded[key]

    return executor_of


@pytest.mark.parametrize(("backend", "case"), CELLS)
def test_backend(benchmark, backend, case, executors, oracles):
    executor, oracle = executors(backend, case), oracles[case.device]
    weights, has_backward = secrets.token_hex(8), "backward" in registry.get(backend).passes
    handed = executor.open(OpenCell(backend, case, SEED, weights, has_backward)).handed
    # Right before fast.
    with_full_precision(case)
    assert oracle.judge_proof(case.problem, SEED, place_of(handed), handed).failure == ""
    set_precision(case.problem)

    def sample(repeats):
        """One on numbers that nobody had before: its nanoseconds, and what they follow from."""
        draw = Draw(weights, secrets.token_hex(8), secrets.token_hex(8))
        executor.prepare(PrepareSample(draw.inputs, repeats))
        if case.pass_name in ("backward", "train"):
            executor.draw_gradients(draw.gradients)
        return executor.execute().elapsed_ns, draw

    fastest_ns = min(sample(1)[0] for _ in range(WARM_UP_ROUNDS))
    repeats = choose_repeats(fastest_ns, BUDGET_S)

    def one_round():
        elapsed_ns, draw = sample(repeats)
        CLOCK.advance(elapsed_ns / repeats)
        return draw

    benchmark.group = case.label()
    benchmark.extra_info.update(extra_info(backend, case, inner_repeats=repeats))
    gc.collect()
    draw = benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=WARM_UP_ROUNDS)

    # Right after, too: the last execution of the last round.
    handed = executor.hand_over()
    asked = JudgeSample(case.problem, SEED, draw, repeats - 1, place_of(handed), handed)
    with_full_precision(case)
    assert oracle.judge_sample(asked).failure == ""
    executor.close(CloseCell(with_memory=False, with_energy=False, our_pids=()))


def place_of(handed: Handed) -> str:
    """Where what this process handed over can be read."""
    return f"/proc/self/fd/{handed.descriptor}"


def with_full_precision(case):
    """What is right is found without TF32."""
    set_precision(replace(case.problem, precision="ieee"))
