"""PyTorch's own recurrent functions, behind the backends `aten` and `cudnn`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
}


def packing_limit(problem: Problem) -> str | None:
    """Why torch.nn cannot pack these lengths, or None."""
    empty = sum(length == 0 for length in problem.sequence_lengths())
    if empty:
        return (
            f"{empty} of the {problem.batch} sequences have 0 steps, "
            "and torch.nn packs sequences of 1 step or more"
        )
    return None


@contextmanager
def cudnn_enabled(enabled: bool) -> Iterator[None]:
    """Switch cuDNN on or off, and touch no other flag.

    `torch.backends.cudnn.flags` would also set TF32 to its own default, which is the caller's
    choice; the plain attribute refuses once torch's test helpers have frozen it.
    """
    before = torch._C._get_cudnn_enabled()
    torch._C._set_cudnn_enabled(enabled)
    try:
        yield
    finally:
        torch._C._set_cudnn_enabled(before)


def flat_weights(weights: tuple[Weights, ...]) -> list[Tensor]:
    """The order torch.nn has them in: by layer, direction, then w_ih, w_hh, b_ih, b_hh, w_hr."""
    return [tensor for layer in weights for tensor in layer if tensor is not None]


def run_native(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
    training: bool = False,
) -> Outputs:
    """A whole network in one call of torch.lstm and its siblings (see `lstm_kernels.stack`).

    Ragged sequences are sorted and packed, and the results padded and put back in order.

    Raises:
        Unsupported: a sequence has no steps; torch cannot pack it.
    """
    if lengths is None:
        return _call(x, None, h0, c0, weights, problem, dropout, training)
    if int(lengths.min()) == 0:
        raise Unsupported(f"sequence {int(lengths.argmin())} has 0 steps, torch.nn packs 1 or more")
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None
    assert back is not None
    data, h_n, c_n = _call(
        packed.data,
        packed.batch_sizes,
        h0.index_select(1, order),
        None if c0 is None else c0.index_select(1, order),
        weights,
        problem,
        dropout,
        training,
    )
    packed_y = PackedSequence(data, packed.batch_sizes, order, back)
    y, _ = pad_packed_sequence(packed_y, total_length=len(x))
    return y, h_n.index_select(1, back), None if c_n is None else c_n.index_select(1, back)


def _call(
    x: Tensor,
    batch_sizes: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    problem: Problem,
    dropout: float,
    training: bool,
) -> Outputs:
    state = h0 if c0 is None else (h0, c0)
    settings = (problem.bias, problem.num_layers, dropout, training, problem.bidirectional)
    function = _FUNCTIONS[problem.cell]
    flat = flat_weights(weights)
    if batch_sizes is None:
        outputs = function(x, state, flat, *settings, False)  # batch_first
    else:
        outputs = function(x, batch_sizes, state, flat, *settings)
    return outputs if len(outputs) == 3 else (*outputs, None)
