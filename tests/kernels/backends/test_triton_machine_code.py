"""The Triton kernels' machine code: on chip where it is said to be, nothing spilled, no GPU needed.

Compiled in processes of their own, since this one interprets kernels.
"""

import os
from collections import Counter
from itertools import product
from math import prod
from typing import Any

import pytest
from compiling import inspected, run
from hand_written_kernels import (
    HAND_WRITTEN,
    KERNELS,
    MORE_REGISTERS,
    TRITON_VERSION,
    Figures,
    Program,
)
from places import SUPPORT
from pointwise_cells import POINTWISE

from lstm_kernels.cells import CELLS
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.registry import TORCH_CELLS

HIDDEN = (64, 128, 256, 512, 768, 1024, 2048)
DTYPES = ("float16", "bfloat16", "float32", "float64")
ARCHS = ("sm_80", "sm_90")
OTHER_CELLS = ("gru", "rnn_tanh", "rnn_relu")
# Each of the three regimes is compiled for sm_90, in 16 bits: at which H.
REGIMES = {64: "own", 768: "held", 2048: "streamed"}
REGIMES_IN_FLOAT64 = {32: "own", 256: "held", 2048: "streamed"}

triton = pytest.importorskip("triton")

# One worker compiles for all that share a fixture; what shares none is for any.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("triton machine code")]

Rows = list[dict[str, Any]]


def in_groups(*values: Any) -> list[Any]:
    """Parameters whose tests may run in different workers."""
    return in_groups_of(*((value,) for value in values))


def in_groups_of(*several: tuple[Any, ...]) -> list[Any]:
    """The same where a test has several parameters."""
    return [pytest.param(*each, marks=pytest.mark.xdist_group(str(each))) for each in several]


def assert_clean(row: dict[str, Any]) -> None:
    """What every kernel owes: no spill, fits; weights on chip, all programs of `held` at once."""
    name = f"{row['arch']} {row['problem']} {row['kernel']} {row['parameters']}"
    assert row["stack_bytes"] == row["local_bytes"] == row["spill_bytes"] == 0, name
    assert row["shared_bytes"] <= ARCHITECTURES[row["arch"]].shared_per_block, name
    assert (row["weight_loads"] > 0) == (row["regime"] != "alone"), name
    if row["regime"] != "streamed":
        assert row["weight_loads_in_loop"] == 0, name
    if row["regime"] == "held":
        assert row["grid_is_resident"], name
    if row["problem"]["dtype"] != "float32" and row["regime"] != "alone":
        wanted = ("DMMA",) if row["problem"]["dtype"] == "float64" else ("HMMA", "HGMMA")
        assert sum(row["matrix_instructions"].get(n, 0) for n in wanted) > 0, name


# What every change compiles, in one process: every regime, in 16 bits and in 64; then another cell
# on the other architecture in 32 bits, ragged and both ways.
REGIMES_AXES = "--arch sm_90 --dtype float16 --hidden " + ",".join(map(str, REGIMES))
FLOAT64_AXES = "--arch sm_90 --dtype float64 --hidden " + ",".join(map(str, REGIMES_IN_FLOAT64))
OTHER_AXES = (
    "--arch sm_80 --cell gru --hidden 512 --dtype float32 --bidirectional true "
    "--lengths uniform:1:64"
)


@pytest.fixture(scope="module")
def sample() -> dict[str, Rows]:
    """The kernels of the few problems that every change compiles, by their axes."""
    asked = (REGIMES_AXES, FLOAT64_AXES, OTHER_AXES)
    return dict(zip(asked, inspected("triton", *asked), strict=True))


@pytest.mark.parametrize(
    ("axes", "hidden", "regime"),
    [
        *((REGIMES_AXES, *each) for each in REGIMES.items()),
        *((FLOAT64_AXES, *each) for each in REGIMES_IN_FLOAT64.items()),
    ],
    ids=[
        *(f"float16-H{hidden}" for hidden in REGIMES),
        *(f"float64-H{hidden}" for hidden in REGIMES_IN_FLOAT64),
    ],
)
def test_every_regime(axes: str, hidden: int, regime: str, sample: dict[str, Rows]) -> None:
    rows = [row for row in sample[axes] if row["problem"]["hidden_size"] == hidden]
    # Inference, a forward that saves, a backward, and one that recomputes.
    assert len(rows) == 4
    for row in rows:
        assert_clean(row)
    assert {row["regime"] for row in rows} == {regime}


