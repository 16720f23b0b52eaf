"""Operators do what PyTorch asks of operators, are counted, and give what kernels give."""

import importlib
import sys
from typing import Any, NamedTuple
from unittest.mock import patch

import closeness
import pytest
import torch
from torch import Tensor
from torch.testing._internal.optests import OpCheckError
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import lstm_kernels as lk
from lstm_kernels import common, registry
from lstm_kernels.common import operators

T, B, I, H = 3, 2, 3, 5  # noqa: E741 - the field's name of the input's size


class Call(NamedTuple):
    """Both operators of a backend, and arguments for them."""

    forward: Any
    backward: Any
    inputs: tuple[Any, ...]
    settings: tuple[Any, ...]

    def backward_arguments(self) -> tuple[Any, ...]:
        """Gradients of the outputs are drawn; every gradient is needed."""
        cell, _, recompute = self.settings
        _, _, c0, weights = self.inputs
        with torch.no_grad():
            y, h_n, _, *saved = self.forward(*self.inputs, *self.settings)
        d_c_n = None if c0 is None else torch.randn_like(h_n)
        bias = len(weights) in (4, 8)
        needed = [True, True, c0 is not None]
        needed += [True, True, bias, bias, False, False] * len(h_n)
        d_outputs = torch.randn_like(y), torch.randn_like(h_n), d_c_n
        return *self.inputs, y, *saved, *d_outputs, cell, recompute, needed


class CalledOperators(TorchDispatchMode):
    """Notes what is called, and calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **kwargs or {})


def call(
    backend: str, cell: str, *, directions: int = 2, bias: bool = True, recompute: bool = False
) -> Call:
    """Everything in float32, with gradients."""
    operators.define(backend)
    library = getattr(torch.ops, operators.NAMESPACE)
    both = (getattr(library, f"{backend}_{which}").default for which in ("forward", "backward"))
    rows = lk.CELLS[cell].x_blocks * H

    def draw(*shape: int) -> Tensor:
        return (torch.randn(shape) * 0.5).requires_grad_()

    weights = []
    for _ in range(directions):
        weights += [draw(rows, I), draw(rows, H)] + [draw(rows), draw(rows)] * bias
    c0 = draw(directions, B, H) if lk.CELLS[cell].has_cell_state else None
    inputs = (draw(T, B, I), draw(directions, B, H), c0, weights)
    return Call(*both, inputs, (cell, True, recompute))


def check(made: Call) -> None:
    """PyTorch's own checks: schema, fake kernel, autograd, a graph for any sizes."""
    torch.library.opcheck(made.forward, (*made.inputs, *made.settings))
    with torch.no_grad():
        without = (*made.settings[:1], False, made.settings[2])
        torch.library.opcheck(made.forward, (*made.inputs, *without))
        torch.library.opcheck(made.backward, made.backward_arguments())


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_they_are_as_pytorch_asks(operator_backend: str, cell: str) -> None:
    check(call(operator_backend, cell))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_without_biases_and_in_one_direction(cell: str) -> None:
    pytest.importorskip("numba")
    check(call("numba_cpu", cell, directions=1, bias=False))


def test_what_is_not_saved_has_no_shape() -> None:
    pytest.importorskip("triton")
    made = call("triton", "gru", recompute=True)
    check(made)
    assert [len(saved) for saved in made.forward(*made.inputs, *made.settings)[3:]] == [0, 0]


def test_a_wrong_shape_is_seen() -> None:
    """What the checks above would say of a fake kernel that is wrong."""
    pytest.importorskip("numba")
    made, module = call("numba_cpu", "lstm"), registry.load("numba_cpu")
    problem = lk.Problem("lstm", T, B, I, H, bidirectional=True)
    longer = [(shape[0] + 1,) for shape in module.saved_shapes(problem, T, B)]
    with (
        patch.object(module, "saved_shapes", lambda *_, **__: longer),
        pytest.raises(OpCheckError),
    ):
        torch.library.opcheck(
            made.forward, (*made.inputs, *made.settings), test_utils="test_faketensor"
        )


