"""numba_cpu on other x86 CPUs than this one: what it is compiled for, its code, and its results.

Compiled in processes of their own, since Numba compiles for one CPU in each.
"""

import os
import re
from itertools import product
from typing import Any

import closeness
import pytest
from inner_loops import inner_loops

pytest.importorskip("numba", reason="numba_cpu needs numba")

import llvmlite.binding as llvm
import numba
from compiled_elsewhere import AARCH64, X86_64
from other_cpus import (
    CPUS,
    HOST,
    SHAPES,
    assembly,
    layers,
    python,
    variables_of,
    widest_product,
)
from pointwise_cells import POINTWISE

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu import target
from lstm_kernels.backends.numba_cpu.compiled import compiled, reason_against
from lstm_kernels.stack import Unsupported


@pytest.fixture
def compile_for(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has `target` believe that Numba compiles for a CPU, on one that has some features."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    caches = (target.has, target.reason_against, reason_against, compiled)

    def believe(triple: str, cpu: str, features: str, host: dict[str, bool]) -> None:
        monkeypatch.setattr(target, "compiled_for", lambda: (triple, cpu, features))
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: host)
        monkeypatch.setattr(numba.config, "CPU_NAME", cpu)
        monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
        for cached in caches:
            cached.cache_clear()

    yield believe
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "there", "not_there"),
    [
        (X86_64, "haswell", "", "avx2 fma sse2", "avx512f amx-bf16"),
        (X86_64, "x86-64", "", "sse2", "avx fma"),
        (X86_64, "generic", "+avx2", "avx avx2", "fma"),
        (X86_64, "sapphirerapids", "", "avx512f avx512bf16 amx-bf16", "sse4a"),
        (X86_64, "sapphirerapids", "-avx512f", "avx2 fma amx-bf16", "avx512f avx512bf16"),
        (X86_64, "sapphirerapids", "-avx2,+fma", "avx fma", "avx2 avx512f"),
        (AARCH64, "generic", "", "neon", "sve lse"),
        (AARCH64, "neoverse-n1", "", "neon lse dotprod", "sve bf16"),
        (AARCH64, "neoverse-v1", "-sve", "neon bf16", "sve"),
    ],
)
def test_features_are_llvms_own(
    triple: str, cpu: str, features: str, there: str, not_there: str, compile_for: Any
) -> None:
    compile_for(triple, cpu, features, {})
    assert [name for name in there.split() if not target.has(name)] == []
    assert [name for name in not_there.split() if target.has(name)] == []


@pytest.mark.parametrize("cpu", ["haswell", "x86-64"])
def test_a_feature_that_llvm_does_not_know_is_an_error(cpu: str, compile_for: Any) -> None:
    compile_for(X86_64, cpu, "", {})
    with pytest.raises(ValueError, match="unknown feature 'avx1024'; expected one that LLVM has"):
        target.has("avx1024")


