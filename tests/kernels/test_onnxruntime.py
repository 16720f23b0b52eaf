"""Cells against onnxruntime: written by others, in C++, with other gate orders."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_kernels as lk
from lstm_kernels.stack import Weights

onnx = pytest.importorskip("onnx", reason="the graphs are made with onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from lstm_kernels.common.onnx_layers import LENGTHS, OPERATORS, onnx_layer  # noqa: E402 - needs onnx

T, B, I, H = 6, 4, 3, 5  # noqa: E741 - the field's name of the input's size
STEPS = (6, 1, 4, 2)


def weights_of(module: lk.Recurrent) -> tuple[Weights, ...]:
    named = dict(module.named_parameters())
    found = []
    for suffix in ("_l0", "_l0_reverse")[: 2 if module.bidirectional else 1]:
        units = [named[name + suffix] for name in lk.CELLS[module.cell].per_unit]
        of = [named[f"{name}{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        found.append(Weights(*of, per_unit=torch.cat(units) if units else None))
    return tuple(found)


def run_onnx(problem: lk.Problem, module: lk.Recurrent, given: dict[str, Tensor]) -> list[Tensor]:
    """Y [T, D, B, H], then the last states."""
    model = onnx_layer(problem, weights_of(module), ragged=LENGTHS in given)
    onnx.checker.check_model(onnx.load_from_string(model))
    session = onnxruntime.InferenceSession(model)
    made = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
    return [torch.from_numpy(each) for each in made]


@pytest.mark.parametrize("is_ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "two ways"])
@pytest.mark.parametrize("of", OPERATORS)
def test_a_cell_is_onnxruntimes(of, bidirectional, is_ragged):
    module = lk.Recurrent(of, I, H, bidirectional=bidirectional, backend="naive")
    problem = lk.Problem(of, T, B, I, H, bidirectional=bidirectional)
    x = torch.randn(T, B, I)
    states = tuple(torch.randn(1 + bidirectional, B, H) for _ in lk.CELLS[of].states)
    tensors = {"X": x, "initial_h": states[0]}
    if len(states) == 2:
        tensors["initial_c"] = states[1]
    given: object = x
    if is_ragged:
        tensors[LENGTHS] = torch.tensor(STEPS, dtype=torch.int32)
        given = pack_padded_sequence(x, torch.tensor(STEPS), enforce_sorted=False)
    y, *last = run_onnx(problem, module, tensors)
    found, ended = module(given, states if len(states) == 2 else states[0])
    if is_ragged:
        found, _ = pad_packed_sequence(found)
    torch.testing.assert_close(found, y.transpose(1, 2).reshape(T, B, -1), rtol=1e-5, atol=1e-6)
    ended = ended if isinstance(ended, tuple) else (ended,)
    for one, other in zip(ended, last, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