def test_they_give_what_the_kernels_give(
    operator_backend: str, cell: str, make_pair: Any, run_module: Any, assert_same: Any
) -> None:
    _, ours = make_pair(cell, operator_backend, I, H, num_layers=2, bidirectional=True)
    states = tuple(torch.randn(4, B, H) for _ in range(2 if cell == "lstm" else 1))
    x = torch.randn(T, B, I)
    want = run_module(ours, x, states, None)
    with FlopCounterMode(display=False) as counter:
        got = run_module(ours, x, states, None)
    assert counter.get_total_flops() > 0
    assert_same(got, want, closeness.SAME["float32"])


def test_a_second_derivative_is_right() -> None:
    pytest.importorskip("numba")

    def penalty(rnn: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad(rnn(x)[0].pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), list(rnn.parameters()))

    rnn = lk.LSTM(I, H, backend="numba_cpu").double()
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    with CalledOperators() as seen:
        got = penalty(rnn, x)
    assert f"{operators.NAMESPACE}.numba_cpu_forward.default" in seen.names
    rnn.backend = "naive"
    for found, wanted in zip(got, penalty(rnn, x), strict=True):
        assert closeness.relative_error(found, wanted) <= closeness.LAYER["float64"]


def test_states_without_a_gradient_have_one_of_0() -> None:
    """Beside h there are three of them, so that c is longer than h."""
    theirs = lk.Recurrent("slstm", I, H, backend="naive")
    ours = lk.Recurrent("slstm", I, H, backend="triton")
    ours.load_state_dict(theirs.state_dict())
    x, states = torch.randn(T, B, I), tuple(torch.rand(4, 1, B, H) + 0.5)
    with CalledOperators() as called:
        ours(x, states)[0].sum().backward()
    theirs(x, states)[0].sum().backward()
    assert f"{operators.NAMESPACE}.triton_backward.default" in called.names
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_what_does_not_fit_is_refused() -> None:
    pytest.importorskip("numba")
    made = call("numba_cpu", "lstm")
    x, h0, c0, weights = made.inputs
    bad = [
        ((x, h0, c0, weights[:3]), "3 weights for 2 directions"),
        ((x, h0[:, :1], c0, weights), "expected"),
        ((x[..., :2], h0, c0, weights), "expected"),
        ((x.double(), h0, c0, weights), "h0 is torch.float32"),
        ((x, h0, None, weights), "c0 is for the states other than h"),
    ]
    for inputs, message in bad:
        with pytest.raises(ValueError, match=message):
            made.forward(*inputs, *made.settings)
    arguments = list(made.backward_arguments())
    arguments[5] = arguments[5][1:]  # gates
    with pytest.raises(ValueError, match="saved has shape"):
        made.backward(*arguments)


def test_a_backend_that_refuses_does_so_by_operators_too() -> None:
    pytest.importorskip("numba")
    made = call("numba_cpu", "lstm")
    x, h0, c0, weights = made.inputs
    low = [tensor.bfloat16() for tensor in (x, h0, c0, *weights)]
    with pytest.raises(
        lk.Unsupported, match="operators compute in float32 or float64, and this is bfloat16"
    ):
        made.forward(*low[:3], low[3:], *made.settings)


def test_a_backward_of_what_saved_nothing_is_refused() -> None:
    pytest.importorskip("numba")
    made = call("numba_cpu", "lstm")
    y, *_ = made.forward(*made.inputs, "lstm", False, False)
    with pytest.raises(RuntimeError, match="this forward saved nothing for a backward"):
        y.sum().backward()


def test_they_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    operators.define("numba_cpu")
    before = getattr(torch.ops, operators.NAMESPACE).numba_cpu_forward.default
    name = operators.__name__
    monkeypatch.setattr(torch.library, "custom_op", None)
    try:
        del sys.modules[name]
        again = importlib.import_module(name)
        again.define("numba_cpu")
    finally:
        sys.modules[name] = common.operators = operators
    assert again is not operators
    assert getattr(torch.ops, operators.NAMESPACE).numba_cpu_forward.default is before


def test_records_tell_who_has_them() -> None:
    named = {b.name for b in registry.BUILT_IN if b.operators}
    assert named == {"triton", "numba_cpu", "numba_cuda"}
