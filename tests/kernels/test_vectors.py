"""Numbers others computed, by hand or with other software."""

from typing import Any

import closeness
import pytest
import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.stack import Weights, run

# Relative L2 errors; Gomez wrote eight decimals down.
BOUNDS = closeness.FEW_UNITS | closeness.SAME | {"float64": 1e-6}

every_dtype = pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])

# Gomez, "Backpropagating an LSTM: a numerical example". The post's order is a, i, f, o, and a is
# what PyTorch calls g: rows 1, 2, 0, 3 are i, f, g, o.
TO_PYTORCH = [1, 2, 0, 3]
GOMEZ_W = [[0.45, 0.25], [0.95, 0.8], [0.7, 0.45], [0.6, 0.4]]
GOMEZ_U = [[0.15], [0.8], [0.1], [0.25]]
GOMEZ_B = [0.2, 0.65, 0.15, 0.1]
GOMEZ_OUTPUTS = [0.5363133979, 0.7719811058], [0.7719811058], [1.5176330977]
GOMEZ_D_W = [
    [-0.02671622, -0.09220113],
    [-0.00220369, -0.00663861],
    [-0.00315327, -0.01891963],
    [-0.02592411, -0.16260389],
]
GOMEZ_D_U = [[-0.01039609], [-0.00059832], [-0.00338228], [-0.02969987]]
GOMEZ_D_B = [-0.03640839, -0.00276150, -0.00630654, -0.05361303]
GOMEZ_D_X = [[-0.00816553, -0.00486680], [-0.04742407, -0.03072765]]
GOMEZ_W_AFTER = [
    [0.45267162, 0.25922011],
    [0.95022037, 0.80066386],
    [0.70031533, 0.45189196],
    [0.60259241, 0.41626039],
]
GOMEZ_U_AFTER = [[0.15103961], [0.80005983], [0.10033823], [0.25296999]]
GOMEZ_B_AFTER = [0.20364084, 0.65027615, 0.15063065, 0.10536130]


