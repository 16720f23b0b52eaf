"""The Triton kernels' machine code: on chip where it is said to be, nothing spilled, no GPU needed.

Compiled in processes of their own, since this one interprets kernels.
"""

from typing import Any

import pytest
from compiling import inspected, run
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

pytest.importorskip("triton")

# One worker compiles for all that share a fixture; what shares none is for any.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("triton machine code")]

Rows = list[dict[str, Any]]


def in_groups(*values: Any) -> list[Any]:
    """Parameters whose tests may run in different workers."""
    return [pytest.param(value, marks=pytest.mark.xdist_group(str(value))) for value in values]


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


def test_no_warp_multiplies_what_another_did() -> None:
    """Matrix instructions of a step that holds its weights, against those that it needs."""
    axes = "--arch sm_90 --dtype float16 --hidden 512,768,1024 --batch 16,64"
    (rows,) = inspected("triton", axes)
    held = [row for row in rows if row["regime"] == "held"]
    assert {row["parameters"]["tile"] for row in held} == {16, 32}
    for row in held:
        given, H = row["parameters"], row["problem"]["hidden_size"]
        is_forward = row["kernel"].startswith("forward")
        columns, k = (4 * given["units"], H) if is_forward else (given["units"], 4 * H)
        # A warp's instruction makes 16 x 8 sums over 16 of k.
        needed = given["tile"] * columns * k / (16 * 8 * 16) / given["warps"]
        found = row["matrix_instructions"]["HMMA"]
        assert found <= 1.05 * needed, f"H={H} {row['kernel']} {given}: {found} HMMA"


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


def test_programs_meet_by_release_and_acquire(told: Any) -> None:
    for pass_name, ptx in told["ptx"].items():
        lines = [line.strip() for line in ptx.splitlines()]
        polls = [i for i, line in enumerate(lines) if line.startswith("ld.acquire.gpu.global")]
        adds = [
            i
            for i, line in enumerate(lines)
            if "atom.global.gpu.release.add" in line
            or "atom.add.release.gpu.global" in line
            or "atom.release.gpu.global.add" in line
        ]
        gathers = [i for i, line in enumerate(lines) if "ld.global.cg" in line]
        barriers = [i for i, line in enumerate(lines) if line.startswith("bar.sync")]
        traps = [i for i, line in enumerate(lines) if line.startswith("trap")]
        assert len(polls) == len(traps) == 1, pass_name
        assert len(adds) == 1, pass_name
        # Poll, a barrier, then every gather; a barrier, then the arrival.
        assert any(polls[0] < barrier < min(gathers) for barrier in barriers), pass_name
        stores = [i for i, line in enumerate(lines) if "st.global" in line and i < adds[0]]
        assert any(max(stores) < barrier < adds[0] for barrier in barriers), pass_name


def test_a_kernel_that_never_waits_has_no_flags(told: Any) -> None:
    assert "ld.acquire" not in told["own ptx"]
    assert "trap" not in told["own ptx"]
