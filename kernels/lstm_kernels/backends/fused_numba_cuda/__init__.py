"""Persistent kernels in Numba CUDA: the recurrent weights in registers and shared memory.

Idea: a layer is one kernel, and W_hh is read once: `held` spreads it over the registers and shared
memory of all SMs, which exchange the state after every step. If it does not fit,
`streamed` makes a step's product by cuBLAS and the gates in one kernel; see
docs/numba-cuda.md. The arithmetic is generated from the cell's definition: any cell runs.
Source: Diamos et al. 2016, "Persistent RNNs: Stashing Recurrent Weights On-Chip".
Limits: CUDA of compute capability 8.0 on, or Numba's simulator for checking; float32 and float64
arithmetic without matrix units, so no TF32; bfloat16 and float16 are computed in float32, from
copies, and a projection as a plain layer of W_hh W_hr; second derivatives without a kernel. Not run
on a GPU yet.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.backends.fused_numba_cuda.cells import NUMBA_CUDA
from lstm_kernels.backends.fused_numba_cuda.launches import (
    backward_step,
    forward_step,
    held_backward,
    held_forward,
)
from lstm_kernels.backends.fused_numba_cuda.sequence import (
    FusedLayer,
    architecture_of,
    new_backward,
    new_forward,
    operator_backward,
    operator_forward,
    run_forward,
    saved_shapes,
)
from lstm_kernels.backends.fused_numba_cuda.tuning import (
    candidates_on,
    parameters_for,
    tuning_key,
    using,
)
from lstm_kernels.common import operators
from lstm_kernels.common.in_float32 import in_float32, is_narrow, widened
from lstm_kernels.common.projected import plain, projected
from lstm_kernels.common.refusals import interpreted_limit
from lstm_kernels.common.sequence_products import as_given
from lstm_kernels.gpu.machine_code import architecture
from lstm_kernels.gpu.numba_launching import NumbaLaunch
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Unsupported, Weights

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

WHAT = "the numba_cuda backend"

# The dialect of `inspect --source`.
DIALECT = NUMBA_CUDA


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says."""
    if is_narrow(problem):
        in_wide = partial(layer, problem=widened(problem), lengths=lengths)
        return in_float32(in_wide, x, h0, c0, weights)
    if problem.proj_size:
        return projected(layer, x, h0, c0, weights, problem=problem, lengths=lengths)
    if lengths is None and operators.are_watched():
        return operators.layer("numba_cuda", x, h0, c0, weights, cell=problem.cell)
    x, h0, c0 = x.contiguous(), h0.contiguous(), None if c0 is None else c0.contiguous()
    on_device = None if lengths is None else lengths.to(x.device).contiguous()
    flat = [tensor for direction in weights for tensor in direction]
    tensors = (x, h0, c0, *flat)
    with as_given(x.device):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            # torch does not annotate `apply`.
            y, h_n, *c_n = FusedLayer.apply(problem, on_device, *tensors)  # type: ignore[no-untyped-call]
            return y, h_n, c_n[0] if c_n else None
        to = new_forward(problem, x, h0, c0, weights, on_device, saves=False)
        run_forward(problem, x, weights, to, saves=False)
        return to.y, to.h_n, None if c0 is None else to.c_n


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = interpreted_limit(problem, device, WHAT, "NUMBA_ENABLE_CUDASIM") or _never(problem)
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
    problem = widened(problem)
    return [
        f"{pass_name}: {parameters_for(problem, pass_name, facts, device)}"
        for pass_name in ("forward", "backward")
    ]


def candidates(problem: Problem, pass_name: str, device: str) -> list[dict[str, Any]]:
    """The launch parameters worth measuring; see `lstm_kernels.tuning`, as for the other hooks."""
    return candidates_on(widened(problem), pass_name, architecture_of(torch.device(device)))


def launches_for(problem: Problem, arch: str) -> list[NumbaLaunch]:
    """What a layer launches: for inference, for a forward that saves and for a backward.

    With the rules' parameters, or those of `using`: no tuned file is read.

    Raises:
        Unsupported: with the reason.
    """
    reason = _never(problem)
    if reason:
        raise Unsupported(reason)
    problem = plain(widened(problem))
    on = architecture(arch)

    meta = partial(torch.empty, dtype=getattr(torch, problem.dtype), device="meta")
    T, B, H, D = problem.seq_len, problem.batch, problem.hidden_size, problem.directions
    rows, states = problem.h_gates * H, len(problem.definition.states)
    weights = (_weights_like(problem, meta),) * D
    x, y, state = meta(T, B, problem.input_size), meta(T, B, D * H), meta(D, B, H)
    c = meta(D, B, problem.cell_state_size) if problem.has_cell_state else None
    lengths = None
    if problem.lengths != "full":
        lengths = torch.empty(B, dtype=torch.int64, device="meta")
    made: list[NumbaLaunch] = []
    parameters = parameters_for(problem, "forward", on, None)
    for saves in (False, True):
        to = new_forward(problem, x, state, c, weights, lengths, saves=saves)
        if parameters.regime == "held":
            made += held_forward(problem, parameters, to, on, saves=saves)
        else:
            made.append(forward_step(problem, to, meta(D, B, rows), 0, saves=saves))
    saved = to.gates, to.cells
    back = new_backward(problem, y, state, c, weights, saved, y, state, c, lengths)
    parameters = parameters_for(problem, "backward", on, None)
    if parameters.regime == "held":
        made += held_backward(problem, parameters, back, on)
    else:
        d_now, carry = meta(D, B, rows), meta(states, D, B, H)
        made.append(backward_step(problem, back, meta(D, B, H), d_now, carry, 0))
    return made


def _weights_like(problem: Problem, new: Callable[..., Tensor]) -> Weights:
    """A direction's weights, by a function that makes a tensor of a shape."""
    H = problem.hidden_size
    rows, rows_h, units = problem.gates * H, problem.h_gates * H, len(problem.definition.per_unit)
    return Weights(
        new(rows, problem.input_size),
        new(rows_h, H),
        new(rows) if problem.bias else None,
        new(rows_h) if problem.bias else None,
        per_unit=new(units * H) if units else None,
    )


def _never(problem: Problem) -> str | None:
    if problem.precision != "ieee":
        return f"{WHAT} uses no matrix units, and this is float32 by {problem.precision}"
    return None
