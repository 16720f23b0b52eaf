"""How far a result may be from what it should be, and an error that tells how far it was.

Errors are relative L2 norms. A bound here is at least three times the worst error seen under
ATEN_CPU_CAPABILITY=default, avx2 and avx512, MKL_ENABLE_INSTRUCTIONS=AVX2 and AVX512 and Numba for
a Haswell: sums in another order are other roundings, on every machine.
"""

import os
from collections.abc import Mapping

import torch
from torch import Tensor

# What the harness allows a backend (lstm_harness.worker.verify.TOLERANCES): inputs in that dtype,
# against float64.
LAYER = {
    "float64": 1e-12,
    "float32": 1e-5,
    "float16": 4e-3,
    "bfloat16": 3e-2,
    "tf32": 2e-3,
    "w8": 4e-2,
}
# A layer of a few units: what a narrow dtype rounds, no sum over many evens out.
FEW_UNITS = LAYER | {"float16": 4e-2, "bfloat16": 2e-1}
# One step's pointwise arithmetic, inputs and results in that dtype, against float64.
STEP = {"float64": 6e-15, "float32": 3e-6, "float16": 4e-3, "bfloat16": 3e-2}
# An activation of one number in that many of its dtype's roundings, near zero and far out.
ACTIVATION_ROUNDINGS = 8
# Two ways to the same result, both in that dtype: some 50 roundings of it, over few steps.
SAME = {"float64": 1e-12, "float32": 5e-6}
# A gradient of one element may be a sum that nearly cancels: 1e-3 of terms near 1, which float32
# cannot hold to 1e-5 of itself, torch.nn's own included. Errors are relative to no less than this.
SMALLEST_SIZE = 0.1


def relative_error(got: Tensor, want: Tensor, smallest: float = SMALLEST_SIZE) -> float:
    """The L2 norm of the difference over that of what is wanted, in float64; NaN stays NaN."""
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    expected = want.detach().double()
    difference = got.detach().to(expected.device, torch.float64) - expected
    return float(difference.norm()) / max(float(expected.norm()), smallest)


def relative_errors(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> dict[str, float]:
    """The same of every tensor, by name; one too many or too few fails."""
    assert got.keys() == want.keys()
    return {name: relative_error(got[name], tensor) for name, tensor in want.items()}


def assert_within(bound: float, errors: Mapping[str, float], case: object = "") -> None:
    """No error is over the bound, nor NaN; a failure tells the case, its errors and the bound.

    The case is the running test, where none is given.
    """
    over = {name: error for name, error in errors.items() if not error <= bound}
    where = case or os.environ.get("PYTEST_CURRENT_TEST", "here")
    assert not over, f"{where}: relative errors over the bound of {bound:g}: {over}"
