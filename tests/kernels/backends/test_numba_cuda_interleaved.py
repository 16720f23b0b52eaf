"""The Numba CUDA kernels with all blocks of a launch at once: who waits for whom, and what if not.

Every case under a few seeds is free of races and deadlocks, and right; every mutant is caught.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import closeness
import pytest
import torch
from covering import covering_sample
from pointwise_cells import POINTWISE
from small_layers import REGIMES, errors, only, simulated

import lstm_kernels as lk

pytest.importorskip("numba.cuda", reason="the Numba CUDA backend needs numba-cuda")
pytest.importorskip("greenlet", reason="interleaved threads are greenlets")
backend = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda")
memory = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.memory")
parameters = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.parameters")

if torch.cuda.is_available():
    pytest.skip("kernels are compiled here, not simulated", allow_module_level=True)

from interleaved.defects import Deadlock, OutOfBounds, Race, TooLarge, Trap  # noqa: E402 - only where kernels are simulated
from interleaved.mutants import Mutant  # noqa: E402 - only where kernels are simulated
from interleaved.on_numba import assembly_of, interleaved, interleaved_mutant  # noqa: E402 - only where kernels are simulated

CPU = torch.device("cpu")
SEEDS = (0, 1, 2)
SM_COUNT = 8
OPTIONS = {
    "cell": tuple(POINTWISE),
    "bidirectional": (False, True),
    "ragged": (False, True),
    "dtype": ("float32", "float64"),
    "seq_len": (1, 3),
    "batch": (1, 2, 5),
    # One that loads four elements at once, and one that does not.
    "hidden_size": (5, 8),
    # Lanes and parts: columns of a block's product, and threads that share a column.
    "block": ((8, 1), (8, 2), (12, 2)),
    "regime": REGIMES["numba_cuda"],
}
LAYER = {"cell": "lstm", "seq_len": 3, "batch": 2, "input_size": 3, "hidden_size": 5}
BLOCK = (8, 2)
PASSES = ("forward", "backward")


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Fill memory that nobody wrote with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.ones(3).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def problem_of(fields: dict[str, Any]) -> lk.Problem:
    fields = {name: fields[name] for name in fields if name not in ("regime", "block")}
    ragged = fields.pop("ragged")
    lengths = f"uniform:0:{fields['seq_len']}" if ragged else "full"
    return lk.Problem(input_size=3, lengths=lengths, **fields)


@cache
def holds(problem: lk.Problem, block: tuple[int, int]) -> bool:
    """Whether few SMs hold a layer, both passes of it."""
    with simulated(*block, SM_COUNT):
        chosen = [parameters.choose(problem, each, parameters.SIMULATOR) for each in PASSES]
    return {each.regime for each in chosen} == {"held"}


def possible(case: tuple[Any, ...]) -> bool:
    fields = dict(zip(OPTIONS, case, strict=True))
    if fields["regime"] == "streamed":
        return True
    return holds(problem_of(fields | {"seq_len": 3, "ragged": False}), fields["block"])


def name_of(case: tuple[Any, ...]) -> str:
    cell, bidirectional, ragged, dtype, T, B, H, block, regime = case
    flags = {"bidirectional": bidirectional, "ragged": ragged}
    told = [name for name, flag in flags.items() if flag]
    return "-".join(
        [regime, cell, dtype, f"T{T}", f"B{B}", f"H{H}", "x".join(map(str, block)), *told]
    )


def assert_right(problem: lk.Problem, regime: str, block: tuple[int, int], seed: int) -> None:
    with (
        simulated(*block, SM_COUNT),
        only("numba_cuda", regime),
        interleaved(seed) as machines,
    ):
        found = errors(backend, problem, CPU)
    assert machines, "nothing was launched"
    closeness.assert_within(closeness.LAYER[problem.dtype], found, problem)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", covering_sample(OPTIONS, possible), ids=name_of)
def test_equals_float64_in_any_order(case: tuple[Any, ...], seed: int) -> None:
    fields = dict(zip(OPTIONS, case, strict=True))
    assert_right(problem_of(fields), fields["regime"], fields["block"], seed)


# What every change runs: one small case a regime.
FEW = [
    ("held", {"bidirectional": True, "lengths": "uniform:0:3"}),
    ("held", {"cell": "gru", "hidden_size": 8, "batch": 5}),
    ("streamed", {"lengths": "uniform:0:3"}),
    ("streamed", {"cell": "indrnn"}),
]


@pytest.mark.parametrize(("regime", "fields"), FEW, ids=lambda value: str(value)[:8])
def test_a_regime_is_right_in_any_order(regime: str, fields: dict[str, Any]) -> None:
    assert_right(lk.Problem(**LAYER | fields), regime, BLOCK, seed=0)


def order_of(seed: int) -> list[Any]:
    with simulated(8, 1, SM_COUNT), only("numba_cuda", "held"), interleaved(seed) as machines:
        errors(backend, lk.Problem(**LAYER), CPU)
    assert [machine.what.split(",")[0] for machine in machines] == ["forward", "backward"]
    return [machine.schedule.history for machine in machines]


def test_a_seed_is_an_order_of_one_launch_a_pass() -> None:
    first = order_of(0)
    assert order_of(0) == first
    assert order_of(1) != first


def test_the_assembly_that_is_run_is_that_of_a_gpu() -> None:
    texts = assembly_of(Path(memory.__file__))
    assert texts == {
        "load_acquire": "ld.acquire.gpu.global.u32 $0, [$1];",
        "add_release": "red.release.gpu.global.add.u32 [$0], 1;",
        "trap": "trap;",
    }


MEMORY, FLAGS, DEVICE, LAUNCHES = "memory", "flags", "device_code", "launches"
LOAD, ADD = "ld.acquire.gpu.global.u32", "red.release.gpu.global.add.u32"
WAIT = "wait(counters, flag, (step - first) * cuda.gridDim.x, poll_limit)"
WAIT_BACKWARD = "wait(counters, flag, done * cuda.gridDim.x, poll_limit)"
ARRIVE = """            if waits:
                arrive(counters, flag)
