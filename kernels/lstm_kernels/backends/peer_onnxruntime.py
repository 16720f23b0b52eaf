"""ONNX Runtime's own LSTM, GRU and RNN on a CPU: a peer, raced as a library that others wrote.

Idea: a session with one operator for each layer and its weights as constants, which ONNX Runtime
packs once for its products. A session is made again if weights changed (`common.kept_copies`);
input, states and results are not copied, except y of two directions. More in docs/peers.md. Source:
the operators of onnxruntime/core/providers/cpu/rnn, and DynamicQuantizeLSTM of
onnxruntime/contrib_ops for int8 weights. Limits: CPUs; inference only; float32; int8 weights of an
LSTM only; as many threads as torch has.
"""

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from lstm_kernels.common.kept_copies import KeptCopies
from lstm_kernels.common.onnx_layers import (
    LENGTHS,
    OPERATORS,
    last_states,
    onnx_layer,
    onnx_limit,
)
from lstm_kernels.common.refusals import forked_limit
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights

WHAT = "the onnxruntime backend"
# Its memory is not from PyTorch's allocator, which reports how much a pass takes.
HOLDS_MEMORY = True

_sessions: KeptCopies[onnxruntime.InferenceSession] = KeptCopies()


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
    left_behind = forked_limit("ONNX Runtime", _sessions.process)
    if left_behind is not None:
        raise Unsupported(left_behind)
    threads, ragged = torch.get_num_threads(), lengths is not None
    settings = (*_kind(problem), threads, ragged)
    session = _sessions.get(
        weights, settings, lambda: _session(problem, weights, threads, ragged), look=look
    )
    if lengths is not None and problem.precision == "w8":
        # All of x has one scale, so that what lies past a sequence's end would change it.
        past = torch.arange(len(x)).unsqueeze(1) >= lengths
        x = x.masked_fill(past.unsqueeze(2), 0.0)
    given = {"X": _array(x), "initial_h": _array(h0)}
    if c0 is not None:
        given["initial_c"] = _array(c0)
    if lengths is not None:
        given[LENGTHS] = lengths.to(torch.int32).numpy()
    # [T, D, B, H], then [D, B, H].
    y, *last = (torch.from_numpy(made) for made in session.run(None, given))
    h_n = last_states(last[0], h0, lengths)
    c_n = None if c0 is None else last_states(last[1], c0, lengths)
    return y.transpose(1, 2).flatten(2), h_n, c_n


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = onnx_limit(problem, device, WHAT)
    if reason is not None:
        return reason
    if problem.dtype != "float32":
        operator = "LSTM, GRU and RNN on a CPU compute in float32"
        return f"ONNX Runtime's {operator}, and this is {problem.dtype}"
    if problem.precision == "w8" and OPERATORS[problem.cell] != "LSTM":
        return f"ONNX Runtime has int8 weights of an LSTM only, and this is {problem.cell}"
    return forked_limit("ONNX Runtime", _sessions.process)


def kernels_used(problem: Problem) -> list[str]:
    """The library that computes, and its number of threads."""
    return [f"onnxruntime {onnxruntime.__version__}, {torch.get_num_threads()} threads"]


def _kind(problem: Problem) -> tuple[object, ...]:
    """What a session depends on in addition to the weights: it runs any T and B."""
    sizes = problem.input_size, problem.hidden_size
    return problem.cell, problem.precision, *sizes, problem.bidirectional


def _session(
    problem: Problem, weights: tuple[Weights, ...], threads: int, ragged: bool
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads wait for work by spinning, as by default, but not after the end of a run:
    # they would take the cores from the next computation.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(
        onnx_layer(problem, weights, ragged=ragged), options, providers=["CPUExecutionProvider"]
    )


def _array(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return tensor.detach().contiguous().numpy()