def test_this_cpus_own_features_are_those_it_has() -> None:
    if os.environ.keys() & {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX"}:
        pytest.skip("variables have Numba compile for another CPU than this one")
    asked = {"x86_64": ("avx", "avx2", "fma", "avx512f", "avx512bf16"), "aarch64": ("neon", "sve")}
    names = asked.get(target.machine(), ())
    assert {name: target.has(name) for name in names} == {n: HOST.get(n, False) for n in names}
    assert target.reason_against() is None


def test_what_the_cpu_lacks_is_refused_by_name(compile_for: Any) -> None:
    host = {"avx2": True, "avx512f": False, "avx512bw": False, "sse4a": False, "clwb": False}
    compile_for(X86_64, "skylake-avx512", "", host)
    reason = registry.unsupported("numba_cpu", lk.Problem("lstm", 2, 2, 2, 2), "cpu")
    assert reason == (
        "NUMBA_CPU_NAME='skylake-avx512' with NUMBA_CPU_FEATURES='' asks for avx512bw, avx512f, "
        "which this CPU does not have; unset NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, or add "
        "-avx512bw,-avx512f to NUMBA_CPU_FEATURES"
    )
    with pytest.raises(Unsupported, match="asks for avx512bw, avx512f"):
        compiled("forward", "float32", "fma", "lstm")
    # The error's own advice; no kernel is made of clwb.
    compile_for(X86_64, "skylake-avx512", "-avx512bw,-avx512f", host)
    assert registry.unsupported("numba_cpu", lk.Problem("lstm", 2, 2, 2, 2), "cpu") is None


def test_of_an_arm_llvm_tells_only_what_is_there(compile_for: Any) -> None:
    host = {"neon": True, "crc": True, "lse": True}
    compile_for(AARCH64, "neoverse-n1", "", host)
    assert target.reason_against() is None
    compile_for(AARCH64, "neoverse-v1", "", host)
    reason = target.reason_against()
    assert reason is not None
    assert "asks for sve, which this CPU does not have" in reason


LAYER = """
import torch, lstm_kernels as lk
lk.LSTM(3, 5, backend="numba_cpu")(torch.randn(2, 1, 3))
"""


def test_a_layer_ends_in_one_clear_error_where_the_cpu_lacks_something() -> None:
    lacked = [name for name in ("sse4a", "xop", "avx512f", "sve") if HOST.get(name) is False]
    if not lacked:
        pytest.skip("LLVM names no feature that this CPU lacks")
    done = python("-c", LAYER, NUMBA_CPU_FEATURES=f"+{lacked[0]}")
    assert done.returncode == 1, done
    last = done.stderr.strip().splitlines()[-1]
    assert "Unsupported: backend 'numba_cpu': NUMBA_CPU_FEATURES=" in last
    # What a feature brings with it lacks too.
    assert re.search(rf"asks for [\w, ]*\b{lacked[0]}, which this CPU does not have", last)


def test_a_name_alone_changes_no_features() -> None:
    cpus = {"x86_64": "x86-64", "aarch64": "cortex-a57"}
    if target.machine() not in cpus:
        pytest.skip(f"no small CPU of {target.machine()} is known here")
    with_name, own = (
        layers([], **some) for some in ({"NUMBA_CPU_NAME": cpus[target.machine()]}, {})
    )
    assert with_name["target"][1] != own["target"][1]
    assert {**with_name, "target": None} == {**own, "target": None}


def check_layers(cpu: str, cells: list[str], dtype: str, shapes: Any = SHAPES) -> None:
    """Layers of those cells on another CPU are within their dtype's bound, the same every time."""
    variables, expected = variables_of(cpu), CPUS[cpu][2]
    cases = [shape | {"cell": cell, "dtype": dtype} for cell, shape in product(cells, shapes)]
    told = layers(cases, **variables)
    assert {name: told[name] for name in expected} == expected
    assert len(told["layers"]) == len(cases)
    for case, found in zip(cases, told["layers"], strict=True):
        closeness.assert_within(closeness.LAYER[dtype], found["errors"], (cpu, case))
        assert found["same_bits"], (cpu, case)


@pytest.mark.slow
def test_an_lstm_on_avx2() -> None:
    check_layers("x86-64-v3", ["lstm"], "float32", SHAPES[1:4])


@pytest.mark.slow
def test_a_plain_cell_on_sse2() -> None:
    check_layers("x86-64", ["rnn_tanh"], "float32", SHAPES[1:4])


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "dtype"), [("x86-64-v3", "float32"), ("x86-64", "float64")])
def test_every_cell(cpu: str, dtype: str) -> None:
    check_layers(cpu, POINTWISE, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "dtype"),
    [
        ("x86-64-v3", "float64"),
        ("x86-64", "float32"),
        ("haswell", "float32"),
        ("without AVX-512", "float32"),
        ("without AVX-512", "float64"),
        ("AVX without FMA", "float32"),
        ("AVX without FMA", "float64"),
    ],
)
def test_two_cells(cpu: str, dtype: str) -> None:
    check_layers(cpu, ["lstm", "gru"], dtype)


# Rows of the product's tile.
ROWS = {"x86-64-v3": 3, "x86-64-v4": 6}


def check_product(cpu: str, *kernels: tuple[str, str, str]) -> None:
    """The products of those kernels keep their sums in registers, and use all of them."""
    for name, text in zip(kernels, assembly(X86_64, cpu, *kernels), strict=True):
        pass_name, _, cell = name
        loops = inner_loops(text)
        whole_tile = ROWS[cpu] * widest_product(pass_name, cell)
        assert whole_tile in {loop.accumulators for loop in loops}, name
        assert [loop for loop in loops if loop.on_stack] == [], name
        assert re.findall(r"\bfmaf?\b", text) == []
        widths = set(re.findall(r"vfn?madd.*%([xyz])mm", text))
        assert widths == {"z" if cpu == "x86-64-v4" else "y"}


def test_the_product_does_not_spill_on_avx2() -> None:
    check_product("x86-64-v3", ("forward", "float32", "lstm"))


@pytest.mark.slow
@pytest.mark.parametrize("cpu", ROWS)
def test_no_product_spills(cpu: str) -> None:
    kernels = product(("forward", "backward"), ("float32", "float64"), ("lstm", "gru"))
    check_product(cpu, *kernels)


@pytest.mark.slow
def test_without_fma_nothing_calls_libm() -> None:
    cells = product(("forward", "backward"), ("float32", "float64"), ("lstm",))
    for text in assembly(X86_64, "x86-64", *cells):
        assert re.findall(r"\bfmaf?\b", text) == []
        assert re.search(r"\bmulp[sd]\b", text)
