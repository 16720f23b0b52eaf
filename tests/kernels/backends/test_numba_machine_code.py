"""The Numba CUDA kernels' machine code: weights on chip, nothing spilled, no GPU needed.

Compiled in processes of their own, since this one simulates kernels.
"""

import re
from typing import Any

import pytest
from compiling import inspected, run
from places import SUPPORT

from lstm_kernels.gpu.machine_code import ARCHITECTURES

pytest.importorskip("numba_cuda", reason="needs numba-cuda")
pytest.importorskip("triton", reason="needs the tools that Triton's wheel carries")


def assert_clean(row: dict[str, Any]) -> None:
    """What every kernel owes: no spill, fits; weights on chip, all blocks of `held` at once."""
    name = f"{row['arch']} {row['problem']} {row['kernel']} {row['parameters']}"
    assert row["stack_bytes"] == row["local_bytes"] == row["spill_bytes"] == 0, name
    assert row["shared_bytes"] <= ARCHITECTURES[row["arch"]].shared_per_block, name
    assert not row["matrix_instructions"], name
    if row["regime"] == "streamed":
        assert row["weight_loads"] == 0, name
        return
    assert row["grid_is_resident"], name
    in_registers, in_shared = (row["parameters"][key] for key in ("registers", "in_shared"))
    # Those that shared memory holds are loaded in a loop, but before the steps.
    assert row["weight_loads"] - row["weight_loads_in_loop"] == in_registers, name
    assert (row["weight_loads_in_loop"] > 0) == (in_shared > 0), name
    assert row["weight_loads_in_step_loop"] == 0, name
    assert row["instructions"]["FFMA"] >= in_registers, name


def regimes_of_clean(*axes: str) -> dict[tuple[str, str, int, str], str]:
    """Every kernel's regime, by architecture, cell, H and name; all of them are clean."""
    found = {}
    for row in inspected("numba_cuda", "--dtype", "float32", *axes):
        assert_clean(row)
        problem = row["problem"]
        place = (row["arch"], problem["cell"], problem["hidden_size"], row["kernel"])
        # The inference's kernel is the training forward's too.
        assert place not in found
        found[place] = row["regime"]
    return found


def test_every_cell_with_registers_full() -> None:
    cells = "lstm,gru,rnn_tanh,rnn_relu"
    found = regimes_of_clean(
        *("--cell", cells, "--arch", "sm_80,sm_90", "--hidden", "1024", "--batch", "1")
    )
    assert len(found) == 2 * 4 * 2
    assert set(found.values()) == {"held"}


def test_lstm_of_other_sizes() -> None:
    found = regimes_of_clean(*("--arch", "sm_80,sm_90", "--hidden", "256,768,1536", "--batch", "4"))
    assert len(found) == 2 * 3 * 2
    assert {found[place] for place in found if place[2] < 1024} == {"held"}
    assert found["sm_90", "lstm", 1536, "forward"] == "held"
    assert found["sm_80", "lstm", 1536, "forward_step"] == "streamed"


def test_both_directions_and_ragged() -> None:
    found = regimes_of_clean(
        *("--cell", "gru", "--arch", "sm_80,sm_90", "--hidden", "512", "--batch", "8"),
        *("--bidirectional", "true", "--lengths", "uniform:1:64"),
    )
    assert set(found.values()) == {"held"}


@pytest.fixture(scope="module")
def told() -> Any:
    return run(str(SUPPORT / "fused_numba_cuda_facts.py"))


def test_a_new_length_or_batch_compiles_nothing(told: Any) -> None:
    for pass_name, code in told["code"].items():
        assert len(set(code["same"])) == 1, pass_name
        # The proof that it can differ: another H is another kernel.
        assert code["other H"] not in code["same"], pass_name


def test_blocks_meet_by_release_and_acquire(told: Any) -> None:
    for pass_name, ptx in told["ptx"].items():
        lines = [line.strip() for line in ptx.splitlines()]
        at = {
            text: [number for number, line in enumerate(lines) if line.startswith(text)]
            for text in ("ld.acquire.gpu.global", "red.release.gpu.global.add", "trap", "bar.sync")
        }
        # A loop's first round may stand apart.
        poll = max(at["ld.acquire.gpu.global"])
        (arrival,) = at["red.release.gpu.global.add"]
        assert len(at["trap"]) == 1, pass_name
        gathers = [number for number, line in enumerate(lines) if line.startswith("ld.global.cg")]
        # Poll, a barrier, then every gather; a barrier, then the arrival.
        assert any(poll < barrier < min(gathers) for barrier in at["bar.sync"]), pass_name
        assert max(gathers) < arrival, pass_name
        steps_stores = [
            number
            for number, line in enumerate(lines)
            if line.startswith("st.global") and max(gathers) < number < arrival
        ]
        assert steps_stores, pass_name
        assert any(max(steps_stores) < barrier < arrival for barrier in at["bar.sync"]), pass_name
        assert any("ld.global.cg.v4" in lines[number] for number in gathers), pass_name


def test_every_number_is_a_float32(told: Any) -> None:
    for ptx in (*told["ptx"].values(), *told["streamed ptx"].values()):
        assert re.search(r"\.f32\b", ptx)
        assert not re.search(r"\.f64\b", ptx)


def test_a_kernel_that_never_waits_has_no_flags(told: Any) -> None:
    for ptx in told["streamed ptx"].values():
        assert "ld.acquire" not in ptx
        assert "trap" not in ptx


def test_a_launch_asks_the_driver_for_what_it_is() -> None:
    told = run(str(SUPPORT / "numba_driver_calls.py"))
    # Loaded once, launched twice, PyTorch's context made current where none is.
    loads = ["cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute"]
    assert [name for name in told["calls"] if name in loads] == loads
    assert told["calls"].count("cuLaunchCooperativeKernel") == 2
    assert told["calls"][-2:] == ["cuCtxSetCurrent", "cuLaunchCooperativeKernel"]
    assert told["shape"] == [*told["grid"], told["threads"], 1, 1]
    assert (told["function"], told["stream"]) == (14, 7)
    assert told["shared_bytes"] > 0
    assert told["kinds"] == ["c_int", "c_void_p"]
    assert told["y is where the tensor is"]
    assert "forward" in told["entry"][0]
