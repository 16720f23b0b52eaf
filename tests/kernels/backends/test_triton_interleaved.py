"""The Triton kernels with all programs of a launch at once: who waits for whom, and what if not.

Every case under a few seeds is free of races and deadlocks, and right; every mutant is caught.
"""

from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import closeness
import pytest
import torch
from covering import covering_sample
from pointwise_cells import POINTWISE
from small_layers import REGIMES, errors, only

import lstm_kernels as lk

pytest.importorskip("triton", reason="the Triton backend needs triton")
pytest.importorskip("greenlet", reason="interleaved programs are greenlets")
fused_triton = pytest.importorskip("lstm_kernels.backends.fused_triton")
parameters = pytest.importorskip("lstm_kernels.backends.fused_triton.parameters")
sequence = pytest.importorskip("lstm_kernels.backends.fused_triton.sequence")

if torch.cuda.is_available():
    pytest.skip("kernels are compiled here, not interpreted", allow_module_level=True)

from interleaved import cases  # noqa: E402 - only where kernels are interpreted
from interleaved.cases import SEEDS  # noqa: E402 - only where kernels are interpreted
from interleaved.defects import Deadlock, OutOfBounds, Race, TooLarge, Trap  # noqa: E402 - only where kernels are interpreted
from interleaved.memory import Memory  # noqa: E402 - only where kernels are interpreted
from interleaved.mutants import Mutant  # noqa: E402 - only where kernels are interpreted
from interleaved.on_triton import interleaved, interleaved_mutant  # noqa: E402 - only where kernels are interpreted

CPU = torch.device("cpu")
OPTIONS = {
    "cell": tuple(POINTWISE),
    "bidirectional": (False, True),
    "ragged": (False, True),
    "dtype": ("float32", "float16", "float64"),
    "seq_len": (1, 3),
    "batch": (3, 17, 33),
    "hidden_size": (16, 30, 60),
    "recompute": (False, True),
    "regime": REGIMES["triton"],
}
LAYER = {"cell": "lstm", "seq_len": 3, "batch": 3, "input_size": 5, "hidden_size": 30}
# In float32; in float16 two programs share each SM.
TWO_TURNS = {"batch": 33, "bidirectional": True, "hidden_size": 60}


_poisoned = pytest.fixture(autouse=True)(cases.poisoned)


def problem_of(fields: dict[str, Any]) -> lk.Problem:
    return cases.problem_of(fields, "regime", "recompute", input_size=5)


@cache
def claims(problem: lk.Problem, regime: str) -> bool:
    """Whether a regime can run a layer, both passes of it; `streamed` stands for all there are."""
    if not problem.h_gates:
        return regime == "streamed"
    facts = () if regime == "streamed" else (sequence.INTERPRETED,)
    passes = ("forward", "backward")
    return all(getattr(parameters, f"_{regime}")(problem, each, *facts) for each in passes)


def possible(case: tuple[Any, ...]) -> bool:
    fields = dict(zip(OPTIONS, case, strict=True))
    if fields["cell"] == "rnn_relu" and fields["dtype"] == "float16":
        # A sum next to 0 is rounded to its other side, where relu has another gradient.
        return False
    return claims(problem_of(fields | {"seq_len": 3, "ragged": False}), fields["regime"])


def name_of(case: tuple[Any, ...]) -> str:
    cell, bidirectional, ragged, dtype, T, B, H, recompute, regime = case
    flags = {"bidirectional": bidirectional, "ragged": ragged, "recompute": recompute}
    return cases.name_of([regime, cell, dtype, f"T{T}", f"B{B}", f"H{H}"], flags)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", covering_sample(OPTIONS, possible), ids=name_of)
def test_equals_float64_in_any_order(case: tuple[Any, ...], seed: int) -> None:
    fields = dict(zip(OPTIONS, case, strict=True))
    problem = problem_of(fields)
    assert_right(problem, fields["regime"], seed, recompute=fields["recompute"])


# What every change runs: one small case a regime.
FEW = [
    ("held", {"bidirectional": True, "lengths": "uniform:0:3"}),
    ("held", {"cell": "gru", "hidden_size": 16, "batch": 33, "bidirectional": False}),
    ("own", {"cell": "slstm", "bidirectional": True}),
    ("streamed", {"lengths": "uniform:0:3"}),
    ("alone", {"cell": "indrnn", "batch": 17}),
]


@pytest.mark.parametrize(("regime", "fields"), FEW, ids=lambda value: str(value)[:8])
def test_a_regime_is_right_in_any_order(regime: str, fields: dict[str, Any]) -> None:
    assert_right(lk.Problem(**LAYER | fields), regime, seed=0)


