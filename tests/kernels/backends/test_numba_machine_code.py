"""The Numba CUDA kernels' machine code: weights on chip, nothing spilled, no GPU needed.

Compiled in processes of their own, since this one simulates kernels.
"""

import re
from typing import Any

import numpy as np
import pytest
from compiling import inspected, run
from places import SUPPORT

from lstm_kernels.cells import CELLS
from lstm_kernels.gpu.machine_code import ARCHITECTURES

pytest.importorskip("numba_cuda", reason="needs numba-cuda")
pytest.importorskip("triton", reason="needs the tools that Triton's wheel carries")

# One worker compiles for all that share a fixture.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("numba machine code")]


def assert_clean(row: dict[str, Any]) -> None:
    """What every kernel owes: no spill, fits; weights on chip, all blocks of `held` at once."""
    name = f"{row['arch']} {row['problem']} {row['kernel']} {row['parameters']}"
    assert row["stack_bytes"] == row["local_bytes"] == row["spill_bytes"] == 0, name
    assert row["shared_bytes"] <= ARCHITECTURES[row["arch"]].shared_per_block, name
    assert not row["matrix_instructions"], name
    # No fence, and nobody counts.
    code = row["instructions"]
    assert not {"MEMBAR", "RED", "ATOM", "ATOMG", "ERRBAR", "CCTL", "REDG"}.intersection(code), name
    if row["regime"] == "streamed":
        assert row["weight_loads"] == 0, name
        assert "BAR" not in code, name
        assert "LDG.STRONG" not in code, name
        return
    # After the gather, and after the products.
    assert code["BAR"] == 2, name
    # Four vectors at once, each by 16 bytes, and one element at a time, whose first round may stand
    # apart; and what others wait for.
    fours = 8 if row["problem"]["dtype"] == "float64" else 4
    assert fours < code["LDG.STRONG"] <= fours + 2, name
    slots = len(CELLS[row["problem"]["cell"]].slots)
    assert code["STG.STRONG"] == (slots if "backward" in row["kernel"] else 1), name
    assert row["grid_is_resident"], name
    in_registers, in_shared = (row["parameters"][key] for key in ("registers", "in_shared"))
    # Those that shared memory holds are loaded in a loop, but before the steps.
    assert row["weight_loads"] - row["weight_loads_in_loop"] == in_registers, name
    assert (row["weight_loads_in_loop"] > 0) == (in_shared > 0), name
    assert row["weight_loads_in_step_loop"] == 0, name
    multiplications = "DFMA" if row["problem"]["dtype"] == "float64" else "FFMA"
    assert row["instructions"][multiplications] >= in_registers, name


CELLS_AXES = (
    "--dtype float32 --arch sm_80,sm_90 --cell lstm,gru,rnn_tanh,rnn_relu --hidden 1024 --batch 1"
)
LSTM_AXES = "--dtype float32 --arch sm_80,sm_90 --hidden 256,768,1536 --batch 4"
# With more values a unit than an LSTM, and fewer; registers full, and weights in shared memory.
VARIANTS = "--arch sm_80,sm_90 --cell lstm_peephole,lstm_cifg,slstm,ugrnn,indrnn --batch 1"
VARIANTS_AXES = f"--dtype float32 --hidden 1024,1152 {VARIANTS}"
VARIANTS_FLOAT64_AXES = f"--dtype float64 --hidden 512,640 {VARIANTS}"
RAGGED_AXES = (
    "--dtype float32 --arch sm_80,sm_90 --cell gru --hidden 512 --batch 8 "
    "--bidirectional true --lengths uniform:1:64"
)
# What every change compiles, in one process: registers full, a regime of each, ragged both ways.
FAST_CELLS_AXES = "--dtype float32 --arch sm_90 --cell lstm,rnn_relu --hidden 1024 --batch 1"
FAST_LSTM_AXES = "--dtype float32 --arch sm_80 --hidden 1536 --batch 4"
FAST_RAGGED_AXES = RAGGED_AXES.replace("sm_80,sm_90", "sm_80")
# Registers full, and some weights in shared memory beside them.
FLOAT64_AXES = (
    "--dtype float64 --arch sm_80,sm_90 --cell lstm,gru,rnn_tanh,rnn_relu --hidden 512,640 "
    "--batch 1"
)
FAST_FLOAT64_AXES = "--dtype float64 --arch sm_90 --hidden 512,640 --batch 1"


@pytest.fixture(scope="module")
def sample() -> dict[str, list[dict[str, Any]]]:
    """The kernels of the few problems that every change compiles, by their axes."""
    asked = (FAST_CELLS_AXES, FAST_LSTM_AXES, FAST_RAGGED_AXES, FAST_FLOAT64_AXES)
    return dict(zip(asked, inspected("numba_cuda", *asked), strict=True))


