"""Processes that compile numba_cpu for another CPU than this one: layers and tests to run there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import llvmlite.binding as llvm
import on_amx
import pytest
from on_aarch64 import COMPILER, EMULATOR
from places import ROOT, SUPPORT

from lstm_kernels.backends.numba_cpu.cell_layout import layout_of
from lstm_kernels.backends.numba_cpu.tile import VECTORS
from lstm_kernels.cells import CELLS

HOST = llvm.get_host_cpu_features()
_AVX2 = ("avx2", "fma", "bmi2", "f16c", "lzcnt", "movbe")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


def _cpu(name: str, *features: str) -> dict[str, str]:
    """Numba's variables for a CPU of LLVM's and features added to it."""
    added = ",".join(f"+{feature}" for feature in features)
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": added}


def _facts(vector_bytes: int, bfloat16: str = "fma", int8: str = "") -> dict[str, Any]:
    """What numba_cpu_layers.py prints of a CPU: its vectors, and how it multiplies."""
    registers = 32 if vector_bytes == 64 else 16
    sizes = {"vector_bytes": vector_bytes, "registers": registers}
    return sizes | {"bfloat16": bfloat16, "int8": int8}


# By name: Numba's variables, the features that this machine must have for it, and what follows.
CPUS: dict[str, tuple[dict[str, str], tuple[str, ...], dict[str, Any]]] = {
    "x86-64-v3": (_cpu("x86-64-v3"), _AVX2, _facts(32, int8="words")),
    "haswell": (_cpu("haswell"), _AVX2, _facts(32, int8="words")),
    "AVX-VNNI": (
        _cpu("x86-64-v3", "avxvnni"),
        (*_AVX2, "avxvnni"),
        _facts(32, int8="vnni"),
    ),
    "without AVX-512": (
        {"NUMBA_CPU_FEATURES": "-avx512f"},
        ("avx2", "fma"),
        {"vector_bytes": 32, "registers": 16, "bfloat16": "fma"},
    ),
    "AVX without FMA": (_cpu("ivybridge"), ("avx", "f16c"), _facts(32)),
    "x86-64": (_cpu("x86-64"), ("sse2",), _facts(16)),
    "x86-64-v4": (_cpu("x86-64-v4"), _AVX512, _facts(64, int8="words")),
    "AVX512-BF16": (
        _cpu("x86-64-v4", "avx512bf16", "avx512vnni"),
        (*_AVX512, "avx512bf16", "avx512vnni"),
        _facts(64, "dot", "vnni"),
    ),
    "AMX": (
        _cpu("x86-64-v4", "avx512bf16", "avx512vnni", "amx-bf16"),
        (*_AVX512, "avx512bf16", "avx512vnni", "amx-bf16"),
        _facts(64, "amx", "vnni"),
    ),
}
# What a layer has to pass on every CPU, in tests/kernels; the last three are of numba_cpu alone.
MODULES = (
    *("test_modules.py", "test_vectors.py", "test_gradients.py"),
    *("backends/test_numba_cpu.py", "backends/test_numba_cpu_pairs.py"),
    "backends/test_numba_cpu_w8.py",
)
# Every cell's shapes run the same kernels: one step and few (weights are not packed), a unit, more
# pairs than a chunk has, ragged.
SHAPES: tuple[dict[str, Any], ...] = (
    {"seq_len": 1, "batch": 1, "input_size": 3, "hidden_size": 30},
    {"seq_len": 3, "batch": 7, "input_size": 150, "hidden_size": 257, "lengths": "uniform:0:3"},
    {"seq_len": 9, "batch": 3, "input_size": 20, "hidden_size": 37, "lengths": "uniform:0:9"},
    {"seq_len": 5, "batch": 4, "input_size": 7, "hidden_size": 1},
    {"seq_len": 3, "batch": 90, "input_size": 70, "hidden_size": 17, "bidirectional": True},
    {
        **{"seq_len": 40, "batch": 7, "input_size": 65, "hidden_size": 129},
        **{"bidirectional": True, "lengths": "uniform:1:40"},
    },
)


def variables_of(cpu: str) -> dict[str, str]:
    """Numba's variables for one of `CPUS`; skips the test where this machine cannot run it."""
    variables, needed, _ = CPUS[cpu]
    absent = [name for name in needed if not HOST.get(name)]
    if absent:
        pytest.skip(f"this CPU has no {', '.join(absent)}")
    return variables


def needs_no_amx() -> None:
    """Skip the test where AMX need not be emulated, or cannot be."""
    needed = [name for name in CPUS["AMX"][1] if name != "amx-bf16"]
    absent = [name for name in needed if not HOST.get(name)]
    if HOST.get("amx-bf16"):
        pytest.skip("this CPU has AMX itself")
    if absent or not shutil.which(on_amx.COMPILER):
        pytest.skip(f"no {', no '.join(absent) or on_amx.COMPILER} here")


def needs_emulator() -> None:
    """Skip the test where programs for AArch64 cannot be linked or run."""
    absent = [tool for tool in (COMPILER, EMULATOR) if not shutil.which(tool)]
    if absent:
        packages = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
        pytest.skip(f"no {' and no '.join(absent)} here: apt-get install {packages}")


def python(
    *arguments: str, sources: str = str(ROOT / "kernels"), **variables: str
) -> "subprocess.CompletedProcess[str]":
    """A process that has the sources, and such variables instead of any of Numba's for CPUs."""
    clean = {name: value for name, value in os.environ.items() if "NUMBA_CPU" not in name}
    roots = os.pathsep.join((sources, str(SUPPORT)))
    environment = clean | variables | {"PYTHONPATH": roots}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def answer(script: str, *arguments: str, **variables: str) -> Any:
    """What a script of this folder prints as JSON."""
    done = python(str(SUPPORT / script), *arguments, **variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def layers(cases: list[dict[str, Any]], **variables: str) -> Any:
    """What numba_cpu_layers.py tells of layers."""
    return answer("numba_cpu_layers.py", json.dumps(cases), **variables)


def passed(selected: str, folder: Path, *arguments: str, **variables: str) -> set[str]:
    """The names of `MODULES` of which tests pass in such a process; none fails.

    Args:
        selected: what pytest's -k takes.
        folder: an empty one, for pytest's report.
    """
    report = folder / "report.xml"
    tests = [str(ROOT / "tests" / "kernels" / module) for module in MODULES]
    chosen = ("-m", "not slow", "-k", selected, f"--junitxml={report}", "-p", "no:cacheprovider")
    done = python("-m", "pytest", *arguments, *chosen, *tests, **variables)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    # What was skipped has an element of its own.
    cases = [case for case in ElementTree.parse(report).iter("testcase") if len(case) == 0]
    return {str(case.get("classname")).rpartition(".")[2] for case in cases}


def assembly(triple: str, cpu: str, *kernels: tuple[str, ...]) -> list[str]:
    """The assembly of kernels, each a pass, a dtype, a cell and perhaps a product."""
    texts: list[str] = answer("numba_cpu_code.py", triple, cpu, "", json.dumps(kernels))
    return texts


def widest_product(pass_name: str, cell: str) -> int:
    """How many vectors wide a kernel's products are: a forward panel has all gates of its units."""
    if pass_name == "backward":
        return VECTORS
    layout = layout_of(CELLS[cell])
    return max(layout.x_vectors, layout.h_vectors)
