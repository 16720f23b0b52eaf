"""A cell's step in Numba CUDA: the code generated from its definition, and the functions it calls.

`lstm_kernels.cells.code.emit` says what the functions take and return: tuples whose numbers all
have the kernel's dtype, as have the constants of a definition. Constants here are float32, and
exact: next to a float64 they become float64, while a bare 1.0 would turn every float32 that it
touches into a float64.
"""

# Device code is not Python: Numba types these functions itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import math
from functools import cache
from typing import Any

import numpy as np

from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.cells.code.emit import Dialect, compiled
from lstm_kernels.gpu.numba_launching import SIMULATED, device_function

NUMBA_CUDA = Dialect("numba_cuda", number="number({})", filled="{1}", decorator="@device_function")

# What makes a constant one of the kernel's own numbers.
NUMBERS: dict[str, Any] = {"float32": np.float32, "float64": np.float64}

# `math` would turn the simulator's NumPy numbers into Python's own. Those take the
# dtype of the other operand: next to a constant a float64 would be lost.
exp, log, tanh = (np.exp, np.log, np.tanh) if SIMULATED else (math.exp, math.log, math.tanh)

ZERO = np.float32(0.0)
ONE = np.float32(1.0)


@device_function
def sigmoid(x):
    """1 / (1 + exp(-x)), from the exponential of a negative number alone: nothing overflows."""
    e = exp(-abs(x))
    if x >= ZERO:
        return ONE / (ONE + e)
    return e / (ONE + e)


@device_function
def relu(x):
    """The greater of x and 0, or NaN: not max, which would turn one into 0."""
    return ZERO if x < ZERO else x


@device_function
def maximum(a, b):
    """The greater of two; NaN where one is."""
    return a if a > b or a != a else b


@device_function
def minimum(a, b):
    """The smaller of two; NaN where one is."""
    return a if a < b or a != a else b


@device_function
def where(condition, a, b):
    """One value where a condition holds, else the other."""
    return a if condition else b


CALLED = {
    "device_function": device_function,
    "exp": exp,
    "log": log,
    "tanh": tanh,
    "sigmoid": sigmoid,
    # Simulated, a 0 of float32 would turn later results of a float64 cell into float32.
    "relu": (lambda x: np.maximum(x, 0)) if SIMULATED else relu,
    "maximum": maximum,
    "minimum": minimum,
    "where": where,
}


@cache
def cell_code(cell: str, dtype: str) -> dict[str, Any]:
    """`next_state` and `gradients` of a cell, as device functions for numbers of a dtype."""
    return compiled(CELLS[cell], NUMBA_CUDA, CALLED | {"number": NUMBERS[dtype]})


@cache
def saved_values(cell: str) -> int:
    """How many values of a unit a step saves, in addition to its states."""
    return len(derived(CELLS[cell]).saved)


@cache
def kept_states(cell: str) -> tuple[int, ...]:
    """Which of a cell's states other than h its gradients use: they are stored each step."""
    made = derived(CELLS[cell])
    used = [b or a for b, a in zip(made.uses_before, made.uses_after, strict=True)]
    return tuple(at for at, is_used in enumerate(used) if is_used and at > 0)


@cache
def values_beside_weights(cell: str, pass_name: str) -> int:
    """How many values of a unit a thread holds while it multiplies by its weights."""
    definition, made = CELLS[cell], derived(CELLS[cell])
    if pass_name == "forward":
        return len(definition.slots) + len(definition.states) + len(definition.per_unit)
    given = len(made.saved) + sum(made.uses_before) + sum(made.uses_after) + sum(made.carries)
    # In addition to y's gradient, and each parameter and its gradient's sum.
    return given + 1 + 2 * len(definition.per_unit)
