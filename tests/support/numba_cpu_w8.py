"""int8 layers of numba_cpu in a process that compiles for another CPU than its tests'.

    python numba_cpu_w8.py CASES

CASES is a JSON list of `Problem`'s fields. Prints, as JSON, how int8 is multiplied, and of every
case a digest of y's bits and the relative error of y. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are
Numba's.
"""

import hashlib
import json
import sys
from dataclasses import replace
from typing import Any

import torch
from closeness import relative_error
from small_layers import draw, lengths_of
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.backends.numba_cpu.registers import registers


def answers(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """What is printed."""
    return {
        "int8": registers().int8,
        "vector_bytes": registers().vector_bytes,
        "layers": [_layer(lk.Problem(**case)) for case in cases],
    }


def _layer(problem: lk.Problem) -> dict[str, Any]:
    exact = replace(problem, dtype="float64", precision="ieee")
    y = _y("numba_cpu", problem, torch.float32)
    return {
        "bits": hashlib.sha256(y.numpy().tobytes()).hexdigest(),
        "error": relative_error(y, _y("reference", exact, torch.float64)),
    }


def _y(backend: str, problem: lk.Problem, dtype: torch.dtype) -> Tensor:
    """The same numbers in either dtype."""
    given = draw(replace(problem, dtype="float32"), dtype=dtype, device=torch.device("cpu"))
    with torch.no_grad():
        y, _, _ = registry.load(backend).layer(
            **given, problem=problem, lengths=lengths_of(problem)
        )
    return y


if __name__ == "__main__":
    json.dump(answers(json.loads(sys.argv[1])), sys.stdout)
