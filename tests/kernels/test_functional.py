"""The functional forms: one layer, one direction."""

from typing import Any

import pytest
import torch

import lstm_kernels as lk

FORMS = {"gru": lk.gru, "rnn_tanh": lk.rnn_tanh, "rnn_relu": lk.rnn_relu}
MODULES = {"gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN}


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_equals_torch(backend: str, bias: bool) -> None:
    theirs = torch.nn.LSTM(3, 4, bias=bias)
    x, h0, c0 = torch.randn(5, 2, 3), torch.randn(2, 4), torch.randn(2, 4)
    y, h_n, c_n = lk.lstm(x, h0, c0, *theirs.parameters(), backend=backend)
    want, (want_h, want_c) = theirs(x, (h0[None], c0[None]))
    torch.testing.assert_close((y, h_n, c_n), (want, want_h[0], want_c[0]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_others_equal_torch(backend: str, form: str, bias: bool) -> None:
    settings = {"nonlinearity": "relu"} if form == "rnn_relu" else {}
    theirs = MODULES[form](3, 4, bias=bias, **settings)
    x, h0 = torch.randn(5, 2, 3), torch.randn(2, 4)
    y, h_n = FORMS[form](x, h0, *theirs.parameters(), backend=backend)
    want, want_h = theirs(x, h0[None])
    torch.testing.assert_close((y, h_n), (want, want_h[0]))


def arguments() -> dict[str, Any]:
    return {
        "x": torch.randn(5, 2, 3),
        "h0": torch.randn(2, 4),
        "c0": torch.randn(2, 4),
        "w_ih": torch.randn(16, 3),
        "w_hh": torch.randn(16, 4),
        "b_ih": torch.randn(16),
        "b_hh": torch.randn(16),
    }


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("x", torch.randn(5, 3), r"x has shape \(5, 3\).*expected \[T, B, I\]"),
        ("h0", torch.randn(1, 2, 4), r"h0 has shape \(1, 2, 4\); expected \(2, 4\)"),
        ("c0", torch.randn(2, 5), r"c0 has shape \(2, 5\); expected \(2, 4\)"),
        ("w_ih", torch.randn(12, 3), r"w_ih has shape \(12, 3\); expected \(16, 3\)"),
        ("w_hh", torch.randn(12, 4), r"w_hh has shape \(12, 4\); expected \(16, 4\)"),
        ("b_hh", torch.randn(4), r"b_hh has shape \(4,\); expected \(16,\)"),
        ("b_ih", None, "one of b_ih and b_hh is given without the other"),
        ("h0", torch.randn(2, 4).double(), "h0 is torch.float64 on cpu; expected x's"),
    ],
)
def test_mistakes_name_the_argument(name: str, tensor: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lk.lstm(**arguments() | {name: tensor})


def test_unknown_and_refusing_backends() -> None:
    with pytest.raises(ValueError, match="did you mean 'hoisted'"):
        lk.lstm(**arguments(), backend="hosted")
    with pytest.raises(lk.Unsupported, match="cuDNN needs a CUDA device, and this is 'cpu'"):
        lk.lstm(**arguments(), backend="cudnn")
