"""Fused Triton kernels: the recurrent weights on chip where they fit, both directions at once.

Idea: a layer is one kernel, and W_hh is read once: `own` holds all of it on one SM, `held` spreads
it over SMs that exchange the state after every step. If it does not fit, `streamed` reads
it at each step, in one kernel for each step; see docs/triton.md. Any cell, from its definition.
Source: Diamos et al. 2016, "Persistent RNNs: Stashing Recurrent Weights On-Chip". Limits: CUDA of
compute capability 8.0 on, or Triton's interpreter for checking; at most four pre-activations a
unit; sums and states in float32, and of float64 in float64; a projection is computed as a plain
layer of W_hh W_hr; second derivatives without a kernel. Not run on a GPU yet.
"""

from typing import Any

import torch
from torch import Tensor

from lstm_kernels.backends.fused_triton.launches import backward_launches, forward_launches
from lstm_kernels.backends.fused_triton.sequence import (
    FusedLayer,
    architecture_of,
    new_backward,
    new_forward,
    operator_backward,
    operator_forward,
    run_forward,
    saved_shapes,
    saves_values,
)
from lstm_kernels.backends.fused_triton.tuning import (
    candidates_on,
    parameters_for,
    tuning_key,
    using,
)
from lstm_kernels.common import operators
from lstm_kernels.common.projected import plain, projected
from lstm_kernels.common.refusals import triton_limit
from lstm_kernels.common.sequence_products import as_given
from lstm_kernels.gpu.fused_gates import TRITON
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import architecture
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights

__all__ = [
    "DIALECT",
    "candidates",
    "kernels_used",
    "launches_for",
    "layer",
    "operator_backward",
    "operator_forward",
    "saved_shapes",
    "tuning_key",
    "unsupported",
    "using",
]

WHAT = "the triton backend"

# The dialect of `inspect --source`.
DIALECT = TRITON

# Pre-activations of a unit that are side by side in its product.
MOST_SLOTS = 4


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
    recompute: bool = False,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says.

    Args:
        recompute: keep no gates for the backward, [D, T, B, 4*H] for an LSTM, but compute them
            again from y.
    """
    if problem.proj_size:
        return projected(
            layer, x, h0, c0, weights, problem=problem, lengths=lengths, recompute=recompute
        )
    if lengths is None and operators.are_watched():
        cell = problem.cell
        return operators.layer("triton", x, h0, c0, weights, cell=cell, recompute=recompute)
    x, h0, c0 = x.contiguous(), h0.contiguous(), None if c0 is None else c0.contiguous()
    on_device = None if lengths is None else lengths.to(x.device).contiguous()
    flat = [tensor for direction in weights for tensor in direction]
    tensors = (x, h0, c0, *flat)
    with as_given(x.device):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            # torch does not annotate `apply`.
            y, h_n, *c_n = FusedLayer.apply(problem, recompute, on_device, *tensors)  # type: ignore[no-untyped-call]
            return y, h_n, c_n[0] if c_n else None
        to = new_forward(problem, x, h0, c0, weights, on_device, saves=False, recompute=False)
        run_forward(problem, x, weights, to)
        return to.y, to.h_n, to.c_n


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = triton_limit(problem, device, WHAT)
    slots = len(problem.definition.slots)
    if reason is None and slots > MOST_SLOTS:
        return f"cell {problem.cell!r} has {slots} pre-activations a unit; {WHAT} has {MOST_SLOTS}"
    if reason is None and torch.device(device).type == "cuda":
        capability = architecture_of(torch.device(device)).capability
        if capability < 80:
            return f"{WHAT} needs compute capability 8.0, and this GPU has {capability / 10}"
    return reason


def kernels_used(problem: Problem) -> list[str]:
    """The regime and launch parameters of both passes of a layer, on the current device."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    facts = architecture_of(device)
    return [
        f"{pass_name}: {parameters_for(problem, pass_name, facts, device)}"
        for pass_name in ("forward", "backward")
    ]


def candidates(problem: Problem, pass_name: str, device: str) -> list[dict[str, Any]]:
    """The launch parameters worth measuring; see `lstm_kernels.tuning`, as for the other hooks."""
    return candidates_on(problem, pass_name, architecture_of(torch.device(device)))


def launches_for(problem: Problem, arch: str) -> list[Launch]:
    """What a layer launches: for inference, for a forward that saves and for a backward.

    With the table's parameters, or those of `using`: no tuned file is read.
    """
    problem = plain(problem)
    facts = architecture(arch)
    dtype = getattr(torch, problem.dtype)

    def meta(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    T, B, H, D = problem.seq_len, problem.batch, problem.hidden_size, problem.directions
    rows = problem.gates * H
    rows_h, units = problem.h_gates * H, len(problem.definition.per_unit) * H
    one = Weights(
        meta(rows, problem.input_size),
        meta(rows_h, H),
        meta(rows) if problem.bias else None,
        meta(rows_h) if problem.bias else None,
        per_unit=meta(units) if units else None,
    )
    weights = (one,) * D
    x, y, state = meta(T, B, problem.input_size), meta(T, B, D * H), meta(D, B, H)
    c = meta(D, B, problem.cell_state_size) if problem.has_cell_state else None
    lengths = None
    if problem.lengths != "full":
        lengths = torch.empty(B, dtype=torch.int64, device="meta")
    made: list[Launch] = []
    for saves in (False, True):
        to = new_forward(problem, x, state, c, weights, lengths, saves=saves, recompute=False)
        parameters = parameters_for(problem, "forward", facts, None)
        made += forward_launches(problem, parameters, to, facts.sm_count)
    saved = to.gates, to.cells
    back = new_backward(problem, y, state, c, weights, saved, y, state, c, lengths)
    parameters = parameters_for(problem, "backward", facts, None)
    for preactivated in (False, True)[: 1 + saves_values(problem)]:
        made += backward_launches(
            problem, parameters, back, facts.sm_count, preactivated=preactivated
        )
    return made
