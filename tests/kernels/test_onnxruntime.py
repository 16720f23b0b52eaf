"""Cells against onnxruntime: written by others, in C++, with other gate orders."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import lstm_kernels as lk

T, B, I, H = 6, 4, 3, 5  # noqa: E741 - the field's name of the input's size
LENGTHS = (6, 1, 4, 2)
# ONNX's gates i, o, f, c and z, r, h, from ours.
FROM_LSTM = (0, 3, 1, 2)
FROM_GRU = (1, 0, 2)


def blocks(tensor: Tensor, order: tuple[int, ...]) -> Tensor:
    parts = tensor.detach().chunk(len(order))
    return torch.cat([parts[at] for at in order])


def as_coupled(tensor: Tensor) -> Tensor:
    """Gates f, g, o as i, f, g, o: ONNX's i, of which f = 1 - i, has f's sign turned."""
    f, g, o = tensor.detach().chunk(3)
    return torch.cat([-f, torch.zeros_like(f), g, o])


def run_onnx(op: str, tensors: dict[str, Tensor], **attributes: object) -> list[Tensor]:
    """Y [T, D, B, H], then the last states; inputs by ONNX's names, in its order."""
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    order += ["initial_c", "P"] if op == "LSTM" else []
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    given = {name: np.ascontiguousarray(t.detach().numpy()) for name, t in tensors.items()}
    node = helper.make_node(op, [n if n in given else "" for n in order], outputs, **attributes)
    graph = helper.make_graph(
        [node],
        op,
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in given.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in zip(outputs, (4, 3, 3), strict=False)
        ],
    )
    opset = helper.make_opsetid("", 14)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return [torch.from_numpy(each) for each in session.run(outputs, given)]


def of_module(module: lk.Recurrent, op: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """A module's weights and the attributes of the node that computes it."""
    order = FROM_LSTM if op == "LSTM" else FROM_GRU if op == "GRU" else (0,)
    named = dict(module.named_parameters())
    suffixes = ("_l0", "_l0_reverse")[: 2 if module.bidirectional else 1]

    def all_of(name: str) -> Tensor:
        found = [named[name + suffix] for suffix in suffixes]
        if module.cell == "lstm_cifg":
            found = [as_coupled(tensor) for tensor in found]
        return torch.stack([blocks(tensor, order) for tensor in found])

    tensors = {"W": all_of("weight_ih"), "R": all_of("weight_hh")}
    tensors["B"] = torch.cat([all_of("bias_ih"), all_of("bias_hh")], 1)
    attributes: dict[str, object] = {"hidden_size": H}
    if module.bidirectional:
        attributes["direction"] = "bidirectional"
    if module.cell == "lstm_peephole":
        each = [[named[name + s] for name in ("w_ci", "w_co", "w_cf")] for s in suffixes]
        tensors["P"] = torch.stack([torch.cat(one) for one in each])
    if module.cell == "lstm_cifg":
        attributes["input_forget"] = 1
    if module.cell == "gru":
        attributes["linear_before_reset"] = 1
    if module.cell == "rnn_relu":
        attributes["activations"] = ["Relu"] * len(suffixes)
    return tensors, attributes


@pytest.mark.parametrize("is_ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "two ways"])
@pytest.mark.parametrize(
    ("of", "op"),
    [
        ("lstm", "LSTM"),
        ("lstm_peephole", "LSTM"),
        ("lstm_cifg", "LSTM"),
        ("gru", "GRU"),
        ("gru_reset_before", "GRU"),
        ("rnn_tanh", "RNN"),
        ("rnn_relu", "RNN"),
    ],
)
def test_a_cell_is_onnxruntimes(of, op, bidirectional, is_ragged):
    module = lk.Recurrent(of, I, H, bidirectional=bidirectional, backend="naive")
    x = torch.randn(T, B, I)
    states = tuple(torch.randn(1 + bidirectional, B, H) for _ in lk.CELLS[of].states)
    tensors, attributes = of_module(module, op)
    tensors |= {"X": x, "initial_h": states[0]}
    if len(states) == 2:
        tensors["initial_c"] = states[1]
    given: object = x
    if is_ragged:
        tensors["sequence_lens"] = torch.tensor(LENGTHS, dtype=torch.int32)
        given = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    y, *last = run_onnx(op, tensors, **attributes)
    found, ended = module(given, states if len(states) == 2 else states[0])
    if is_ragged:
        found, _ = pad_packed_sequence(found)
    torch.testing.assert_close(found, y.transpose(1, 2).reshape(T, B, -1), rtol=1e-5, atol=1e-6)
    ended = ended if isinstance(ended, tuple) else (ended,)
    for one, other in zip(ended, last, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
