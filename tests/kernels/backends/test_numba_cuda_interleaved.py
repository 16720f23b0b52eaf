"""The Numba CUDA kernels with all blocks of a launch at once: who waits for whom, and what if not.

Every case under a few seeds is free of races and deadlocks, and right; every mutant is caught.
"""

from functools import cache
from typing import Any

import closeness
import pytest
import torch
from covering import covering_sample
from pointwise_cells import POINTWISE
from small_layers import REGIMES, draw, errors, only, simulated

import lstm_kernels as lk
from lstm_kernels.cells import cell, tanh, where

pytest.importorskip("numba.cuda", reason="the Numba CUDA backend needs numba-cuda")
pytest.importorskip("greenlet", reason="interleaved threads are greenlets")
backend = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda")
memory = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.memory")
parameters = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.parameters")

if torch.cuda.is_available():
    pytest.skip("kernels are compiled here, not simulated", allow_module_level=True)

from interleaved import cases  # noqa: E402 - only where kernels are simulated
from interleaved.cases import SEEDS  # noqa: E402 - only where kernels are simulated
from interleaved.defects import (  # noqa: E402 - only where kernels are simulated
    Deadlock,
    OutOfBounds,
    Race,
    TooLarge,
    Trap,
    Unwritten,
    Wrong,
)
from interleaved.mutants import Mutant  # noqa: E402 - only where kernels are simulated
from interleaved.on_numba import interleaved, interleaved_mutant  # noqa: E402 - only where kernels are simulated

CPU = torch.device("cpu")
FLOAT64 = torch.float64
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


_poisoned = pytest.fixture(autouse=True)(cases.poisoned)


def problem_of(fields: dict[str, Any]) -> lk.Problem:
    return cases.problem_of(fields, "regime", "block", input_size=3)


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
    words = [regime, cell, dtype, f"T{T}", f"B{B}", f"H{H}", "x".join(map(str, block))]
    return cases.name_of(words, {"bidirectional": bidirectional, "ragged": ragged})


def assert_right(problem: lk.Problem, regime: str, block: tuple[int, int], seed: int) -> None:
    with (
        simulated(*block, SM_COUNT),
        only("numba_cuda", regime),
        interleaved(seed) as machines,
    ):
        found = errors(backend, problem, CPU)
    cases.assert_right(found, problem, machines)


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


# Hands on the state as it is where a sum is 0, less or NaN: bits of the user's come through.
@cell(gates="a", states="h")
def hands_on(p: Any, h: Any) -> Any:
    return where(p.a > 0.0, tanh(p.a), h)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lk.CELLS, "hands_on", hands_on)


def not_yet(tensor: torch.Tensor, *at: int) -> torch.Tensor:
    """The tensor, one of whose elements has the bits of what nobody wrote yet."""
    changed = tensor.detach().clone()
    words = changed.view(torch.int32).view(*changed.shape, -1)
    words[at] = memory.NOT_YET - (1 << 32)
    assert changed[at].isnan()
    return changed.requires_grad_(tensor.requires_grad)


