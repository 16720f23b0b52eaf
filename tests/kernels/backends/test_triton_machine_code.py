"""The Triton kernels' machine code: on chip where it is said to be, nothing spilled, no GPU needed.

Compiled in processes of their own, since this one interprets kernels.
"""

from typing import Any

import pytest
from compiling import inspected, run
from places import SUPPORT

from lstm_kernels.gpu.machine_code import ARCHITECTURES

HIDDEN = (64, 128, 256, 512, 768, 1024, 2048)
# Each of the three is compiled for sm_90, in 16 bits: at which H.
REGIMES = {64: "own", 768: "held", 2048: "streamed"}

pytest.importorskip("triton")


def assert_clean(row: dict[str, Any]) -> None:
    """What every kernel owes: no spill, fits; weights on chip, all programs of `held` at once."""
    name = f"{row['arch']} {row['problem']} {row['kernel']} {row['parameters']}"
    assert row["stack_bytes"] == row["local_bytes"] == row["spill_bytes"] == 0, name
    assert row["shared_bytes"] <= ARCHITECTURES[row["arch"]].shared_per_block, name
    assert row["weight_loads"] > 0, name
    if row["regime"] != "streamed":
        assert row["weight_loads_in_loop"] == 0, name
    if row["regime"] == "held":
        assert row["grid_is_resident"], name
    if row["problem"]["dtype"] != "float32":
        assert sum(row["matrix_instructions"].get(n, 0) for n in ("HMMA", "HGMMA")) > 0, name


@pytest.mark.parametrize("hidden", HIDDEN, ids="H{}".format)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_lstm(arch: str, hidden: int) -> None:
    rows = inspected(
        "triton", *("--arch", arch, "--hidden", str(hidden), "--dtype", "float16,bfloat16,float32")
    )
    # Inference, a forward that saves, a backward, and one that recomputes.
    assert len(rows) == 3 * 4
    for row in rows:
        assert_clean(row)
    if arch == "sm_90" and hidden in REGIMES:
        found = {row["regime"] for row in rows if row["problem"]["dtype"] == "float16"}
        assert found == {REGIMES[hidden]}


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
def test_other_cells(cell: str) -> None:
    rows = inspected(
        "triton",
        *("--arch", "sm_80,sm_90", "--cell", cell, "--hidden", "64,512,2048", "--dtype", "float16"),
    )
    for row in rows:
        assert_clean(row)


def test_both_directions_ragged_and_tf32() -> None:
    rows = inspected(
        "triton",
        *("--arch", "sm_90", "--hidden", "512", "--dtype", "float32", "--precision", "tf32"),
        *("--bidirectional", "true", "--lengths", "uniform:1:64"),
    )
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
