"""A recurrent layer as an ONNX model with its weights inside, in ONNX's order of gates.

For readers of ONNX: the backends `onnxruntime` and `openvino`, and tests. Source: the operators
LSTM, GRU and RNN of ONNX, opset 14. Needs the package onnx.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from lstm_kernels.common.refusals import device_limit
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

# The operator of each cell that ONNX has.
OPERATORS = {
    "lstm": "LSTM",
    "lstm_peephole": "LSTM",
    "lstm_cifg": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "rnn_tanh": "RNN",
    "rnn_relu": "RNN",
}
# ONNX's blocks, i o f c and z r h, by their places among ours, i f g o and r z n.
_BLOCKS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
# Its peepholes, i o f, by their places among ours, w_ci w_cf w_co.
_PEEPHOLES = (0, 2, 1)
# The version of the first ONNX Runtime and OpenVINO with opset 14.
_OPSET, _IR_VERSION = 14, 8
LENGTHS = "sequence_lens"
_INPUTS = ("X", "W", "R", "B", LENGTHS, "initial_h", "initial_c", "P")
# ONNX Runtime's own operator of int8 weights takes further inputs, and is not of ONNX.
_QUANTISED = "DynamicQuantizeLSTM"
_SCALES = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
_DOMAINS = {_QUANTISED: "com.microsoft"}
_OUTPUTS = ("Y", "Y_h", "Y_c")


def in_onnx_order(tensor: Tensor, cell: str) -> Tensor:
    """A weight or bias [G*H, ...] of ours with its blocks as ONNX has them: the one conversion.

    The coupled LSTM has no block i. ONNX's has one, and computes f = 1 - i. So i is our f with its
    sign changed, and the block at f is not used.
    """
    if cell == "lstm_cifg":
        f, g, o = tensor.chunk(3)
        tensor = torch.cat([-f, torch.zeros_like(f), g, o])
    order = _BLOCKS[OPERATORS[cell]]
    parts = tensor.chunk(len(order))
    return torch.cat([parts[place] for place in order])


def onnx_weights(weights: tuple[Weights, ...], cell: str) -> dict[str, Tensor]:
    """The weights of a layer's directions by ONNX's names, as copies.

    Returns:
        W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H] where there are biases, P [D, 3*H] of peepholes.
    """

    def stacked(tensors: list[Tensor]) -> Tensor:
        return torch.stack([in_onnx_order(tensor.detach(), cell) for tensor in tensors])

    made = {
        "W": stacked([one.w_ih for one in weights]),
        "R": stacked([one.w_hh for one in weights]),
    }
    b_ih = [one.b_ih for one in weights if one.b_ih is not None]
    b_hh = [one.b_hh for one in weights if one.b_hh is not None]
    if b_ih:
        made["B"] = torch.cat([stacked(b_ih), stacked(b_hh)], 1)
    units = [one.per_unit.detach().chunk(3) for one in weights if one.per_unit is not None]
    if units:
        made["P"] = torch.stack([torch.cat([one[at] for at in _PEEPHOLES]) for one in units])
    return made


def onnx_limit(problem: Problem, device: str, what: str) -> str | None:
    """Why no reader of ONNX on a CPU runs this, or None.

    Args:
        what: the reader, "the openvino backend".
    """
    reason = device_limit(problem, device)
    if reason is not None:
        return reason
    if torch.device(device).type != "cpu":
        return f"{what} needs a CPU, and this is {device!r}"
    if problem.proj_size:
        return f"ONNX's LSTM has no projection, and this problem has proj_size {problem.proj_size}"
    return None


def onnx_layer(
    problem: Problem,
    weights: tuple[Weights, ...],
    *,
    ragged: bool,
    steps: int | None = None,
    batch: int | None = None,
) -> bytes:
    """A serialised model of one layer, float32: X, the states and, where ragged, sequence_lens in.

    Args:
        weights: one a direction; the model holds float32 copies.
        ragged: whether it takes `sequence_lens`, int32 [B].
        steps, batch: T and B, if the model is only for these.
    Returns:
        its outputs are Y [T, D, B, H], Y_h [D, B, H] and, for an LSTM, Y_c [D, B, H].
    """
    operator = OPERATORS[problem.cell]
    held = {
        name: t.float().contiguous().numpy()
        for name, t in onnx_weights(weights, problem.cell).items()
    }
    if problem.precision == "w8":
        operator = _QUANTISED
        held = {name: array for key in held for name, array in _as_int8(key, held[key]).items()}
    states = [problem.directions, batch, problem.hidden_size]
    given: dict[str, list[int | None]] = {"X": [steps, batch, problem.input_size]}
    given |= {LENGTHS: [batch]} if ragged else {}
    given |= {"initial_h": states}
    given |= {"initial_c": states} if problem.has_cell_state else {}
    model = onnx_model(operator, given, held, attributes_of(problem))
    return bytes(model.SerializeToString())


def _as_int8(name: str, array: Array) -> dict[str, Array]:
    """W or R [D, G*H, K] as int8 [D, K, G*H], with a scale a row; anything else as it is."""
    if name not in ("W", "R"):
        return {name: array}
    scale = np.abs(array).max(2) / np.float32(127)
    # A row of zeros is zeros at any scale.
    scale[scale == 0] = 1
    q = np.rint(array / scale[:, :, None]).astype(np.int8)
    zeros = np.zeros(scale.shape, np.int8)
    turned = np.ascontiguousarray(q.transpose(0, 2, 1))
    return {name: turned, f"{name}_scale": scale, f"{name}_zero_point": zeros}


def attributes_of(problem: Problem) -> dict[str, Any]:
    """The attributes of a layer's operator."""
    attributes: dict[str, Any] = {"hidden_size": problem.hidden_size}
    if problem.bidirectional:
        attributes["direction"] = "bidirectional"
    if problem.cell == "lstm_cifg":
        attributes["input_forget"] = 1
    if problem.cell == "gru":
        attributes["linear_before_reset"] = 1
    if problem.cell == "rnn_relu":
        attributes["activations"] = ["Relu"] * problem.directions
    return attributes


def last_states(made: Tensor, before: Tensor, lengths: Tensor | None) -> Tensor:
    """The final states [D, B, H] of a layer: for a sequence without steps the initial ones.

    ONNX Runtime and OpenVINO return 0 there.
    """
    if lengths is None or bool(lengths.all()):
        return made
    return torch.where((lengths == 0).unsqueeze(1), before, made)


def onnx_model(
    operator: str,
    given: Mapping[str, list[int | None]],
    held: Mapping[str, Array],
    attributes: Mapping[str, Any],
) -> onnx.ModelProto:
    """A model of one operator.

    Args:
        given: the shapes of its inputs, by ONNX's names; None for any size.
        held: the arrays that it holds.
    """
    has_c = operator in ("LSTM", _QUANTISED)
    known = (*_INPUTS, *_SCALES)
    names = [name if name in given or name in held else "" for name in known]
    while not names[-1]:
        names.pop()
    outputs = _OUTPUTS[: 3 if has_c else 2]
    domain = _DOMAINS.get(operator, "")
    node = helper.make_node(operator, names, outputs, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT32 if name == LENGTHS else TensorProto.FLOAT, shape
            )
            for name, shape in given.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in zip(outputs, (4, 3, 3), strict=False)
        ],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