def test_the_last_chunk_of_k_repeats_some_of_the_one_before() -> None:
    """Of weights that it has in common with it, there are zeros."""
    many = replace(sequence.INTERPRETED, sm_count=16)
    problem = lk.Problem(**LAYER | {"cell": "gru", "hidden_size": 136})
    for pass_name in ("forward", "backward"):
        assert parameters._held(problem, pass_name, many).chunk == 128  # type: ignore[union-attr] # it fits
    with patch.object(sequence, "INTERPRETED", many):
        assert_right(problem, "held", seed=0)


def assert_right(problem: lk.Problem, regime: str, seed: int, **options: bool) -> None:
    with only("triton", regime), interleaved(seed) as machines:
        found = errors(fused_triton, problem, CPU, **options)
    cases.assert_right(found, problem, machines)


@pytest.mark.parametrize(
    ("an_sm", "seed"),
    [
        pytest.param(an_sm, seed, marks=pytest.mark.slow if seed else [])
        for an_sm in (1, 2)
        for seed in SEEDS
    ],
)
def test_more_tiles_than_sms_share_these_or_take_turns(an_sm: int, seed: int) -> None:
    problem = lk.Problem(**LAYER | TWO_TURNS, dtype="float16")
    with (
        patch.object(parameters, "MOST_RESIDENT", an_sm),
        only("triton", "held"),
        interleaved(seed) as machines,
    ):
        found = errors(fused_triton, problem, CPU)
    cases.assert_right(found, problem, machines)
    launches = 2 if an_sm == 1 else 1
    assert [len(machine.names) for machine in machines] == [16 // launches] * 2 * launches


def test_held_is_one_launch_whose_programs_wait() -> None:
    problem = lk.Problem(**LAYER)
    with only("triton", "held"), interleaved(0) as machines:
        errors(fused_triton, problem, CPU)
    assert [machine.what.split(",")[0] for machine in machines] == ["forward", "backward"]
    for machine in machines:
        doings = [each.doing for events in machine.clocks.events for each in events]
        assert any("ld.acquire.gpu" in doing for doing in doings)
        assert any("adds 1 (release, gpu)" in doing for doing in doings)


def order_of(seed: int) -> list[Any]:
    with only("triton", "held"), interleaved(seed) as machines:
        errors(fused_triton, lk.Problem(**LAYER), CPU)
    return [machine.schedule.history for machine in machines]


def test_a_seed_is_an_order() -> None:
    first = order_of(0)
    assert order_of(0) == first
    assert order_of(1) != first


FLAGS, DEVICE, LAUNCHES = "flags", "device_code", "launches"
WAIT = "wait(counters_ptr, (step - first) * groups, poll_limit)"
WAIT_BACKWARD = "wait(counters_ptr, done * groups, poll_limit)"
ADD = 'tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")'
BARRIER_AND_ADD = f"    tl.debug_barrier()\n    {ADD}"
POLL = "ld.acquire.gpu.global.u32 seen"
STORE_Y = """        tl.store(
            y_ptr + ((row * D + direction) * H)[:, None] + unit[None, :],
            after[0].to(y_ptr.dtype.element_ty),
            mask=here,
        )
"""
ARRIVE = """        if counters_ptr is not None:
            arrive(counters_ptr)
"""
STORE_D_GATES = "        _store_blocks(d_ptr, new_d_p, here, 0, H)\n"
GROUP_OF_COUNTER = """    if counters_ptr is not None:
        counters_ptr += (direction * tl.num_programs(1) + tl.program_id(1)) * COUNTER_STRIDE
"""
OWN_UNITS = """    own = (sequence < B)[:, None] & (unit < H)[None, :]
    length = _lengths(lengths_ptr, sequence, T, B)
    first_row = direction * B + sequence
    state = first_row[:, None] * H + unit[None, :]
    own_state = first_row[:, None] * (OWN * H) + unit[None, :]
    carried = D * B.to(tl.int64) * H
    states"""
END_OF_FORWARD = "\n    end = tl.minimum(last, tl.max(length).to(tl.int32))"
END_OF_BACKWARD = "    d_p = _alike(zeros, SLOTS)"
COOPERATIVE = """    if waits:
        options["""
TURNS = "for first_tile in range(0, tiles, at_once):"
ONE_TURN = "for first_tile in range(0, tiles, at_once := tiles):"
NEW_COUNTERS = """        counters = None
        if waits:
"""
BOTH = {"bidirectional": True}
TWO_TILES = {"batch": 17, "hidden_size": 16}
GATHERED = r"tl\.load\(chunk_ptr, mask=mask"
NOT_TOLD = "has acquired nothing|released nothing|met at no barrier"
MUTANTS = [
    Mutant("a relaxed arrival", FLAGS, 'sem="release"', 'sem="relaxed"', Race,
           ("released nothing that others can acquire", GATHERED)),
    Mutant("an arrival for its own SM", FLAGS, 'scope="gpu"', 'scope="cta"', Race,
           (r"adds 1 \(release, cta\)", r"race on counters\[0\]")),
    Mutant("an arrival that counts twice", FLAGS, "counter_ptr, 1,", "counter_ptr, 2,", Race,
           (r"race on y\[", NOT_TOLD)),
    Mutant("no barrier before the arrival", FLAGS, BARRIER_AND_ADD, f"    {ADD}", Race,
           (NOT_TOLD, GATHERED)),
    Mutant("no barrier after the poll", FLAGS, "pack=1,\n    )\n    tl.debug_barrier()",
           "pack=1,\n    )", Race, ("no barrier told the others", GATHERED)),
    Mutant("no barrier where a program is alone", FLAGS, "pack=1,\n    )\n    tl.debug_barrier()",
           "pack=1,\n    )", Race, (r"race on y\[", "met at no barrier between the two"),
           layer={"hidden_size": 8}, also=((FLAGS, BARRIER_AND_ADD, f"    {ADD}"),)),
    Mutant("a relaxed poll", FLAGS, POLL, "ld.relaxed.gpu.global.u32 seen", Race,
           (NOT_TOLD, GATHERED)),
    Mutant("a volatile poll", FLAGS, POLL, "ld.volatile.global.u32 seen", Race,
           (NOT_TOLD, GATHERED)),
    Mutant("a poll for its own SM", FLAGS, POLL, "ld.acquire.cta.global.u32 seen", Race,
           ("polls it by `ld.acquire.cta", r"race on counters\[0\]")),
    Mutant("a weak poll", FLAGS, POLL, "ld.global.u32 seen", Race,
           ("loads it by `ld.global.u32", r"race on counters\[0\]")),
    Mutant("a poll past its target", FLAGS, "setp.ge.u32", "setp.gt.u32", Deadlock,
           (r"where seen is 0 and \$2 0", "added there so far: nothing")),
    Mutant("a poll until too early", FLAGS, "setp.ge.u32", "setp.le.u32", (Race, Deadlock),
           ("setp.le.u32|tl.load",)),
    Mutant("a poll turned round", FLAGS, "@done bra DONE", "@!done bra DONE", (Race, Deadlock),
           ("steps 0 to 3",)),
    Mutant("a poll that is no loop", FLAGS, "@stop bra POLL;\n", "", Trap,
           ("trap", "where seen is"),),
    Mutant("a poll of its own thread alone", FLAGS, "setp.ne.u32 stop, thread, 0",
           "setp.ge.u32 stop, thread, 0", Race, (NOT_TOLD, GATHERED)),
    Mutant("a bound too low", FLAGS, "POLL_LIMIT = 1 << 24", "POLL_LIMIT = 2", Trap,
           (r"it waited for `setp.ge.u32 done, seen, \$2`",), poll_limit=2),
    Mutant("a poll that gives up and says nothing", FLAGS, "    trap;\n", "", Race, (GATHERED,),
           poll_limit=2),
    Mutant("a target too low", DEVICE, WAIT,
           "wait(counters_ptr, tl.maximum((step - first) * groups - 1, 0), poll_limit)", Race,
           (r"race on y\[",)),
    Mutant("a target too high", DEVICE, WAIT,
           "wait(counters_ptr, (step - first) * groups + 1, poll_limit)", Deadlock,
           ("4 wait", r"where seen is 0 and \$2 1")),
    Mutant("a target of the step before", DEVICE, WAIT,
           "wait(counters_ptr, tl.maximum(step - first - 1, 0) * groups, poll_limit)", Race,
           (r"race on y\[",)),
    Mutant("no wait", DEVICE, WAIT, "pass", Race, (r"race on y\[", NOT_TOLD)),
    Mutant("no wait in backward", DEVICE, WAIT_BACKWARD, "pass", Race,
           (r"race on d_gates\[", "backward")),
    Mutant("a wait for half in backward", DEVICE, WAIT_BACKWARD,
           "wait(counters_ptr, done * (groups // 2), poll_limit)", Race, (r"race on d_gates\[",)),
    Mutant("an early arrival", DEVICE, STORE_Y + ARRIVE, ARRIVE + STORE_Y, Race, (r"race on y\[",)),
    Mutant("an early arrival in backward", DEVICE, STORE_D_GATES + ARRIVE, ARRIVE + STORE_D_GATES,
           Race, (r"race on d_gates\[",)),
    Mutant("no arrival at the first step", DEVICE, STORE_Y + ARRIVE,
           STORE_Y + ARRIVE.replace("None:", "None and step > first:"), Deadlock,
           ("added there so far: nothing",)),
    Mutant("one program never arrives", DEVICE, STORE_Y + ARRIVE,
           STORE_Y + ARRIVE.replace("None:", "None and first_unit > 0:"), Deadlock,
           (r"program \(1, 0, 0\) 1 times",)),
    Mutant("directions share a counter", DEVICE, GROUP_OF_COUNTER + END_OF_FORWARD,
           GROUP_OF_COUNTER.replace("direction * tl.num_programs(1) + ", "") + END_OF_FORWARD,
           Race, (r"race on y\[",), layer=BOTH),
    Mutant("directions share a counter in backward", DEVICE, GROUP_OF_COUNTER + END_OF_BACKWARD,
           GROUP_OF_COUNTER.replace("direction * tl.num_programs(1) + ", "") + END_OF_BACKWARD,
           Race, (r"race on d_gates\[",), layer=BOTH),
    Mutant("tiles share a counter", DEVICE, GROUP_OF_COUNTER + END_OF_FORWARD,
           GROUP_OF_COUNTER.replace(" + tl.program_id(1)", "") + END_OF_FORWARD, Race,
           (r"race on y\[",), layer=TWO_TILES),
    Mutant("the state after is gathered", DEVICE,
           "        before = _position(step - 1, length",
           "        before = _position(step, length", Race, (r"race on y\[",)),
    Mutant("stores beyond the units", DEVICE, OWN_UNITS,
           OWN_UNITS.replace(" & (unit < H)[None, :]", ""), (Race, OutOfBounds), ("forward",)),
    Mutant("a gather beyond H", DEVICE,
           "        mask = mask & (first_k + k < H)\n    # Two additions",
           "        mask = mask & (first_k + k < 2 * H)\n    # Two additions",
           (Race, OutOfBounds), (GATHERED,)),
    Mutant("counters side by side", LAUNCHES, "D * grid[1] * COUNTER_STRIDE.value,", "D * grid[1],",
           OutOfBounds, ("out of bounds of counters, which has 8 bytes: byte 128",), layer=BOTH),
    Mutant("counters that were used", LAUNCHES, "counters = torch.zeros(", "counters = torch.ones(",
           Race, (r"race on y\[",)),
    Mutant("counters of the turn before", LAUNCHES, NEW_COUNTERS,
           "        if waits and first_tile == 0:\n", Race, (r"race on y\[",),
           layer=TWO_TURNS),
    Mutant("more programs than are resident", LAUNCHES, TURNS, ONE_TURN, TooLarge,
           ("launch of 16, and 8 can be resident",), layer=TWO_TURNS),
    Mutant("not all at once, and more than are resident", LAUNCHES, TURNS, ONE_TURN, Deadlock,
           ("have not begun, since 8 are resident",), layer=TWO_TURNS,
           also=((LAUNCHES, COOPERATIVE, COOPERATIVE.replace("waits", "not waits")),)),
]  # fmt: skip


# One for each kind of defect, and for each link of the chain from a store to who loads it.
EVERY_CHANGE = (
    *("a relaxed arrival", "no barrier before the arrival", "no barrier after the poll"),
    *("a poll for its own SM", "a poll past its target", "a bound too low", "a target too low"),
    *("an early arrival in backward", "counters side by side", "more programs than are resident"),
)


@pytest.mark.parametrize(("mutant", "seed"), cases.with_seeds(MUTANTS, EVERY_CHANGE))
def test_a_mutant_is_caught(mutant: Mutant, seed: int) -> None:
    with only("triton", "held"):
        cases.assert_caught(
            mutant,
            seed,
            lk.Problem(**LAYER | mutant.layer),
            interleaved_mutant(seed, mutant),
            lambda problem: errors(fused_triton, problem, CPU),
        )


@pytest.mark.parametrize("name", ["a relaxed arrival", "no barrier before the arrival", "no wait"])
def test_were_races_not_looked_for_the_numbers_would_tell(name: str) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    with (
        only("triton", "held"),
        interleaved_mutant(0, mutant),
        patch.object(Memory, "_check", lambda *_, **__: None),
    ):
        found = errors(fused_triton, lk.Problem(**LAYER), CPU)
    # What was not seen yet is NaN.
    assert not found["y"] <= closeness.LAYER["float32"]
