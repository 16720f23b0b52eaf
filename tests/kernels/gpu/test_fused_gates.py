"""The device functions of every cell's step, against float64 autograd."""

from typing import Any

import closeness
import compiling
import pytest
import torch
from places import SUPPORT
from pointwise_cells import POINTWISE
from torch import Tensor

from lstm_kernels.cells import (
    CELLS,
    Cell,
    cell,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    tanh,
    where,
)
from lstm_kernels.common import gates

triton = pytest.importorskip("triton", reason="the gates' device functions need triton")
tl = pytest.importorskip("triton.language")
fused_gates = pytest.importorskip("lstm_kernels.gpu.fused_gates")

# conftest has Triton interpret where there is no GPU.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = 256


@triton.jit
def curves_kernel(x, sigmoids, tanhs, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    value = tl.load(x + i)
    tl.store(sigmoids + i, fused_gates.sigmoid(value))
    tl.store(tanhs + i, fused_gates.tanh(value))


@triton.jit
def rows(tensor, i, FIRST: tl.constexpr, COUNT: tl.constexpr, SIZE: tl.constexpr):
    values = ()
    for row in tl.static_range(FIRST, FIRST + COUNT):
        values = values + (tl.load(tensor + row * SIZE + i),)  # noqa: RUF005 - Triton has no other
    return values


@triton.jit
def write_rows(tensor, i, values, FIRST: tl.constexpr, COUNT: tl.constexpr, SIZE: tl.constexpr):
    for row in tl.static_range(0, COUNT):
        tl.store(tensor + (FIRST + row) * SIZE + i, values[row])


@triton.jit
def step_kernel(given, results, CELL: tl.constexpr, SIZE: tl.constexpr):
    """Reads p, states, parameters, their gradients' starts; writes states and all gradients."""
    S: tl.constexpr = CELL.slots
    K: tl.constexpr = CELL.states
    U: tl.constexpr = CELL.per_unit
    i = tl.arange(0, SIZE)
    p = rows(given, i, 0, S, SIZE)
    before = rows(given, i, S, K, SIZE)
    units = rows(given, i, S + K, U, SIZE)
    after, saved = CELL.next_state(p, before, units)
    d_after = rows(given, i, S + K + U, K, SIZE)
    d_p, d_before, d_units = CELL.gradients(d_after, saved, before, after, units)
    write_rows(results, i, after, 0, K, SIZE)
    write_rows(results, i, d_p, K, S, SIZE)
    write_rows(results, i, d_before, K + S, K, SIZE)
    write_rows(results, i, d_units, 2 * K + S, U, SIZE)


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


def draw(definition: Cell, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """A row of SIZE for each pre-activation, state, parameter and gradient of a state."""
    S, K, U = len(definition.slots), len(definition.states), len(definition.per_unit)
    given = torch.randn(S + K + U + K, SIZE, dtype=dtype)
    given[:S] *= scale
    for at, name in enumerate(definition.states):
        if name in definition.positive:
            given[S + at] = given[S + at].abs() + 0.1
    return given


def names(definition: Cell) -> list[str]:
    """What a step makes: its states, then the gradients of all it takes."""
    slots = [slot.name for slot in definition.slots]
    taken = [*slots, *definition.states, *definition.per_unit]
    return [*definition.states, *(f"d_{name}" for name in taken)]


def step(definition: Cell, given: Tensor) -> dict[str, Tensor]:
    made = names(definition)
    results = torch.full((len(made), SIZE), torch.nan, device=DEVICE, dtype=given.dtype)
    step_kernel[(1,)](given.to(DEVICE), results, fused_gates.device_cell(definition), SIZE)
    return dict(zip(made, results.double(), strict=True))


def by_autograd(
    definition: Cell, given: Tensor, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    S, K = len(definition.slots), len(definition.states)
    leaves = [row.to(DEVICE, dtype).requires_grad_() for row in given]
    p, before, units, d_after = leaves[:S], leaves[S : S + K], leaves[S + K : -K], leaves[-K:]
    after, _ = gates.torch_code(definition)["next_state"](p, before, units)
    taken = [*p, *before, *units]
    starts = [d.detach() for d in d_after]
    found = torch.autograd.grad(after, taken, starts, materialize_grads=True)
    results = [tensor.detach() for tensor in (*after, *found)]
    return dict(zip(names(definition), results, strict=True))


def relative_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    return {
        name: closeness.relative_error(found[name], wanted, smallest=1e-30)
        for name, wanted in expected.items()
    }


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", POINTWISE)
def test_a_step_and_its_gradients_equal_autograd(name: str, scale: float) -> None:
    given = draw(CELLS[name], torch.float32, scale)
    expected = by_autograd(CELLS[name], given)
    ours = relative_errors(step(CELLS[name], given), expected)
    torchs = relative_errors(by_autograd(CELLS[name], given, torch.float32), expected)
    for each, error in ours.items():
        # A saturated gate's gradient is a difference that cancels, in torch's float32 as in ours.
        closeness.assert_within(max(closeness.STEP["float32"], 8 * torchs[each]), {each: error})


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
@pytest.mark.parametrize("name", POINTWISE)
def test_a_step_in_float64_equals_autograd(name: str, scale: float) -> None:
    given = draw(CELLS[name], torch.float64, scale)
    errors = relative_errors(step(CELLS[name], given), by_autograd(CELLS[name], given))
    closeness.assert_within(closeness.STEP["float64"], errors)


@cell(gates="a b", states="h c", per_unit="u", apart="b")
def everything(p, h, c, u):
    """Every operation, and constants that float32 has not."""
    x = where(p.a < h, p.b_x / (1 + exp(c)), -relu(p.b_h) * u) - minimum(p.a, 0.1)
    y = maximum(h * 2.2, c) + log(1.1 + exp(p.b_h)) - tanh(u - x)
    return where(y >= 0.3, sigmoid(x), y) + 0.7, x * y + exp(-y / (2 + sigmoid(h)))


def test_every_operation_in_float64_equals_autograd() -> None:
    given = draw(everything, torch.float64)
    errors = relative_errors(step(everything, given), by_autograd(everything, given))
    closeness.assert_within(closeness.STEP["float64"], errors)


def test_two_cells_of_a_name_are_two_kernels() -> None:
    def defined(factor: float) -> Cell:
        @cell(gates="a", states="h")
        def twice(p, h):
            return p.a * factor

        return twice

    first, second = map(fused_gates.device_cell, map(defined, (2, 3)))
    assert str(first) == str(second) == "twice"
    assert repr(first) != repr(second)
    given = torch.ones(3, SIZE)
    assert step(defined(2), given)["h"].unique() == 2
    assert step(defined(3), given)["h"].unique() == 3


def test_cells_of_one_text_and_other_blocks_are_two_kernels() -> None:
    def defined(**fields: str) -> Any:
        @cell(gates="a b", states="h", **fields)
        def seen(p, h):
            return p.a + p.b * h

        return fused_gates.device_cell(seen)

    assert repr(defined()) != repr(defined(from_x="b"))


def test_a_changed_definition_is_compiled_anew() -> None:
    keys = compiling.run(str(SUPPORT / "device_cells.py"))
    assert keys["again"] == keys["first"]
    assert len({keys["first"], keys["other constant"], keys["other blocks"]}) == 3


def test_gates_that_are_swapped_are_caught() -> None:
    given = draw(CELLS["lstm"], torch.float32)
    swapped = given[[1, 0, *range(2, len(given))]]
    difference = step(CELLS["lstm"], given)["c"] - by_autograd(CELLS["lstm"], swapped)["c"]
    assert difference.norm() > 0.1


@pytest.mark.parametrize("name", POINTWISE)
def test_a_nan_is_not_hidden(name: str) -> None:
    given = draw(CELLS[name], torch.float32)
    given[0, 3] = torch.nan
    ours = step(CELLS[name], given)
    assert ours["h"][3].isnan()
    assert not ours["h"][:3].isnan().any()


def test_of_two_the_nan_is_taken() -> None:
    @cell(gates="a", states="h")
    def chosen(p, h):
        return maximum(p.a, h) + minimum(p.a, h) + relu(p.a)

    given = torch.ones(3, SIZE)
    given[0, 3] = torch.nan
    assert step(chosen, given)["h"].isnan().nonzero().tolist() == [[3]]