def regimes_of_clean(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int, str], str]:
    """Every kernel's regime, by architecture, cell, H and name; all of them are clean."""
    regimes: dict[tuple[str, str, int, str], str] = {}
    for row in rows:
        assert_clean(row)
        problem = row["problem"]
        place = (row["arch"], problem["cell"], problem["hidden_size"], row["kernel"])
        # The inference's kernel is the training forward's too.
        assert place not in regimes
        regimes[place] = row["regime"]
    return regimes


def test_registers_full(sample: dict[str, list[dict[str, Any]]]) -> None:
    regimes = regimes_of_clean(sample[FAST_CELLS_AXES])
    assert len(regimes) == 2 * 2
    assert set(regimes.values()) == {"held"}


def test_a_layer_too_large_for_one_architecture(sample: dict[str, list[dict[str, Any]]]) -> None:
    regimes = regimes_of_clean(sample[FAST_LSTM_AXES])
    assert regimes["sm_80", "lstm", 1536, "forward_step"] == "streamed"


def test_both_directions_and_ragged(sample: dict[str, list[dict[str, Any]]]) -> None:
    regimes = regimes_of_clean(sample[FAST_RAGGED_AXES])
    assert len(regimes) == 2
    assert set(regimes.values()) == {"held"}


def test_float64_in_registers_and_beside_shared_memory(
    sample: dict[str, list[dict[str, Any]]],
) -> None:
    regimes = regimes_of_clean(sample[FAST_FLOAT64_AXES])
    assert len(regimes) == 2 * 2
    assert set(regimes.values()) == {"held"}


@pytest.mark.slow
@pytest.mark.xdist_group("numba every float64")
def test_every_cell_in_float64() -> None:
    (cells,) = map(regimes_of_clean, inspected("numba_cuda", FLOAT64_AXES))
    assert len(cells) == 2 * 4 * 2 * 2
    assert set(cells.values()) == {"held"}


@pytest.mark.slow
@pytest.mark.xdist_group("numba every cell")
def test_every_cell_and_ragged() -> None:
    cells, ragged = map(regimes_of_clean, inspected("numba_cuda", CELLS_AXES, RAGGED_AXES))
    assert len(cells) == 2 * 4 * 2
    assert set(cells.values()) == {"held"}
    assert set(ragged.values()) == {"held"}


@pytest.mark.slow
@pytest.mark.xdist_group("numba variants")
@pytest.mark.parametrize("axes", [VARIANTS_AXES, VARIANTS_FLOAT64_AXES])
def test_every_variant(axes: str) -> None:
    (cells,) = map(regimes_of_clean, inspected("numba_cuda", axes))
    assert len(cells) == 2 * 5 * 2 * 2
    # It makes no product with h.
    streamed = {place[1] for place, regime in cells.items() if regime == "streamed"}
    assert streamed == {"indrnn"}


@pytest.mark.slow
@pytest.mark.xdist_group("numba every size")
def test_every_size() -> None:
    (lstm,) = map(regimes_of_clean, inspected("numba_cuda", LSTM_AXES))
    assert len(lstm) == 2 * 3 * 2
    assert {lstm[place] for place in lstm if place[2] < 1024} == {"held"}
    assert lstm["sm_90", "lstm", 1536, "forward"] == "held"
    assert lstm["sm_80", "lstm", 1536, "forward_step"] == "streamed"


@pytest.fixture(scope="module")
def told() -> Any:
    return run(str(SUPPORT / "fused_numba_cuda_facts.py"))


def test_a_new_length_or_batch_compiles_nothing(told: Any) -> None:
    for pass_name, code in told["code"].items():
        assert len(set(code["same"])) == 1, pass_name
        # The proof that it can differ: another H is another kernel.
        assert code["other H"] not in code["same"], pass_name


# By dtype what polls four elements and one, and what tells one.
POLLS_AND_STORES = {
    "ptx": (
        "ld.relaxed.gpu.global.v4.f32",
        "ld.relaxed.gpu.global.f32",
        "st.relaxed.gpu.global.f32",
    ),
    "float64 ptx": (
        "ld.relaxed.gpu.global.v2.f64",
        "ld.relaxed.gpu.global.f64",
        "st.relaxed.gpu.global.f64",
    ),
}


def lines_of(ptx: str) -> list[str]:
    """Instructions and labels."""
    lines = (line.strip() for line in ptx.splitlines())
    return [line for line in lines if line and not line.startswith(("//", ".loc", ".file"))]


