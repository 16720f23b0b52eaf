"""The gates' device functions against float64 autograd."""

import closeness
import pytest
import torch
from torch import Tensor

from lstm_kernels.common import gates

triton = pytest.importorskip("triton", reason="the gates' device functions need triton")
tl = pytest.importorskip("triton.language")
TritonError = pytest.importorskip("triton.errors").TritonError
fused_gates = pytest.importorskip("lstm_kernels.gpu.fused_gates")

# conftest has Triton interpret where there is no GPU.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GATES = {"lstm": 4, "gru": 4, "rnn_tanh": 1, "rnn_relu": 1}
SIZE = 256


@triton.jit
def curves_kernel(x, sigmoids, tanhs, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    value = tl.load(x + i)
    tl.store(sigmoids + i, fused_gates.sigmoid(value))
    tl.store(tanhs + i, fused_gates.tanh(value))


@triton.jit
def step_kernel(given, results, CELL: tl.constexpr, SIZE: tl.constexpr):
    """Reads p0 to p3, h, c, dh, dc; writes h, c, g0 to g3, d_carry, dc_before: rows of SIZE."""
    i = tl.arange(0, SIZE)
    p0 = tl.load(given + i)
    if CELL == "lstm" or CELL == "gru":
        p1 = tl.load(given + SIZE + i)
        p2 = tl.load(given + 2 * SIZE + i)
        p3 = tl.load(given + 3 * SIZE + i)
    else:
        p1 = p0
        p2 = p0
        p3 = p0
    h_before = tl.load(given + 4 * SIZE + i)
    c_before = tl.load(given + 5 * SIZE + i)
    dh = tl.load(given + 6 * SIZE + i)
    dc = tl.load(given + 7 * SIZE + i)
    h, c, s0, s1, s2, s3 = fused_gates.next_state(p0, p1, p2, p3, h_before, c_before, CELL)
    g0, g1, g2, g3, d_carry, dc_before = fused_gates.gradients(
        dh, dc, s0, s1, s2, s3, c_before, c, h_before, h, CELL
    )
    tl.store(results + i, h)
    tl.store(results + SIZE + i, c)
    tl.store(results + 2 * SIZE + i, g0)
    tl.store(results + 3 * SIZE + i, g1)
    tl.store(results + 4 * SIZE + i, g2)
    tl.store(results + 5 * SIZE + i, g3)
    tl.store(results + 6 * SIZE + i, d_carry)
    tl.store(results + 7 * SIZE + i, dc_before)


SCALES = pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e-3, 0.1, 0.625, 0.7, 3.0, 12.0, 1e4])


def curves(scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers between -scale and scale, their sigmoids and hyperbolic tangents."""
    x = torch.linspace(-scale, scale, SIZE, device=DEVICE, dtype=dtype)
    sigmoids, tanhs = torch.full((2, SIZE), torch.nan, device=DEVICE, dtype=dtype)
    curves_kernel[(1,)](x, sigmoids, tanhs, SIZE)
    return x, sigmoids, tanhs


@SCALES
def test_curves_are_right_to_float64(scale: float) -> None:
    x, sigmoids, tanhs = curves(scale, torch.float64)
    # float64 has few digits below 1e-308.
    eps = torch.finfo(torch.float64).eps
    bounds = {"rtol": closeness.ACTIVATION_ROUNDINGS * eps, "atol": 1e-307}
    torch.testing.assert_close(sigmoids, torch.sigmoid(x), **bounds)
    torch.testing.assert_close(tanhs, torch.tanh(x), **bounds)


@SCALES
def test_curves_are_right_to_float32(scale: float) -> None:
    x, sigmoids, tanhs = curves(scale, torch.float32)
    # exp(-x) is as wrong as its argument's rounding, and float32 has nothing below 1e-38.
    eps = torch.finfo(torch.float32).eps
    bounds = {"rtol": closeness.ACTIVATION_ROUNDINGS * eps, "atol": 1e-37}
    torch.testing.assert_close(sigmoids.double(), torch.sigmoid(x.double()), **bounds)
    torch.testing.assert_close(tanhs.double(), torch.tanh(x.double()), **bounds)


def test_what_is_not_finite() -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0], device=DEVICE).repeat(SIZE // 4)
    sigmoids, tanhs = torch.empty(2, SIZE, device=DEVICE)
    curves_kernel[(1,)](x, sigmoids, tanhs, SIZE)
    torch.testing.assert_close(sigmoids, torch.sigmoid(x), equal_nan=True)
    torch.testing.assert_close(tanhs, torch.tanh(x), equal_nan=True)


def step(cell: str, given: Tensor) -> dict[str, Tensor]:
    results = torch.full((8, SIZE), torch.nan, device=DEVICE, dtype=given.dtype)
    step_kernel[(1,)](given.to(DEVICE), results, cell, SIZE)
    names = ("h", "c", "g0", "g1", "g2", "g3", "d_carry", "dc_before")
    return dict(zip(names, results.double(), strict=True))


def by_autograd(cell: str, given: Tensor, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    leaves = [row.to(DEVICE, dtype).requires_grad_() for row in given]
    *p, h_before, c_before, dh, dc = leaves
    has_c = cell == "lstm"
    h, c = gates.activate(cell, p[: GATES[cell]], h_before, c_before if has_c else None, None)
    outputs = [(h, dh)] if c is None else [(h, dh), (c, dc)]
    torch.autograd.backward([y for y, _ in outputs], [dy.detach() for _, dy in outputs])
    zero = torch.zeros_like(h_before)
    named = {f"g{i}": p[i].grad for i in range(GATES[cell])}
    named["d_carry"] = zero if h_before.grad is None else h_before.grad
    named["dc_before"] = c_before.grad if has_c else dc
    named |= {"h": h, "c": c_before if c is None else c}
    return {name: tensor.detach() for name, tensor in named.items()}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_a_step_and_its_gradients_equal_autograd(cell: str, scale: float) -> None:
    given = torch.randn(8, SIZE)
    given[:4] *= scale
    ours, float32 = step(cell, given), by_autograd(cell, given, torch.float32)
    for name, expected in by_autograd(cell, given).items():
        error, torchs = (
            closeness.relative_error(result[name], expected, smallest=1e-30)
            for result in (ours, float32)
        )
        # A saturated gate's gradient is a difference that cancels, in torch's float32 as in ours.
        closeness.assert_within(max(closeness.STEP["float32"], 8 * torchs), {name: error})


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_a_step_in_float64_equals_autograd(cell: str, scale: float) -> None:
    given = torch.randn(8, SIZE, dtype=torch.float64)
    given[:4] *= scale
    found, expected = step(cell, given), by_autograd(cell, given)
    errors = {
        name: closeness.relative_error(found[name], wanted, smallest=1e-30)
        for name, wanted in expected.items()
    }
    closeness.assert_within(closeness.STEP["float64"], errors)


def test_gates_that_are_swapped_are_caught() -> None:
    given = torch.randn(8, SIZE)
    swapped = given[[1, 0, 2, 3, 4, 5, 6, 7]]
    difference = step("lstm", given)["c"] - by_autograd("lstm", swapped)["c"]
    assert difference.norm() > 0.1


def test_a_nan_is_not_hidden(cell: str) -> None:
    given = torch.randn(8, SIZE)
    given[0, 3] = torch.nan
    ours = step(cell, given)
    assert ours["h"][3].isnan()
    assert not ours["h"][:3].isnan().any()


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(TritonError, match=r"(?i)assert"):
        step("lstn", torch.randn(8, SIZE))