def test_pointwise_in_float64_spills_nothing() -> None:
    (rows,) = inspected("pointwise", "--arch sm_90 --dtype float64 --hidden 256")
    assert len(rows) == 3
    for row in rows:
        assert row["stack_bytes"] == row["local_bytes"] == row["spill_bytes"] == 0


def test_another_cell_ragged_and_both_ways(sample: dict[str, Rows]) -> None:
    assert len(sample[OTHER_AXES]) == 4
    for row in sample[OTHER_AXES]:
        assert_clean(row)


# One program of a tile is what a batch of 1 has too: its other rows are multiplied with the rest.
STEP_SIZES = {"hidden": (128, 256, 512, 768, 1024), "batch": (1, 16, 64)}
STEP_AXES = " ".join(f"--{name} {','.join(map(str, sizes))}" for name, sizes in STEP_SIZES.items())
# A warp's HMMA makes 16 x 8 sums over 16 of k, and its FFMA 32 of one product each.
PRODUCTS = {"float16": ("HMMA", 16 * 8 * 16), "float32": ("FFMA", 32)}


@pytest.mark.parametrize("dtype", in_groups(*PRODUCTS))
def test_what_a_step_consists_of(dtype: str) -> None:
    """Products that are needed and few others; of what programs meet by, what the design says."""
    (rows,) = inspected("triton", f"--arch sm_90 {STEP_AXES} --dtype {dtype}")
    sizes = Counter((row["problem"]["hidden_size"], row["problem"]["batch"]) for row in rows)
    assert sizes == dict.fromkeys(product(*STEP_SIZES.values()), 4)
    # In 16 bits weights of all these sizes stay on chip.
    assert dtype == "float32" or "streamed" not in {row["regime"] for row in rows}
    for row in rows:
        assert_clean(row)
        assert_multiplies_once(row, *PRODUCTS[dtype])
        assert_meets_as_designed(row)


def product_of(row: dict[str, Any]) -> tuple[int, int]:
    """Columns of a program's product and its k, of a cell of three gates or four."""
    given, H = row["parameters"], row["problem"]["hidden_size"]
    H = given["units"] if row["regime"] == "own" else H
    is_forward = row["kernel"].startswith("forward")
    k = H if is_forward else CELLS[row["problem"]["cell"]].h_blocks * H
    # A loop over chunks has the product of one.
    k = given["chunk"] if row["regime"] == "streamed" else k
    return given["units"] * (4 if is_forward else 1), k


# What the gates have of their own, in a forward, a backward or one that recomputes: 8 to 13.
MOST_FFMA_OF_A_UNIT = 16


def assert_multiplies_once(row: dict[str, Any], name: str, products: int) -> None:
    """No warp multiplies what another does; the gates have few multiplications of their own."""
    given, (columns, k) = row["parameters"], product_of(row)
    needed = given["tile"] * columns * k / products / given["warps"]
    more = 0.05 * needed
    if row["regime"] == "streamed" and name == "FFMA":
        # Next to one chunk's products the gates' own are not few.
        more = MOST_FFMA_OF_A_UNIT * given["tile"] * given["units"] / row["threads"]
    found = (row["matrix_instructions"] | row["instructions"])[name]
    assert needed <= found <= needed + more, f"{row['problem']} {row['kernel']} {given}: {found}"


