"""How a layer is called: what a module does around its backend, and what it is given and returns.

`called` is what `lstm_kernels.modules` does with `batch_first` and `dropout` and under
torch.autocast, without a module. A test holds the two to the same tensors at the backend and to the
same results.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_harness.model.case import Call
from lstm_harness.worker.inputs import TORCH_DTYPES, Inputs
from lstm_harness.worker.older_kernels import autocast_of
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights, run

_MODULES = {
    "lstm": (torch.nn.LSTM, {}),
    "gru": (torch.nn.GRU, {}),
    "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}
# What has the order of the batch and the steps that x has.
_LIKE_X = ("y", "d_x")


def called(implementation: Any, problem: Problem, call: Call, inputs: Inputs) -> Outputs:
    """Call a backend as a module does.

    Args:
        inputs: as `as_called` makes them.
    Raises:
        Unsupported: the backend computes neither in autocast's dtype nor in float32.
    """
    low = TORCH_DTYPES.get(call.autocast)

    def layers(x: Tensor, h0: Tensor, c0: Tensor | None, weights: tuple[Weights, ...]) -> Outputs:
        computed = call.computed(problem) if x.dtype is low else problem
        reason = implementation.unsupported(computed, str(x.device)) if low else None
        if reason:
            raise Unsupported(reason)
        return run(
            implementation,
            x.contiguous(),
            h0,
            c0,
            weights,
            problem=computed,
            lengths=inputs.lengths,
            dropout=call.dropout,
            training=call.dropout > 0,
        )

    x = inputs.x.transpose(0, 1) if call.batch_first else inputs.x
    tensors = x, inputs.h0, inputs.c0, inputs.weights
    if low is None:
        y, h_n, c_n = layers(*tensors)
    else:
        cell, packed = problem.cell, inputs.lengths is not None
        under_autocast = autocast_of()
        with torch.autocast(x.device.type, low):
            y, h_n, c_n = under_autocast(layers, *tensors, cell=cell, packed=packed)
    return (y.transpose(0, 1) if call.batch_first else y), h_n, c_n


def seed_masks(call: Call, word: str) -> None:
    """Let the next executions draw the masks of dropout that follow from a word."""
    if call.dropout:
        torch.manual_seed(int.from_bytes(hashlib.sha256(word.encode()).digest()[:7], "big"))


def masks_of(
    problem: Problem, call: Call, word: str, execution: int, device: str
) -> tuple[Tensor, ...]:
    """The factors that dropout multiplies each layer's output by, except the last one's.

    They are drawn as `lstm_kernels.stack` and torch.nn draw them: for one execution after another
    from the first on, in the dtype that is computed in.

    Returns:
        [T, B, D*S] for each, in float64; none without dropout.
    """
    if not call.dropout:
        return ()
    seed_masks(call, word)
    sizes = problem.seq_len, problem.batch, problem.directions * problem.state_size
    ones = torch.ones(sizes, dtype=TORCH_DTYPES[call.computed(problem).dtype], device=device)
    for _ in range(execution + 1):
        drawn = [dropout(ones, call.dropout) for _ in range(problem.num_layers - 1)]
    return tuple((each != 0).double() / (1 - call.dropout) for each in drawn)


def why_wide(implementation: Any, problem: Problem, call: Call, device: str) -> str:
    """Why a backend computes in float32 under autocast; empty if it does not."""
    if call.autocast == "none":
        return ""
    return str(implementation.unsupported(call.computed(problem), device) or "")


def as_called(inputs: Inputs, problem: Problem, call: Call) -> Inputs:
    """Inputs of a plain call as a call like this one takes them.

    Batch first, x and d_y are [B, T, features]. Under autocast the output gradients have the dtypes
    of the outputs, and all else stays float32.
    """
    if call.batch_first:
        inputs = _with_batch_swapped(inputs)
    if call.autocast == "none":
        return inputs
    is_projected, is_packed = bool(problem.proj_size), inputs.lengths is not None
    device = inputs.x.device.type
    y, h_n, c_n = output_dtypes(problem.cell, is_projected, is_packed, call.autocast, device)
    d_c_n = None if inputs.d_c_n is None else inputs.d_c_n.to(c_n)
    return replace(inputs, d_y=inputs.d_y.to(y), d_h_n=inputs.d_h_n.to(h_n), d_c_n=d_c_n)


def as_plain(inputs: Inputs, call: Call) -> Inputs:
    """The same numbers as a plain call takes them, except their dtypes."""
    return _with_batch_swapped(inputs) if call.batch_first else inputs


def made_plain(made: Mapping[str, Sequence[Tensor]], call: Call) -> dict[str, list[Tensor]]:
    """What a call made, by name, in the order of a plain call's."""
    swapped = _LIKE_X if call.batch_first else ()
    return {
        name: [each.transpose(0, 1) for each in group] if name in swapped else [*group]
        for name, group in made.items()
    }


def _with_batch_swapped(inputs: Inputs) -> Inputs:
    x, d_y = (tensor.transpose(0, 1).contiguous() for tensor in (inputs.x, inputs.d_y))
    return replace(inputs, x=x, d_y=d_y)


@lru_cache
def output_dtypes(
    cell: str, is_projected: bool, is_packed: bool, autocast: str, device: str
) -> tuple[torch.dtype, torch.dtype, torch.dtype]:
    """The dtypes of y, h_n and c_n that torch.nn returns under autocast here: it is called.

    A cell that it does not have, or that it fails to run so, has autocast's, as in `lk.Recurrent`.
    """
    low = TORCH_DTYPES[autocast]
    if cell not in _MODULES:
        return low, low, low
    kind, settings = _MODULES[cell]
    projection = {"proj_size": 1} if is_projected else {}
    module = kind(1, 2, device=device, **settings, **projection)
    x: Any = torch.zeros(2, 2, 1, device=device)
    if is_packed:
        # Of different lengths: PyTorch unpacks those of one.
        x = pack_padded_sequence(x, torch.tensor([2, 1]))
    try:
        with torch.no_grad(), torch.autocast(device, low):
            y, states = module(x)
    except RuntimeError:
        return low, low, low
    h_n, c_n = states if isinstance(states, tuple) else (states, states)
    return (y.data if is_packed else y).dtype, h_n.dtype, c_n.dtype
