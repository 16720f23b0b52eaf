"""Who runs any cell, and the cells that PyTorch has not: what tests of both are run for."""

from collections.abc import Collection
from typing import Any

import interpreted
import pytest

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.registry import TORCH_CELLS

VARIANTS = [name for name in lk.CELLS if name not in TORCH_CELLS]


def of_any_cell() -> list[str]:
    """The backends that run any on a CPU, interpreted or not, and whose packages are here."""
    return [
        b.name
        for b in registry.registered().values()
        if b.any_cell and b.raced and not registry.missing(b.name)
        if "cpu" in b.devices or b.interpreter in interpreted.VARIABLES
    ]


def any_cell_backends(*, fast: Collection[str]) -> list[Any]:
    """The same, run for by every change where they are `fast`."""
    return [pytest.param(on, marks=() if on in fast else pytest.mark.slow) for on in of_any_cell()]


def variants(*, fast: Collection[str]) -> list[Any]:
    """Each variant on each backend that runs it, by every change on those that are `fast`."""
    return [
        pytest.param(on, of, marks=() if on in fast else pytest.mark.slow)
        for on in of_any_cell()
        for of in VARIANTS
        if not registry.unknown_kind(on, lk.Problem(of, 1, 1, 1, 1))
    ]