def pytorch_rows(rows: list[Any]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[TO_PYTORCH]


@pytest.fixture
def gomez(backend: str, dtype: str, skip_where_refused: Any) -> lk.LSTM:
    skip_where_refused(backend, lk.Problem("lstm", 2, 1, 2, 1, dtype=dtype))
    lstm = lk.LSTM(2, 1, backend=backend, dtype=getattr(torch, dtype))
    lstm.load_state_dict(
        {
            "weight_ih_l0": pytorch_rows(GOMEZ_W),
            "weight_hh_l0": pytorch_rows(GOMEZ_U),
            "bias_ih_l0": pytorch_rows(GOMEZ_B),
            "bias_hh_l0": torch.zeros(4),
        }
    )
    return lstm


def near(tensor: Tensor, expected: Any, bound: float) -> bool:
    error = closeness.relative_error(tensor, torch.as_tensor(expected), smallest=0.0)
    return error <= bound


def gomez_input(dtype: str) -> Tensor:
    values = [[[1.0, 2.0]], [[0.5, 3.0]]]
    return torch.tensor(values, dtype=getattr(torch, dtype), requires_grad=True)


@every_dtype
def test_gomez(gomez: lk.LSTM, dtype: str) -> None:
    bound = BOUNDS[dtype]
    x = gomez_input(dtype)
    y, (h, c) = gomez(x)
    loss = 0.5 * ((y[:, 0, 0] - torch.tensor([0.5, 1.25])) ** 2).sum()
    for tensor, expected in zip((y, h, c), GOMEZ_OUTPUTS, strict=True):
        assert near(tensor.flatten(), expected, bound)
    assert near(loss, 0.11491036, bound)

    loss.backward()
    assert near(gomez.weight_ih_l0.grad, pytorch_rows(GOMEZ_D_W), bound)
    assert near(gomez.weight_hh_l0.grad, pytorch_rows(GOMEZ_D_U), bound)
    assert near(gomez.bias_ih_l0.grad, pytorch_rows(GOMEZ_D_B), bound)
    assert near(x.grad[:, 0], GOMEZ_D_X, bound)

    gomez.bias_hh_l0.requires_grad_(False)  # the example has one bias
    torch.optim.SGD([p for p in gomez.parameters() if p.requires_grad], lr=0.1).step()
    assert near(gomez.weight_ih_l0, pytorch_rows(GOMEZ_W_AFTER), bound)
    assert near(gomez.weight_hh_l0, pytorch_rows(GOMEZ_U_AFTER), bound)
    assert near(gomez.bias_ih_l0, pytorch_rows(GOMEZ_B_AFTER), bound)


def test_gomez_tells_the_gates_apart(gomez: lk.LSTM, dtype: str) -> None:
    with torch.no_grad():
        for parameter in gomez.parameters():
            parameter.copy_(parameter[[1, 0, 2, 3]])
    y, _ = gomez(gomez_input(dtype))
    assert not near(y.flatten(), [0.5363133979, 0.7719811058], bound=1e-3)


OF_INT8 = [backend.name for backend in registry.registered().values() if backend.w8]


@pytest.mark.parametrize("on", OF_INT8)
def test_gomez_in_int8(on: str) -> None:
    for package in registry.get(on).requires:
        pytest.importorskip(package, reason=f"{on} needs {package}")
    problem = lk.Problem("lstm", 2, 1, 2, 1, precision="w8")
    reason = registry.unsupported(on, problem, "cpu")
    if reason is not None:
        pytest.skip(f"{on}: {reason}")
    x, state = gomez_input("float32").detach(), torch.zeros(1, 1, 1)
    rows = (pytorch_rows(of).float() for of in (GOMEZ_W, GOMEZ_U, GOMEZ_B, [0.0] * 4))
    with torch.no_grad():
        found = run(registry.load(on), x, state, state, (Weights(*rows),), problem=problem)
    for tensor, expected in zip(found, GOMEZ_OUTPUTS, strict=True):
        assert tensor is not None
        assert near(tensor.flatten(), expected, BOUNDS["w8"])


# candle, candle-nn/tests/rnn.rs, whose expected numbers were taken from PyTorch: w_ih = cos and
# w_hh = sin of 0, 1, 2, ...; b_ih repeats -1, 1, -.5, 2; b_hh = cos(b_ih); x_t = (v, v / 2).
CANDLE_INPUT = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


def candle_layer(module: Any, rows: int, backend: str, dtype: str) -> Any:
    layer = module(2, 3, backend=backend, dtype=getattr(torch, dtype))
    b_ih = torch.tensor([-1.0, 1.0, -0.5, 2.0]).repeat(3)[:rows]
    layer.load_state_dict(
        {
            "weight_ih_l0": torch.arange(rows * 2.0).reshape(rows, 2).cos(),
            "weight_hh_l0": torch.arange(rows * 3.0).reshape(rows, 3).sin(),
            "bias_ih_l0": b_ih,
            "bias_hh_l0": b_ih.cos(),
        }
    )
    return layer


def candle_input(dtype: str) -> Tensor:
    value = torch.tensor(CANDLE_INPUT, dtype=getattr(torch, dtype))
    return torch.stack([value, value / 2], dim=1)  # [T, I], unbatched


def near_candle(tensor: Tensor, expected: Any, dtype: str) -> bool:
    # Three times the half of the last decimal that was written down.
    decimals = 1.5e-4 / float(torch.tensor(expected).norm())
    return near(tensor, expected, max(decimals, BOUNDS[dtype]))


@every_dtype
def test_candle_lstm(backend: str, dtype: str, skip_where_refused: Any) -> None:
    skip_where_refused(backend, lk.Problem("lstm", 7, 1, 2, 3, dtype=dtype))
    _, (h, c) = candle_layer(lk.LSTM, 12, backend, dtype)(candle_input(dtype))
    assert near_candle(h, [[0.9919, 0.1738, -0.1451]], dtype)
    assert near_candle(c, [[5.7250, 0.4458, -0.2908]], dtype)


@every_dtype
def test_candle_gru(backend: str, dtype: str, skip_where_refused: Any) -> None:
    skip_where_refused(backend, lk.Problem("gru", 7, 1, 2, 3, dtype=dtype))
    _, h = candle_layer(lk.GRU, 9, backend, dtype)(candle_input(dtype))
    assert near_candle(h, [[0.0579, 0.8836, -0.9991]], dtype)