"""
STORE_Y = """                states, saved = next_state(with_products(p, h), states, of_unit)
                y[(place * D + direction) * H + unit] = states[0]
"""
IN_Y = "                y["
FLAG = """        flag = (cuda.blockIdx.z * cuda.gridDim.y + cuda.blockIdx.y) * COUNTER_STRIDE
        if direction == 1:
            w = w_reverse
            {}
"""
FLAG_FORWARD, FLAG_BACKWARD = map(FLAG.format, ("b = b_reverse", "per_unit = per_unit_reverse"))
BY_DIRECTION = "cuda.blockIdx.z * cuda.gridDim.y + "
OWN = """        own = row < rows and unit < H
        sequence = first_row + row
        length = length_of(lengths, ragged, sequence, T) if own else 0
        at_h = (direction * B + sequence) * H + unit
        at_c = (direction * B + sequence) * K * H + unit
        states = no_states"""
GATHER = """            _gather(shared, bases, rows, vectors, stride, source, H, aligned)
            cuda.syncthreads()
"""
GATHER_BACKWARD = """stride, d_gates, H, aligned)
            cuda.syncthreads()
"""
SUMS = """            cuda.syncthreads()

            saved = no_saved
"""
SUMS_BACKWARD = """            cuda.syncthreads()

            if own:
"""
BARRIER = "            cuda.syncthreads()\n"
NEW_COUNTERS = "grid[1] * grid[2] * COUNTER_STRIDE if waits else 0"
TURNS = "for first_tile in range(0, tiles, at_once):"
BOTH = {"bidirectional": True}
TWO_TURNS = {"batch": 20}
NOT_TOLD = "has acquired nothing|released nothing|met at no barrier"
ON_Y, ON_D_GATES, ON_SHARED = (rf"race on {name}\[" for name in ("y", "d_gates", "shared"))
MUTANTS = [
    Mutant("a relaxed arrival", MEMORY, ADD, ADD.replace("release", "relaxed"), Race,
           (ON_Y, NOT_TOLD, "flags.py|device_code.py")),
    Mutant("an arrival for its own SM", MEMORY, ADD, ADD.replace("gpu", "cta"), Race,
           (r"race on counters\[", r"adds 1 \(release, cta\)")),
    Mutant("an arrival that counts twice", MEMORY, "[$0], 1;", "[$0], 2;", Race, (ON_Y,)),
    Mutant("a relaxed poll", MEMORY, LOAD, LOAD.replace("acquire", "relaxed"), Race,
           (ON_Y, NOT_TOLD)),
    Mutant("a poll for its own SM", MEMORY, LOAD, LOAD.replace("gpu", "cta"), Race,
           (r"race on counters\[", "polls it by `ld.acquire.cta")),
    Mutant("a weak poll", MEMORY, LOAD, "ld.global.u32", Race,
           (r"race on counters\[", "loads it by `ld.global.u32")),
    Mutant("no barrier before the arrival", FLAGS,
           "    cuda.syncthreads()\n    if cuda.threadIdx.x == 0:\n        add",
           "    if cuda.threadIdx.x == 0:\n        add", Race, ("race on (y|shared)",)),
    Mutant("no barrier after the poll", FLAGS, "trap()\n    cuda.syncthreads()", "trap()", Race,
           ("race on (y|shared)",)),
    Mutant("every thread arrives", FLAGS, "    if cuda.threadIdx.x == 0:\n        add_release",
           "    if True:\n        add_release", Race, ("race on (y|shared)",)),
    Mutant("a poll past its target", FLAGS, "at) < target", "at) <= target", Deadlock,
           ("waits for counters", "0, and it is 0", "waits at a barrier of 16 threads")),
    Mutant("a bound too low", FLAGS, "POLL_LIMIT = 1 << 24", "POLL_LIMIT = 2", Trap,
           ("it waited for 3 arrivals, 2 times|it waited for 6 arrivals, 2 times",), poll_limit=2),
    Mutant("a poll that gives up and says nothing", FLAGS, "                trap()",
           "                break", Race, (ON_Y,), poll_limit=2),
    Mutant("a target too low", DEVICE, WAIT, WAIT.replace("first) * cuda.gridDim.x",
           "first) * cuda.gridDim.x - 1"), Race, (ON_Y,)),
    Mutant("a target too high", DEVICE, WAIT, WAIT.replace("gridDim.x", "gridDim.x + 1"), Deadlock,
           ("1, and it is 0", "added there so far: nothing")),
    Mutant("no wait", DEVICE, WAIT, "cuda.syncthreads()", Race, (ON_Y, NOT_TOLD)),
    Mutant("no wait in backward", DEVICE, WAIT_BACKWARD, "cuda.syncthreads()", Race,
           (ON_D_GATES, NOT_TOLD)),
    Mutant("a wait for half in backward", DEVICE, WAIT_BACKWARD,
           WAIT_BACKWARD.replace("cuda.gridDim.x", "(cuda.gridDim.x // 2)"), Race, (ON_D_GATES,)),
    Mutant("an early arrival", DEVICE, STORE_Y + ARRIVE,
           STORE_Y.replace(IN_Y, ARRIVE + "            if here:\n" + IN_Y), Race, (ON_Y,)),
    Mutant("no arrival at the first step", DEVICE, STORE_Y + ARRIVE,
           STORE_Y + ARRIVE.replace("waits:", "waits and step > first:"), Deadlock,
           ("added there so far: nothing",)),
    Mutant("one block never arrives", DEVICE, STORE_Y + ARRIVE,
           STORE_Y + ARRIVE.replace("waits:", "waits and first_unit > 0:"), Deadlock,
           (r"block \(1, 0, 0\) 1 times",)),
    Mutant("directions share a counter", DEVICE, FLAG_FORWARD,
           FLAG_FORWARD.replace(BY_DIRECTION, ""), Race, (ON_Y,), layer=BOTH),
    Mutant("directions share a counter in backward", DEVICE, FLAG_BACKWARD,
           FLAG_BACKWARD.replace(BY_DIRECTION, ""), Race, (ON_D_GATES,), layer=BOTH),
    Mutant("no barrier after the gather", DEVICE, GATHER, GATHER.replace(BARRIER, ""), Race,
           (ON_SHARED, "met at no barrier between the two")),
    Mutant("no barrier after the gather in backward", DEVICE, GATHER_BACKWARD,
           GATHER_BACKWARD.replace(BARRIER, ""), Race, (ON_SHARED, "backward")),
    Mutant("no barrier before the sums", DEVICE, SUMS, SUMS.replace(BARRIER, ""), Race,
           (ON_SHARED, "met at no barrier between the two")),
    Mutant("no barrier before the sums in backward", DEVICE, SUMS_BACKWARD,
           SUMS_BACKWARD.replace(BARRIER, ""), Race, (ON_SHARED, "backward")),
    Mutant("a barrier that not all meet", DEVICE, SUMS,
           SUMS.replace(BARRIER, f"            if here:\n    {BARRIER}"), (Race, Deadlock),
           ("barrier",)),
    Mutant("the state after is gathered", DEVICE,
           "place = position(step - 1, length, direction) * B",
           "place = position(step, length, direction) * B", Race, (ON_Y,)),
    Mutant("stores beyond the units", DEVICE, OWN, OWN.replace(" and unit < H", ""),
           (Race, OutOfBounds), ("forward",)),
    Mutant("counters side by side", LAUNCHES, NEW_COUNTERS, "grid[1] * grid[2] if waits else 0",
           OutOfBounds, ("out of bounds of counters, which has 8 bytes: byte 128",), layer=BOTH),
    Mutant("counters that were used", LAUNCHES, "counters = torch.zeros(", "counters = torch.ones(",
           Race, (ON_Y,)),
    Mutant("too little shared memory", LAUNCHES, "                    shared_bytes,\n",
           "                    shared_bytes - 16,\n", OutOfBounds, ("out of bounds of shared",)),
    Mutant("more blocks than are resident", LAUNCHES, TURNS,
           "for first_tile in range(0, tiles, at_once := tiles):", TooLarge,
           ("launch of 9, and 8 can be resident",), layer=TWO_TURNS),
]  # fmt: skip

# One for each kind of defect, and for each link of the chain from a store to who loads it.
EVERY_CHANGE = (
    *("a relaxed arrival", "no barrier before the arrival", "no barrier after the poll"),
    *("a poll for its own SM", "a poll past its target", "a bound too low", "a target too low"),
    *("no barrier before the sums", "counters side by side", "more blocks than are resident"),
)
MARKED = [
    pytest.param(mutant, seed, id=f"{mutant.name}-{seed}", marks=[] if fast else pytest.mark.slow)
    for mutant in MUTANTS
    for seed in SEEDS
    for fast in [mutant.name in EVERY_CHANGE and seed == 0]
]


def test_every_change_runs_mutants_that_there_are() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 20
    assert set(EVERY_CHANGE) <= set(names)


@pytest.mark.parametrize(("mutant", "seed"), MARKED)
def test_a_mutant_is_caught(mutant: Mutant, seed: int) -> None:
    problem = lk.Problem(**LAYER | mutant.layer)
    with (
        simulated(*BLOCK, SM_COUNT),
        only("numba_cuda", "held"),
        interleaved_mutant(seed, mutant),
        pytest.raises(mutant.found) as caught,
    ):
        errors(backend, problem, CPU)
    message = str(caught.value)
    for text in mutant.told:
        assert re.search(text, message), message
    assert re.search(rf"seed {seed}, launch \d", message), message
