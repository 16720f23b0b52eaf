"""numba_cpu on AArch64: compiled for it at every change; linked, and run by an emulator, if here.

The emulator shows that results are right, and the same on one thread and on two. Its memory is
this machine's, which keeps more in order than an Arm's has to: of the order in which threads see
each other's writes there are the instructions alone.
"""

import json
import re
from itertools import product
from pathlib import Path

import closeness
import pytest
from inner_loops import inner_loops

pytest.importorskip("numba", reason="numba_cpu needs numba")

from compiled_elsewhere import AARCH64
from other_cpus import SHAPES, answer, assembly, needs_emulator, widest_product
from pointwise_cells import POINTWISE

# What a kernel may call; the rest is its own functions and what Numba has an exception call.
CALLED = {"omp_get_thread_num", "omp_get_num_threads", "usleep", "memset", "memcpy"}
OF_NUMBA = re.compile(r"lstm_kernels\.|_ZN|cfunc\.|Py|NRT_|numba_")


def check_code(cpu: str, *kernels: tuple[str, str, str]) -> None:
    """Those kernels' products are fused and do not spill; threads wait and fetch as they should."""
    for name, text in zip(kernels, assembly(AARCH64, cpu, *kernels), strict=True):
        pass_name, dtype, cell = name
        loops = inner_loops(text)
        whole_tile = 6 * widest_product(pass_name, cell)
        assert whole_tile in {loop.accumulators for loop in loops}, name
        assert [loop for loop in loops if loop.on_stack] == [], name
        kind = "4s" if dtype == "float32" else "2d"
        assert set(re.findall(r"\bfmla\s+v\d+\.(\d\w)", text)) == {kind}
        calls = re.findall(r"^\s+b(?:l|r)?\s+\"?([A-Za-z_][\w.]*)", text, re.MULTILINE)
        assert {name for name in calls if not OF_NUMBA.match(name)} - CALLED == set()
        # A flag is written after all before it and read before all behind it.
        written = set(re.findall(r"\b(ld\w*ar|ld\w*apr|stlr|yield|prfm|dmb)\b", text))
        assert written in ({"ldar", "stlr", "yield", "prfm"}, {"ldapr", "stlr", "yield", "prfm"})


def test_the_forward_compiles() -> None:
    check_code("generic", ("forward", "float32", "lstm"))


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ["generic", "neoverse-n1"])
def test_kernels_compile(cpu: str) -> None:
    kernels = product(("forward", "backward"), ("float32", "float64"), ("lstm", "gru"))
    check_code(cpu, *kernels)


def check_layers(cpu: str, on: str, cell: str, dtype: str, folder: Path) -> None:
    """Layers compiled for LLVM's CPU are right on the emulator's, the same on two threads."""
    needs_emulator()
    cases = [shape | {"cell": cell, "dtype": dtype} for shape in SHAPES]
    told = answer("on_aarch64.py", cpu, on, str(folder), json.dumps(cases))
    assert (told["vector_bytes"], told["registers"]) == (16, 32)
    for case, found in zip(cases, told["layers"], strict=True):
        closeness.assert_within(closeness.LAYER[dtype], found["errors"], (cpu, case))
        assert found["same_bits"], (cpu, case)


@pytest.mark.slow
@pytest.mark.parametrize("cell", POINTWISE)
def test_every_cell_emulated(cell: str, tmp_path: Path) -> None:
    check_layers("generic", "cortex-a57", cell, "float32", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_float64_emulated(cell: str, tmp_path: Path) -> None:
    check_layers("generic", "cortex-a57", cell, "float64", tmp_path)


@pytest.mark.slow
def test_an_lstm_compiled_for_an_emulated_server(tmp_path: Path) -> None:
    check_layers("neoverse-n1", "neoverse-n1", "lstm", "float32", tmp_path)
