"""The fused step against `gates.next_state`, and what it launches."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import closeness
import pytest
import torch
from pointwise_cells import POINTWISE
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels.cells import CELLS
from lstm_kernels.common import gates
from lstm_kernels.gpu.machine_code import ARCHITECTURES
from lstm_kernels.stack import Weights, run

pytest.importorskip("triton", reason="the fused gates need triton")
pointwise = pytest.importorskip("lstm_kernels.backends.pointwise")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# One tile; a unit more than two of 256; rows that no power of two fills.
SIZES = [(3, 5), (2, 513), (67, 1)]

Step = Callable[..., gates.State]


def draw(cell: str, B: int, H: int, dtype: torch.dtype) -> list[Tensor | None]:
    """from_x, from_h, h, c and what a unit has."""
    definition = CELLS[cell]
    K, U = definition.own_states, len(definition.per_unit)
    shapes = {
        "from_x": (B, definition.x_blocks * H),
        "from_h": (B, definition.h_blocks * H),
        "h": (B, H),
        "c": (B, K * H),
        "per_unit": (U * H,),
    }
    drawn = {name: torch.randn(shape).to(DEVICE, dtype) for name, shape in shapes.items()}
    for columns in definition.positive_columns(H):
        drawn["c"][:, columns] = drawn["c"][:, columns].abs() + 0.1
    return [tensor if tensor.numel() else None for tensor in drawn.values()]


def step_of(step: Step, cell: str, tensors: list[Tensor | None], dtype: torch.dtype) -> list[Any]:
    """h, c and the gradients of what the step takes."""
    leaves = [None if t is None else t.to(dtype).requires_grad_() for t in tensors]
    states = [state for state in step(cell, *leaves) if state is not None]
    weights = [torch.linspace(-1, 1.5, s.numel(), device=DEVICE).view_as(s).to(s) for s in states]
    torch.autograd.backward(states, weights)
    return states + [None if t is None else t.grad for t in leaves]


def fused(cell: str, *tensors: Tensor | None) -> gates.State:
    return pointwise.fused_step(CELLS[cell], *tensors)


def by_torch(
    cell: str,
    from_x: Tensor,
    from_h: Tensor | None,
    h: Tensor,
    c: Tensor | None,
    per_unit: Tensor | None,
) -> gates.State:
    code, H = gates.step_code(cell), h.shape[-1]
    of_h = () if from_h is None else from_h.split(H, -1)
    p = gates.add_gates(code, from_x.split(H, -1), of_h)
    nothing = h.new_empty(0)
    return gates.activate(code, p, h, c, Weights(nothing, nothing, per_unit=per_unit))


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("B", "H"), SIZES, ids=[f"B{b}-H{h}" for b, h in SIZES])
@pytest.mark.parametrize("cell", POINTWISE)
def test_a_step_equals_plain_torch(cell: str, B: int, H: int, name: str) -> None:
    dtype = getattr(torch, name)
    tensors = draw(cell, B, H, dtype)
    expected = step_of(by_torch, cell, tensors, torch.float64)
    found = step_of(fused, cell, tensors, dtype)
    for got, want in zip(found, expected, strict=True):
        if want is None or not want.any():
            assert got is None or not got.any()
            continue
        assert got.dtype is dtype
        error = closeness.relative_error(got, want, smallest=0)
        closeness.assert_within(closeness.STEP[name], {"a state or its gradient": error})


def test_rows_that_are_not_contiguous(cell: str) -> None:
    tensors = draw(cell, 3, 5, torch.float32)
    strided = [None if t is None else t.T.contiguous().T for t in tensors]
    for got, want in zip(fused(cell, *strided), fused(cell, *tensors), strict=True):
        assert got is want is None or torch.equal(got, want)


def test_gradients_that_are_not_contiguous(cell: str) -> None:
    leaves = [None if t is None else t.requires_grad_() for t in draw(cell, 3, 5, torch.float32)]
    h, c = fused(cell, *leaves)
    h_too, c_too = by_torch(cell, *leaves)
    for found, expected in ((h, h_too), (c, c_too)):
        if found is None:
            continue
        wanted = [t for t in leaves if t is not None]
        got, want = (
            torch.autograd.grad(y.sum(), wanted, retain_graph=True, allow_unused=True)
            for y in (found, expected)
        )
        for one, other in zip(got, want, strict=True):
            zero = torch.zeros(())
            torch.testing.assert_close(*(zero if g is None else g + zero for g in (one, other)))


def test_a_step_alone_is_not_differentiated_twice(cell: str) -> None:
    tensors = draw(cell, 3, 5, torch.float32)
    h, _ = fused(cell, *(None if t is None else t.requires_grad_() for t in tensors))
    (d_x,) = torch.autograd.grad(h.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        d_x.sum().backward()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every launch, in order."""
    seen: list[Any] = []
    launch = pointwise.Launch.run
    monkeypatch.setattr(pointwise.Launch, "run", lambda self: (seen.append(self), launch(self)))
    return seen


def test_a_step_is_one_kernel_each_way(cell: str, make_layer: Any, launched: list[Any]) -> None:
    problem, arguments = make_layer(cell, dtype="float32", bidirectional=True)
    y, _, _ = run(pointwise, **arguments, problem=problem)
    y.sum().backward()
    steps = 2 * problem.seq_len
    assert Counter(one.regime for one in launched) == {"training": steps, "backward": steps}


def test_inference_saves_nothing(cell: str, make_layer: Any, launched: list[Any]) -> None:
    problem, arguments = make_layer(cell, dtype="float32")
    with torch.no_grad():
        y, _, _ = run(pointwise, **arguments, problem=problem)
    assert {one.arguments["saved"] for one in launched} == {None}
    assert y.grad_fn is None
    trained, _, _ = run(pointwise, **arguments, problem=problem)
    assert torch.equal(trained, y)


@pytest.mark.parametrize("cell", POINTWISE)
@pytest.mark.parametrize("H", [1, 30, 257, 1024])
def test_a_new_batch_or_length_compiles_nothing(cell: str, H: int) -> None:
    def compiled_from(B: int, T: int) -> list[Any]:
        problem = lk.Problem(cell, T, B, 8, H)
        launches = pointwise.launches_for(problem, ARCHITECTURES["sm_90"])
        constants = [
            {name: v for name, v in one.arguments.items() if name != "B" and type(v) is not Tensor}
            for one in launches
        ]
        return [(constants, [one.options for one in launches])]

    assert compiled_from(1, 1) == compiled_from(16, 7) == compiled_from(65537, 9)


@pytest.mark.parametrize("cell", POINTWISE)
def test_every_element_belongs_to_a_program(cell: str) -> None:
    for B, H in [*SIZES, (64, 512), (1, 4096)]:
        for one in pointwise.launches_for(lk.Problem(cell, 4, B, 8, H), ARCHITECTURES["sm_90"]):
            rows, units = one.grid
            assert 0 <= rows * one.parameters["BLOCK_B"] - B < one.parameters["BLOCK_B"]
            assert 0 <= units * one.parameters["BLOCK_H"] - H < one.parameters["BLOCK_H"]
            assert all(t.is_meta for t in one.arguments.values() if isinstance(t, Tensor))
