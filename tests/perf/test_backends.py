"""Every backend on the quick suite through pytest-benchmark's public interface, in device time.

    pytest tests/perf --benchmark-json=x.json
    pytest tests/perf --benchmark-compare

The timer is a clock that the measured callable advances by what the device's own clock says
(docs/method.md, The clocks), so that pytest-benchmark's rounds hold device time and no cost of
preparing inputs. Each backend is compared with float64 before and after. One session is one
process for all backends, and so one block: import several files for a verdict.
"""

import gc

import pytest
import torch

from lstm_harness.interop.benchmark_json import extra_info
from lstm_harness.model.protocol import OpenCell, StopRule
from lstm_harness.model.spec import build, named_suite
from lstm_harness.worker import oracle
from lstm_harness.worker.clock import make_clock
from lstm_harness.worker.environment import physical_cores
from lstm_harness.worker.executor import Executor, set_precision
from lstm_harness.worker.handlers import why_missing
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.passes import make_pass, refuse_malformed
from lstm_harness.worker.sampler import Track, choose_repeats
from lstm_harness.worker.verify import judge, tolerance
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


@pytest.fixture(scope="module")
def answer_of(tmp_path_factory):
    """The file with the float64 answer of a case's problem, made once."""
    folder, made = tmp_path_factory.mktemp("answers"), {}

    def file_of(case):
        key = case.problem, case.device
        if key not in made:
            made[key] = folder / f"{len(made)}.pt"
            oracle.save(oracle.answer(case.problem, SEED, case.device), made[key])
        return made[key]

    return file_of


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
            passes = registry.get(backend).passes
            loaded[key] = Executor(registry.load(backend), passes, case.device)
        reason = loaded[key].implementation.unsupported(case.problem, case.device)
        if reason:
            pytest.skip(reason)
        return loaded[key]

    return executor_of


@pytest.mark.parametrize(("backend", "case"), CELLS)
def test_backend(benchmark, backend, case, executors, answer_of):
    executor = executors(backend, case)
    path = answer_of(case)
    # Right before fast: raises where an output or a gradient is wrong.
    executor.open(
        OpenCell(
            block=0,
            order=0,
            backend=backend,
            case=case,
            seed=SEED,
            answer=str(path),
            stop=StopRule(ROUNDS, rel_ci=0.0, budget_s=BUDGET_S),
            impossible_ns=0.0,
            with_memory=False,
            with_energy=False,
            our_pids=(),
            proof_only=True,
        )
    )
    set_precision(case.problem)
    inputs = oracle.checked_inputs(case.problem, SEED, oracle.FIRST_SET, case.device)
    other = make_inputs(case.problem, SEED, 2, case.device, inputs.weights)
    the_pass = make_pass(executor.implementation, case.problem, case.pass_name)
    starts = case.pass_name in ("backward", "train")
    track = Track(the_pass, make_clock(case.device, case.cache), (inputs, other), starts)
    fastest_ns = min(track.take(1).elapsed_ns for _ in range(WARM_UP_ROUNDS))
    repeats = choose_repeats(fastest_ns, BUDGET_S)

    def one_round():
        CLOCK.advance(track.take(repeats).elapsed_ns / repeats)

    benchmark.group = case.label()
    benchmark.extra_info.update(extra_info(backend, case, inner_repeats=repeats))
    gc.collect()
    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=WARM_UP_ROUNDS)

    # Right after, too, on numbers that it has never seen.
    unseen = oracle.checked_inputs(case.problem, SEED, oracle.LAST_SET, case.device, inputs.weights)
    track.take_last(unseen, 1)
    refuse_malformed(track.last_state)
    bound = tolerance(case.problem)
    correctness = judge(track.last_outputs, oracle.load(path), oracle.LAST_SET, bound)
    assert correctness.failure == ""