@pytest.mark.parametrize("which", POLLS_AND_STORES)
def test_blocks_tell_each_other_by_relaxed_accesses_that_loops_repeat(
    told: Any, which: str
) -> None:
    four, one, store = POLLS_AND_STORES[which]
    for pass_name, ptx in told[which].items():
        lines = lines_of(ptx)
        at = {
            text: [number for number, line in enumerate(lines) if line.startswith(text)]
            for text in (four, one, store, "trap", "bar.sync")
        }
        assert at[four], pass_name
        assert at[one], pass_name
        # A float64's four are two loads.
        assert len(at[four]) % (2 if "v2" in four else 1) == 0, pass_name
        assert at[store], pass_name
        # A poll of four and one of one: each ends in a trap, if it never ends.
        assert len(at["trap"]) == 2, pass_name
        for poll in (max(at[four]), max(at[one])):
            assert is_repeated_without_a_barrier(lines, poll), pass_name
        # Nothing else orders, counts or fences.
        for text in ("membar", "fence", "atom.", "red.", "ld.acquire", "st.release", "ld.volatile"):
            assert not any(line.startswith(text) for line in lines), (pass_name, text)
        assert "ld.global.cg" not in ptx, pass_name
        assert "ld.global.nc" not in ptx, pass_name


def is_repeated_without_a_barrier(lines: list[str], place: int) -> bool:
    """Whether a branch behind an instruction goes back before it, no barrier in between."""
    for number in range(place + 1, len(lines)):
        if lines[number].startswith("bar.sync"):
            return False
        if branch := re.search(r"bra(?:\.uni)?\s+(\$\w+);", lines[number]):
            (label,) = (n for n, line in enumerate(lines) if line == f"{branch[1]}:")
            between = lines[label:number]
            if label <= place and not any(line.startswith("bar.sync") for line in between):
                return True
    return False


# By the same, how it is compared with NOT_YET, and the NaN that is told instead.
COMPARED = {
    "ptx": (f"setp.eq.s32 {np.uint32(0xFFFFA6F1).view(np.int32)}", "0f7FC00000"),
    "float64 ptx": (
        f"setp.eq.s64 {np.uint64(0xFFFFA6F1FFFFA6F1).view(np.int64)}",
        "0d7FF8000000000000",
    ),
}


@pytest.mark.parametrize("which", POLLS_AND_STORES)
def test_what_is_told_was_compared_by_its_bits(told: Any, which: str) -> None:
    """As an integer: as a number a NaN equals nothing. Another NaN stands in its place."""
    (compare, bits), instead = COMPARED[which][0].split(), COMPARED[which][1]
    store = POLLS_AND_STORES[which][2]
    for pass_name, ptx in told[which].items():
        lines = lines_of(ptx)
        for stored in (line for line in lines if line.startswith(store)):
            value = stored.split()[-1].rstrip(";")
            (made,) = (line for line in lines if re.match(rf"selp\.\w+\s+{value},", line))
            _, _, first, second, predicate = re.split(r"[\s,;]+", made)[:5]
            assert first == instead, pass_name
            (bits_of,) = (line for line in lines if re.match(rf"mov\.b\d+\s.*, {second};", line))
            register = re.split(r"[\s,;]+", bits_of)[1]
            (test,) = (line for line in lines if re.match(rf"setp\.\S+\s+{predicate},", line))
            assert test.startswith(compare), test
            assert re.search(rf", {register}, {bits};", test), test


def test_every_number_is_a_float32(told: Any) -> None:
    for ptx in (*told["ptx"].values(), *told["streamed ptx"].values(), *told["ptx of others"]):
        assert re.search(r"\.f32\b", ptx)
        assert not re.search(r"\.f64\b", ptx)


def test_every_number_of_float64_is_one(told: Any) -> None:
    for ptx in (*told["float64 ptx"].values(), *told["float64 streamed ptx"].values()):
        assert re.search(r"\.f64\b", ptx)
        assert not re.search(r"\.f32\b", ptx)


def test_a_constant_is_as_exact_as_what_it_meets(told: Any) -> None:
    def constants(ptx: str) -> set[str]:
        return set(re.findall(r"\b0[fd][0-9A-F]{8,16}\b", ptx, re.IGNORECASE))

    narrow = np.float32([0.3, 0.9]).view(np.uint32)
    wide = np.float64([0.3, 0.9]).view(np.uint64)
    forward = constants(told["constants ptx"]["forward_step"])
    assert {f"0f{bits:08X}" for bits in narrow} <= forward
    forward = constants(told["float64 constants ptx"]["forward_step"])
    assert {f"0d{bits:016X}" for bits in wide} <= forward


def test_a_kernel_that_never_waits_polls_nothing(told: Any) -> None:
    for ptx in told["streamed ptx"].values():
        assert "relaxed" not in ptx
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