def errors_with_payload(problem: lk.Problem) -> dict[str, float]:
    """Errors of a layer that is given those bits in h0, its other states and y's gradient.

    A NaN where float64 has one is right; where one of the two has none, the error is infinite.
    """
    results: dict[str, dict[str, torch.Tensor]] = {}
    for name, dtype in (("numba_cuda", getattr(torch, problem.dtype)), ("reference", FLOAT64)):
        given = draw(problem, dtype=dtype, device=CPU)
        given["h0"] = not_yet(given["h0"], 0, 0, 1)
        if given["c0"] is not None:
            given["c0"] = not_yet(given["c0"], 0, 1, 2)
        outputs = [each for each in lk.registry.load(name).layer(**given, problem=problem)
                   if each is not None]  # fmt: skip
        d_outputs = [torch.full_like(each, 0.5) for each in outputs]
        d_outputs[0] = not_yet(d_outputs[0], problem.seq_len - 1, 1, 0)
        leaves = {name: given[name] for name in ("x", "h0")} | {"w_hh": given["weights"][0].w_hh}
        found = torch.autograd.grad(outputs, list(leaves.values()), d_outputs)
        results[name] = dict(zip(("y", "h_n", "c_n"), outputs, strict=False))
        results[name] |= {f"d_{leaf}": each for leaf, each in zip(leaves, found, strict=True)}
    errors = {}
    for name, want in results["reference"].items():
        got = results["numba_cuda"][name]
        error = closeness.relative_error(got.nan_to_num(), want.nan_to_num())
        errors[name] = error if (got.isnan() == want.isnan()).all() else float("inf")
    told = results["numba_cuda"]["y"].detach().view(torch.int32)
    assert (told != memory.NOT_YET - (1 << 32)).all(), "the caller is given what is NOT_YET"
    return errors


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "fields",
    [
        {"cell": "hands_on"},
        {"cell": "hands_on", "dtype": "float64", "hidden_size": 8},
        {"cell": "lstm", "hidden_size": 8},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_the_users_own_bits_are_nans_as_any_other(fields: dict[str, Any], seed: int) -> None:
    problem = lk.Problem(**LAYER | fields)
    with simulated(*BLOCK, SM_COUNT), only("numba_cuda", "held"), interleaved(seed) as machines:
        found = errors_with_payload(problem)
    cases.assert_right(found, problem, machines)


MEMORY, EXCHANGE, DEVICE, LAUNCHES = "memory", "exchange", "device_code", "launches"
LOAD = '"ld.relaxed.gpu.global.f32 $0, [$1];"'
LOAD_FOUR = '"ld.relaxed.gpu.global.v4.f32 {$0, $1, $2, $3}, [$4];"'
STORE = '"st.relaxed.gpu.global.f32 [$0], $1;"'
TELL = "store_relaxed(array, at, other_than_not_yet(value))"
TELL_Y = "                tell(y, (place * D + direction) * H + unit, states[0])\n"
POLLS = "polls = waits and step > 0"
POLLS_BACKWARD = "d_gates, H, aligned, waits, poll_limit,"
SCALAR = "if not (polls and is_not_yet(value)):"
GIVES_UP = """                        left -= 1
                        if left == 0:
                            trap()
                    store_shared(shared, at + k, value)
"""
SOME = "some = waits_for_a | waits_for_b | waits_for_c | waits_for_d"
OF_FOUR = "return is_not_yet(a) or is_not_yet(b) or is_not_yet(c) or is_not_yet(d)"
STATE_PLACE = "place = position(step - 1, length, direction) * B + sequence\n    return (place"
GATE_PLACE = "place = position(step + 1, length, direction) * B + sequence\n"
STATE_BASE = "return (place * D + direction) * H\n"
NEXT_STATE = "states, saved = next_state(with_products(p, h), states, of_unit)\n"
OWN = """        own = row < rows and unit < H
        sequence = first_row + row
        length = length_of(lengths, ragged, sequence, T) if own else 0
        at_h = (direction * B + sequence) * H + unit
        at_c = (direction * B + sequence) * K * H + unit
        states = no_states"""
GATHERED = """                poll_limit,
            )  # fmt: skip
            cuda.syncthreads()
"""
GATHERED_BACKWARD = """                d_gates, H, aligned, waits, poll_limit,
            )  # fmt: skip
            cuda.syncthreads()
"""
SUMS = """            cuda.syncthreads()

            saved = no_saved
"""
SUMS_BACKWARD = """            cuda.syncthreads()

            if own:
"""
BARRIER = "            cuda.syncthreads()\n"
FIRST_TABLE = """            n += cuda.blockDim.x
        cuda.syncthreads()

        for step in"""
FIRST_TABLE_BACKWARD = FIRST_TABLE.replace("step in", "done in")
NEXT_TABLE = "store_shared(bases, (after & 1) * table + n, base)"
MARK_Y = "mark_not_yet(tensors.y, tensors.lengths)"
MARK_D_GATES = "mark_not_yet(tensors.d_gates, tensors.lengths)"
ALIVE = "alive = alive_steps(lengths, told.shape[-3], told.device)"
ALIGNED = "return problem.hidden_size % 4 == 0 and all(t.data_ptr() % 16 == 0 for t in gathered)"
TURNS = "for first_tile in range(0, tiles, at_once):"
BOTH = {"bidirectional": True}
FOURS = {"hidden_size": 8}
RAGGED = {"lengths": "uniform:1:3", "batch": 3}
TWO_TURNS = {"batch": 20}
ON_Y, ON_D_GATES, ON_SHARED = (rf"race on {name}\[" for name in ("y", "d_gates", "shared"))
Y_IS_TAKEN, D_GATES_IS_TAKEN = (
    rf"{name}\[.*\] .* is taken, and nobody has written it yet" for name in ("y", "d_gates")
)
WRONG = "wrong, and nothing else was found.*: .*"
MUTANTS = [
    # What the accesses are.
    Mutant("a weak load", MEMORY, LOAD, LOAD.replace("relaxed.gpu.", ""), Race,
           (ON_Y, "loads it by `ld.global.f32", "stores it by `st.relaxed.gpu")),
    Mutant("a load of four that is weak", MEMORY, LOAD_FOUR,
           LOAD_FOUR.replace("relaxed.gpu.global", "global.cg"), Race,
           (ON_Y, "loads it by `ld.global.cg.v4"), layer=FOURS),
    Mutant("a load for its own SM", MEMORY, LOAD, LOAD.replace("gpu", "cta"), Race,
           (ON_Y, "polls it by `ld.relaxed.cta")),
    Mutant("a weak store", MEMORY, STORE, STORE.replace("relaxed.gpu.", ""), Race,
           (ON_Y, "stores it", "polls it by `ld.relaxed.gpu")),
    Mutant("a store for its own SM", MEMORY, STORE, STORE.replace("gpu", "cta"), Race,
           (ON_Y, "stores it by `st.relaxed.cta")),
    # What is looked at.
    Mutant("no poll", DEVICE, POLLS, "polls = False", Unwritten,
           (Y_IS_TAKEN, "device_code.py:.* in _gather: value = load_relaxed")),
    Mutant("no poll in backward", DEVICE, POLLS_BACKWARD,
           POLLS_BACKWARD.replace("waits", "False"), Unwritten, (D_GATES_IS_TAKEN, "backward")),
    Mutant("no poll of the second step", DEVICE, POLLS, POLLS.replace("> 0", "> 1"), Unwritten,
           (Y_IS_TAKEN, "step 1: polls it by")),
    Mutant("one element of four is not looked at", MEMORY, OF_FOUR,
           OF_FOUR.replace(" or is_not_yet(c)", ""), Unwritten, (Y_IS_TAKEN,), layer=FOURS),
    Mutant("one vector of four is not looked at", DEVICE, SOME, SOME.replace(" | waits_for_c", ""),
           Unwritten, (D_GATES_IS_TAKEN,), layer=FOURS),
    Mutant("only the gate that is stored last is looked at", DEVICE, SOME,
           "some = waits_for_d if base_d != NOTHING else waits_for_a", Unwritten,
           (D_GATES_IS_TAKEN, "backward"), layer=FOURS | {"batch": 1}),
    Mutant("the first thread alone polls", DEVICE, SCALAR,
           "if cuda.threadIdx.x > 0 or not (polls and is_not_yet(value)):", Unwritten,
           (Y_IS_TAKEN,)),
    Mutant("a poll of its own block's elements alone", DEVICE, SCALAR,
           SCALAR.replace("polls and", "polls and k // 2 == cuda.blockIdx.x and"), Unwritten,
           (Y_IS_TAKEN,)),
    Mutant("a bound too low", EXCHANGE, "POLL_LIMIT = 1 << 24", "POLL_LIMIT = 2", Trap,
           ("it waited for what nobody wrote, 2 times", "in _gather: trap"), poll_limit=2),
    Mutant("a poll that gives up and says nothing", DEVICE, GIVES_UP,
           GIVES_UP.replace("trap()", "break"), Unwritten, (Y_IS_TAKEN,), poll_limit=2),
    # What is told.
    Mutant("NOT_YET is told", EXCHANGE, TELL, TELL.replace("other_than_not_yet(value)", "value"),
           Unwritten, (r"y\[.*is told what says that nobody has told it", "in tell: store_relaxed"),
           layer={"cell": "hands_on"}),
    Mutant("NOT_YET is told of gates", EXCHANGE, TELL,
           TELL.replace("other_than_not_yet(value)", "value"), Unwritten,
           (r"\[.*is told what says that nobody has told it",), layer={"dtype": "float64"}),
    Mutant("told instead is NOT_YET again", MEMORY, "{4: 0x7FC00000,", "{4: NOT_YET,", Unwritten,
           ("is told what says that nobody has told it",), layer={"cell": "hands_on"}),
    Mutant("h0 is polled", DEVICE, POLLS, "polls = waits", Deadlock,
           (r"waits for h0\[0, 0, 1\]", "until somebody writes it"), layer={"cell": "hands_on"}),
    Mutant("one block never tells", DEVICE, TELL_Y,
           TELL_Y.replace("tell(", "if first_unit > 0:\n                    tell("), Deadlock,
           (r"waits for y\[0, ., [01]\]", "until somebody writes it")),
    Mutant("the last step is told of nobody", DEVICE, TELL_Y,
           TELL_Y.replace("tell(", "if step + 1 < length:\n                    tell("), Wrong,
           (f"{WRONG}y by nan",)),
    Mutant("a guess is told first", DEVICE, NEXT_STATE,
           f"tell(y, (place * D + direction) * H + unit, h[0])\n                {NEXT_STATE}",
           Wrong, (f"{WRONG}h_n by",)),
    # Which slot, and who resets it.
    Mutant("an old slot in forward", DEVICE, STATE_PLACE,
           STATE_PLACE.replace("step - 1", "max(step - 2, 0)"), Wrong, (f"{WRONG}y by",)),
    Mutant("an old slot in backward", DEVICE, GATE_PLACE,
           GATE_PLACE.replace("step + 1", "min(step + 2, length - 1)"), Wrong, (f"{WRONG}d_x by",)),
    Mutant("the slot of this step", DEVICE, STATE_PLACE,
           STATE_PLACE.replace("step - 1", "step"), Deadlock, (r"waits for y\[1, ",)),
    Mutant("two slots for all steps", DEVICE, STATE_PLACE,
           STATE_PLACE.replace("step - 1", "(step - 1) & 1"), Wrong, (f"{WRONG}h_n by",),
           layer={"seq_len": 5},
           also=((DEVICE, TELL_Y, TELL_Y.replace("place", "((step & 1) * B + sequence)")),)),
    Mutant("a slot is cleared once its block has read it", DEVICE, GATHERED,
           GATHERED + "            if step > 0 and here:\n"
           "                y[(((step - 1) * B + sequence) * D + direction) * H + unit] = ZERO\n",
           Race, (ON_Y, "stores it", "polls it by")),
    Mutant("the next slot is reset too late", DEVICE, TELL_Y,
           TELL_Y + "                if step + 1 < length:\n"
           "                    y[((place + B) * D + direction) * H + unit] = ZERO\n",
           Race, (ON_Y,)),
    Mutant("y is not reset before the launch", LAUNCHES, MARK_Y, "pass", Wrong,
           (f"{WRONG}y by nan",)),
    Mutant("d_gates is not reset before the launch", LAUNCHES, MARK_D_GATES, "pass", Wrong,
           (f"{WRONG}d_x by nan",)),
    Mutant("reset to other bits", EXCHANGE, "_SIGNED = NOT_YET -", "_SIGNED = 1 + NOT_YET -", Wrong,
           (f"{WRONG}y by nan",)),
    Mutant("a sequence's last step is not reset", EXCHANGE, ALIVE,
           ALIVE.replace("(lengths,", "(lengths - 1,"), Wrong, (f"{WRONG}d_x by",), layer=RAGGED),
    Mutant("what nobody tells is reset too", EXCHANGE, ALIVE,
           ALIVE.replace("(lengths,", "(lengths + 3,"), Wrong, (f"{WRONG}y by nan",), layer=RAGGED),
    Mutant("directions share slots", DEVICE, STATE_BASE,
           STATE_BASE.replace("(place * D + direction)", "(place * D)"), Wrong, (f"{WRONG}y by",),
           layer=BOTH),
    # Inside the block.
    Mutant("no barrier after the gather", DEVICE, GATHERED, GATHERED.replace(BARRIER, ""), Race,
           (ON_SHARED, "met at no barrier between the two")),
    Mutant("no barrier after the gather in backward", DEVICE, GATHERED_BACKWARD,
           GATHERED_BACKWARD.replace(BARRIER, ""), Race, (ON_SHARED, "backward")),
    Mutant("no barrier before the sums", DEVICE, SUMS, SUMS.replace(BARRIER, ""), Race,
           (ON_SHARED, "met at no barrier between the two")),
    Mutant("no barrier before the sums in backward", DEVICE, SUMS_BACKWARD,
           SUMS_BACKWARD.replace(BARRIER, ""), Race, (ON_SHARED, "backward")),
    Mutant("a barrier that not all meet", DEVICE, SUMS,
           SUMS.replace(BARRIER, f"            if here:\n    {BARRIER}"), (Race, Deadlock),
           ("barrier",)),
    Mutant("no barrier before the first step", DEVICE, FIRST_TABLE,
           FIRST_TABLE.replace("        cuda.syncthreads()\n", ""), Race,
           (ON_SHARED, "met at no barrier between the two")),
    Mutant("no barrier before the first step of backward", DEVICE, FIRST_TABLE_BACKWARD,
           FIRST_TABLE_BACKWARD.replace("        cuda.syncthreads()\n", ""), Race,
           (ON_SHARED, "backward")),
    Mutant("one table of where vectors lie", DEVICE, NEXT_TABLE,
           NEXT_TABLE.replace("after", "step"), Race, (ON_SHARED, "in _gather: base_a")),
    # Around the exchange.
    Mutant("stores beyond the units", DEVICE, OWN, OWN.replace(" and unit < H", ""),
           (Race, OutOfBounds, Wrong), ("forward",)),
    Mutant("four at once where they are not aligned", LAUNCHES, ALIGNED, "return True", OutOfBounds,
           ("lies at no multiple of 16 bytes", "ld.relaxed.gpu.global.v4")),
    Mutant("too little shared memory", LAUNCHES, "                    shared_bytes,\n",
           "                    shared_bytes - 16,\n", OutOfBounds, ("out of bounds of shared",)),
    Mutant("more blocks than are resident", LAUNCHES, TURNS,
           "for first_tile in range(0, tiles, at_once := tiles):", TooLarge,
           ("launch of 9, and 8 can be resident",), layer=TWO_TURNS),
]  # fmt: skip

# One for each kind of defect, and for each reason why a reader takes nothing else for the value.
EVERY_CHANGE = (
    *("a weak load", "no poll", "only the gate that is stored last is looked at"),
    *("a bound too low", "NOT_YET is told", "h0 is polled", "an old slot in backward"),
    *("the next slot is reset too late", "a sequence's last step is not reset"),
    *("no barrier before the sums", "one table of where vectors lie"),
    *("four at once where they are not aligned", "more blocks than are resident"),
)
# Those that show with bits that only a user brings.
WITH_PAYLOAD = (
    *("NOT_YET is told", "NOT_YET is told of gates", "told instead is NOT_YET again"),
    "h0 is polled",
)


@pytest.mark.parametrize(("mutant", "seed"), cases.with_seeds(MUTANTS, EVERY_CHANGE))
def test_a_mutant_is_caught(mutant: Mutant, seed: int) -> None:
    def found(problem: lk.Problem) -> dict[str, float]:
        if mutant.name in WITH_PAYLOAD:
            return errors_with_payload(problem)
        return errors(backend, problem, CPU)

    with simulated(*BLOCK, SM_COUNT), only("numba_cuda", "held"):
        problem = lk.Problem(**LAYER | mutant.layer)
        cases.assert_caught(mutant, seed, problem, interleaved_mutant(seed, mutant), found)
