"""OpenVINO's LSTM, GRU and RNN sequences on a CPU: a peer, raced as a library that others wrote.

Idea: it reads a layer as the same ONNX model as ONNX Runtime and compiles it for one T and B,
with its weights as constants and packed once. It is compiled again if weights changed
(`common.kept_copies`) or T or B did; input, states and results are in PyTorch's memory. In bfloat16
a model of float32 computes with its precision hint: input and results are converted in PyTorch.
More in docs/peers.md.
Source: the CPU plugin's sequences (src/plugins/intel_cpu/src/nodes/rnn.cpp), which are oneDNN's.
Limits: CPUs; inference only; float32, and bfloat16 if the CPU multiplies it; no peepholes, no
coupled gates; as many threads as torch has.
"""

import threading
from functools import cache
from typing import Any, NamedTuple

import openvino
import torch
from torch import Tensor

from lstm_kernels.common.kept_copies import KeptCopies
from lstm_kernels.common.onnx_layers import LENGTHS, last_states, onnx_layer, onnx_limit
from lstm_kernels.common.refusals import forked_limit
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights

WHAT = "the openvino backend"
# Its memory is not from PyTorch's allocator, which reports how much a pass takes.
HOLDS_MEMORY = True
# OpenVINO's name for the precision to compute in.
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class _Request(NamedTuple):
    """A compiled layer, which runs one call at a time."""

    model: Any
    request: Any
    lock: threading.Lock


_requests: KeptCopies[_Request] = KeptCopies()


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
    look: bool = False,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says."""
    left_behind = forked_limit("OpenVINO", _requests.process)
    if left_behind is not None:
        raise Unsupported(left_behind)
    threads, ragged = torch.get_num_threads(), lengths is not None
    T, B = x.shape[:2]
    D, H = problem.directions, problem.hidden_size
    settings = (problem.cell, problem.dtype, problem.bidirectional, T, B, threads, ragged)
    compiled = _requests.get(
        weights, settings, lambda: _compiled(problem, weights, T, B, threads, ragged), look=look
    )
    given = {"X": x, "initial_h": h0} | ({} if c0 is None else {"initial_c": c0})
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in given.items()}
    if lengths is not None:
        tensors[LENGTHS] = lengths.to(torch.int32)
    shapes = [(T, D, B, H), (D, B, H)] + ([] if c0 is None else [(D, B, H)])
    made = [torch.empty(shape, dtype=torch.float32, device="cpu") for shape in shapes]
    # The request holds no memory: its tensors are set again before each run.
    with compiled.lock:
        for name, tensor in tensors.items():
            compiled.request.set_tensor(name, _shared(tensor))
        for place, tensor in enumerate(made):
            compiled.request.set_output_tensor(place, _shared(tensor))
        compiled.request.infer()
    y, *last = (tensor.to(x.dtype) for tensor in made)
    h_n = last_states(last[0], h0, lengths)
    c_n = None if c0 is None else last_states(last[1], c0, lengths)
    return y.transpose(1, 2).flatten(2), h_n, c_n


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = onnx_limit(problem, device, WHAT)
    if reason is not None:
        return reason
    if problem.dtype not in _PRECISIONS:
        known = ", ".join(_PRECISIONS)
        return f"OpenVINO's sequences compute in {known}, and this is {problem.dtype}"
    if problem.dtype == "bfloat16" and "BF16" not in _capabilities():
        told = ", ".join(_capabilities())
        return f"OpenVINO computes bfloat16 only where the CPU multiplies it; this CPU has {told}"
    return forked_limit("OpenVINO", _requests.process)


def kernels_used(problem: Problem) -> list[str]:
    """The library that computes, and its number of threads."""
    used = f"openvino {openvino.__version__.partition('-')[0]}, {torch.get_num_threads()} threads"
    return [used]


@cache
def _core() -> Any:
    return openvino.Core()


@cache
def _capabilities() -> tuple[str, ...]:
    return tuple(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _compiled(
    problem: Problem, weights: tuple[Weights, ...], T: int, B: int, threads: int, ragged: bool
) -> _Request:
    model = onnx_layer(problem, weights, ragged=ragged, steps=T, batch=B)
    compiled = _core().compile_model(
        _core().read_model(model),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[problem.dtype],
        },
    )
    return _Request(compiled, compiled.create_infer_request(), threading.Lock())


def _shared(tensor: Tensor) -> Any:
    """OpenVINO's tensor of the same memory."""
    return openvino.Tensor(tensor.numpy(), shared_memory=True)
