"""Tests of numba_cpu whose kernels multiply with AMX, on a CPU with AVX512-BF16 that has no AMX.

    python -m pytest -p on_amx -p no:faulthandler --amx FOLDER TESTS

Numba's variables name a CPU with AMX. Kernels run in this process; where one comes to an
instruction on tiles, amx_emulator.c does it. pytest's faulthandler would end the process there.
"""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

COMPILER = "cc"
_SOURCE = Path(__file__).with_name("amx_emulator.c")


def emulate(folder: str) -> None:
    """From now on this process has AMX; before a kernel is imported."""
    library = Path(folder) / "amx_emulator.so"
    flags = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC")
    subprocess.run([COMPILER, *flags, "-o", str(library), str(_SOURCE)], check=True)
    ctypes.CDLL(str(library)).emulate_amx()
    features = {**llvm.get_host_cpu_features(), "amx-tile": True, "amx-bf16": True}
    llvm.get_host_cpu_features = lambda: features
    from lstm_kernels.backends.numba_cpu import pairing

    pairing._may_use_tiles = lambda: True
    assert pairing.product_of("bfloat16").name == "amx"


def pytest_addoption(parser: Any) -> None:
    """Where the emulator may be compiled."""
    parser.addoption("--amx", help="a folder for a library")


def pytest_configure(config: Any) -> None:
    """Before a test module is imported."""
    emulate(config.getoption("amx"))