def assert_meets_as_designed(row: dict[str, Any]) -> None:
    """A fence and an addition a step, and barriers: the protocol's, the chunks', the sum's."""
    given, code, is_held = row["parameters"], row["instructions"], row["regime"] == "held"
    added = sum(code.get(name, 0) for name in ("RED", "REDG", "ATOM", "ATOMG"))
    assert (code.get("MEMBAR", 0), added) == (int(is_held), int(is_held)), row
    if is_held:
        _, k = product_of(row)
        of_sum = {16: 2, 32: 10}[given["tile"]]
        assert 2 <= code["BAR"] <= 2 + -(-k // given["chunk"]) + of_sum, row


# In pieces: every other H for a cell, a format and what batches take: a tile of 16 or of 32.
SIXTEEN_BITS = product(("lstm", "gru"), ("float16", "bfloat16"), ("1,16", "64"), (64, 128))


@pytest.mark.parametrize(("cell", "dtype", "batches", "first"), in_groups_of(*SIXTEEN_BITS))
def test_multiples_of_64_spill_nothing_in_16_bits(
    cell: str, dtype: str, batches: str, first: int
) -> None:
    """On sm_90; other architectures have other limits."""
    sizes = ",".join(map(str, range(first, 1025, 128)))
    axes = f"--arch sm_90 --cell {cell} --dtype {dtype} --hidden {sizes} --batch {batches}"
    (rows,) = inspected("triton", axes)
    assert len(rows) == 8 * len(batches.split(",")) * 4
    for row in rows:
        assert_clean(row)
        # An LSTM's gates follow one another in a backward's k, which is a multiple of every chunk.
        if cell == "lstm" and row["kernel"] == "backward":
            assert_multiplies_once(row, *PRODUCTS["float16"])


# Batches that would take two turns otherwise.
SHARED = {
    "sm_90": "--hidden 256,512 --batch 256 --dtype float16",
    "sm_80": "--hidden 256 --batch 128 --dtype bfloat16 --cell lstm,gru",
}


@pytest.mark.parametrize("arch", in_groups(*SHARED))
def test_two_programs_fit_on_an_sm_where_the_choice_says_so(arch: str) -> None:
    (rows,) = inspected("triton", f"--arch {arch} --bidirectional true {SHARED[arch]}")
    shared = [row for row in rows if row["parameters"]["resident"] == 2]
    assert {row["kernel"] for row in shared} == {"forward", "backward"}
    for row in shared:
        assert_clean(row)
        assert_multiplies_once(row, *PRODUCTS["float16"])
        assert row["blocks_per_sm"] >= 2
        assert prod(row["grid"]) > ARCHITECTURES[arch].sm_count


@pytest.mark.skipif(
    triton.__version__ != TRITON_VERSION or "LSTM_BENCH_TRITON" in os.environ,
    reason=f"the kernels written by hand were counted with Triton {TRITON_VERSION} only",
)
@pytest.mark.parametrize("first", in_groups(0, 1))
@pytest.mark.parametrize("axes", in_groups(*HAND_WRITTEN))
def test_generated_kernels_take_no_more_than_those_written_by_hand(axes: str, first: int) -> None:
    """Each kernel beside the one that it replaced: a program of the same work, and no larger."""
    by_hand = dict(tuple(HAND_WRITTEN[axes].items())[first::2])
    (rows,) = inspected("triton", f"{axes} --hidden {','.join(map(str, by_hand))}")
    wanted = [(H, *each) for H, counted in by_hand.items() for each in by_kernel(*counted)]
    for row, (H, kernel, program, figures) in zip(rows, wanted, strict=True):
        given, (registers, instructions) = row["parameters"], figures
        name = f"{kernel}, {row['registers']} registers: {row}"
        # With less work a program, fewer instructions would prove nothing.
        assert (given["tile"], given["units"], given["warps"]) == program, name
        assert row["spill_bytes"] == 0, name
        assert row["registers"] <= registers + MORE_REGISTERS.get((axes, H, kernel), 0), name
        assert row["instructions"]["total"] <= 1.02 * instructions, name


def by_kernel(forward: Program, backward: Program, *figures: Figures) -> list[Any]:
    """A line of the table as a triple a kernel: its name, its program, its figures."""
    return list(zip(KERNELS, (forward, forward, backward, backward), figures, strict=True))


# Pairs, not products: every size in every dtype, each on one architecture, which alternates.
# docs/triton-machine-code.md, made by `make kernel-page`, has them all.
@pytest.mark.slow
@pytest.mark.parametrize("first", in_groups(0, 1))
@pytest.mark.parametrize("dtype", in_groups(*DTYPES))
def test_lstm_at_every_size(dtype: str, first: int) -> None:
    arch = ARCHS[(DTYPES.index(dtype) + first) % 2]
    sizes = HIDDEN[first::2]
    (rows,) = inspected(
        "triton", f"--arch {arch} --hidden {','.join(map(str, sizes))} --dtype {dtype}"
    )
    assert len(rows) == len(sizes) * 4
    for row in rows:
        assert_clean(row)


@pytest.mark.slow
@pytest.mark.parametrize("cell", in_groups(*OTHER_CELLS))
def test_other_cells(cell: str) -> None:
    sizes = (64, 512, 2048)
    asked = [
        f"--arch {ARCHS[(OTHER_CELLS.index(cell) + place) % 2]} --cell {cell} --hidden {hidden} "
        "--dtype float16"
        for place, hidden in enumerate(sizes)
    ]
    for rows in inspected("triton", *asked):
        # An RNN has no gates that a forward could save.
        assert len(rows) == (4 if cell == "gru" else 2)
        for row in rows:
            assert_clean(row)


# Each on one architecture, in one dtype: H of all regimes.
@pytest.mark.slow
@pytest.mark.parametrize(
    "cell", in_groups(*(name for name in POINTWISE if name not in TORCH_CELLS))
)
def test_cells_that_pytorch_has_not(cell: str) -> None:
    place = list(CELLS).index(cell)
    axes = f"--cell {cell} --arch {ARCHS[place % 2]} --dtype {DTYPES[place % len(DTYPES)]}"
    (rows,) = inspected("triton", f"{axes} --hidden 32,64,512,2048")
    # Weights of few gates in 16 bits are held on chip at H=2048, too; others are streamed there.
    wanted = {"own", "held"} if CELLS[cell].h_blocks else {"alone"}
    assert wanted <= {row["regime"] for row in rows} <= wanted | {"streamed"}
    assert {row["constants"]["CELL"] for row in rows} == {cell}
    for row in rows:
        assert_clean(row)


@pytest.mark.slow
def test_both_directions_ragged_and_tf32() -> None:
    axes = "--arch sm_90 --hidden 512 --dtype float32 --precision tf32"
    (rows,) = inspected("triton", f"{axes} --bidirectional true --lengths uniform:1:64")
    for row in rows:
        assert_clean(row)
        assert row["matrix_instructions"].get("HMMA", 0) > 0


@pytest.fixture(scope="module")
def told() -> Any:
    return run(str(SUPPORT / "fused_triton_facts.py"))


def test_a_new_length_or_batch_compiles_nothing(told: Any) -> None:
    for pass_name, keys in told["keys"].items():
        assert len(set(keys["same tile"])) == 1, pass_name
        # The proof that keys can differ: another H is another kernel.
        assert keys["other H"] not in keys["same tile"], pass_name


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("pass_name", ["forward", "backward"])
def test_programs_meet_by_release_and_acquire(told: Any, pass_name: str, arch: str) -> None:
    """Poll, barrier, gather; stores, barrier, arrival: in PTX, and in the machine code's order."""
    orders = told["orders"][f"{pass_name} {arch}"]
    for kinds in orders.values():
        assert kinds.count("arrival") == 1, kinds
        poll, arrival = last(kinds, "poll"), kinds.index("arrival")
        gathers = [place for place, kind in enumerate(kinds) if kind == "gather"]
        stores = [place for place, kind in enumerate(kinds[:arrival]) if kind == "store"]
        assert gathers, kinds
        assert "barrier" in kinds[poll : min(gathers)], kinds
        assert max(gathers) < max(stores), kinds
        assert "barrier" in kinds[max(stores) : arrival], kinds
    sass = orders["sass"]
    assert "fence" in sass[last(sass[: sass.index("arrival")], "barrier") : sass.index("arrival")]


def last(kinds: list[str], kind: str) -> int:
    """The last place of one."""
    return len(kinds) - 1 - kinds[::-1].index(kind)


def test_a_poll_acquires_and_ends_in_a_trap(told: Any) -> None:
    for pass_name, ptx in told["ptx"].items():
        lines = [line.strip() for line in ptx.splitlines()]
        polls = [line for line in lines if line.startswith("ld.acquire.gpu.global")]
        traps = [line for line in lines if line.startswith("trap")]
        adds = [line for line in lines if "atom" in line and "release" in line and "gpu" in line]
        assert len(polls) == len(traps) == len(adds) == 1, pass_name


def test_a_kernel_that_never_waits_has_no_flags(told: Any) -> None:
    assert "ld.acquire" not in told["own ptx"]
    assert "trap" not in told["own ptx"]
