"""Time stamps in numba_cpu's kernels: in those compiled for it alone, and no others.

Compiled in processes of their own, for a CPU of LLVM's.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

from compiled_elsewhere import AARCH64, X86_64
from other_cpus import answer, assembly
from places import ROOT

STAMP = re.compile(r"^ +(clock_starts|stamp)\(a, .*\)\n", re.MULTILINE)
# How many stamps the sources have, at least: else the pattern finds them no more.
STAMPS = 50
# What differs from one process to the next, in the name of every function.
UNIQUE = re.compile(r"\.([0-9a-f]{32})")
CPU = "sapphirerapids"
KERNELS = [
    ("forward", "float32", "lstm", "fma"),
    ("backward", "float32", "lstm", "fma"),
    ("forward", "bfloat16", "lstm", "amx"),
    ("backward", "bfloat16", "gru", "dot"),
    ("forward_w8", "float32", "lstm", "fma"),
    ("forward_normed", "float32", "lstm_layernorm", "fma"),
    ("backward_normed", "float32", "lstm_layernorm", "fma"),
    ("forward_normed", "float32", "lstm_batchnorm", "fma"),
    ("backward_normed", "float32", "lstm_batchnorm", "fma"),
]


def same_names(text: str) -> str:
    """An assembly whose functions are called by when they come first."""
    found: dict[str, int] = {}
    return UNIQUE.sub(lambda name: f".{found.setdefault(name[1], len(found))}", text)


def without_stamps(folder: Path) -> None:
    """Write the kernels' package there, without a stamp in its sources."""
    package = folder / "lstm_kernels"
    shutil.copytree(ROOT / "kernels" / "lstm_kernels", package)
    removed = 0
    for source in (package / "backends" / "numba_cpu").glob("*.py"):
        text, count = STAMP.subn("", source.read_text())
        source.write_text(text)
        removed += count
    assert removed >= STAMPS


@pytest.mark.parametrize(
    "kernel",
    [KERNELS[0], *(pytest.param(kernel, marks=pytest.mark.slow) for kernel in KERNELS[1:])],
    ids="-".join,
)
def test_a_kernel_is_what_it_would_be_without_stamps(
    kernel: tuple[str, ...], tmp_path: Path
) -> None:
    without_stamps(tmp_path)
    asked = ("numba_cpu_code.py", X86_64, CPU, "", json.dumps([kernel]))
    (here,), (bare,) = answer(*asked), answer(*asked, sources=str(tmp_path))
    assert len(here.splitlines()) > 1000
    assert same_names(here) == same_names(bare)
    assert not re.search("rdtsc|omp_get_wtime", here)


def test_a_noted_kernel_reads_the_counter_behind_a_fence() -> None:
    (text,) = assembly(X86_64, CPU, ("noted_forward", "float32", "lstm"))
    lines = [line.split()[0] for line in text.splitlines() if line.startswith("\t")]
    reads = [at for at, word in enumerate(lines) if word == "rdtsc"]
    assert len(reads) > 5
    assert {lines[at - 1] for at in reads} == {"lfence"}
    assert "omp_get_wtime" in text


@pytest.mark.slow
def test_on_an_arm_it_reads_a_counter_that_programs_may_read() -> None:
    (text,) = assembly(AARCH64, "generic", ("noted_backward", "float32", "lstm"))
    lines = [line.split() for line in text.splitlines() if line.startswith("\t")]
    reads = [at for at, words in enumerate(lines) if words[0] == "mrs"]
    assert len(reads) > 5
    assert {words[2].lower() for words in (lines[at] for at in reads)} == {"cntvct_el0"}
    assert {lines[at - 1][0] for at in reads} == {"isb"}
