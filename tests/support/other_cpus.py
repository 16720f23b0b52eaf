"""Processes that compile numba_cpu for another CPU than this one, and layers to run there."""

import json
import os
import subprocess
import sys
from typing import Any

from places import ROOT, SUPPORT

from lstm_kernels.backends.numba_cpu.cell_layout import layout_of
from lstm_kernels.backends.numba_cpu.tile import VECTORS
from lstm_kernels.cells import CELLS

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
