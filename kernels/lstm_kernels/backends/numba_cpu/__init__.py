"""Numba on a CPU: packed weights, one register-blocked product, one kernel for a layer.

Idea: a layer is one parallel region of torch's own thread pool. Each thread packs its panels of
W_ih and W_hh once and keeps them in its cache over all steps; all gates of a unit are made in
registers, and the states directly from them, by code generated from the cell's definition. The
backward makes dx and every weight's gradient a chunk of steps at a time, while the gates' gradients
are still in cache. More in docs/numba-cpu.md.
Source: Goto and van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication".
In precision w8 the weights are int8, packed once, and the forward has a kernel of its own.
Limits: CPUs; cells of four gates at most; a projection is computed as a plain layer of W_hh W_hr;
float16, and bfloat16 on a CPU that does not multiply it, in float32, from copies, and so are heads
and cells that normalise; second derivatives without a kernel.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.backends.numba_cpu import compiled, int8_weights
from lstm_kernels.backends.numba_cpu.cell_layout import VECTORS, reason_against
from lstm_kernels.backends.numba_cpu.cell_source import NUMBA_CPU
from lstm_kernels.backends.numba_cpu.function import PLAIN, Runner, runner_of
from lstm_kernels.backends.numba_cpu.memory import empty_cache
from lstm_kernels.backends.numba_cpu.noting import noted
from lstm_kernels.backends.numba_cpu.pairing import product_of
from lstm_kernels.backends.numba_cpu.registers import registers
from lstm_kernels.backends.numba_cpu.sequence import (
    is_unpacked,
    operator_backward,
    operator_forward,
    packable,
    run_forward,
    saved_shapes,
    sizes_of,
    threads_for,
)
from lstm_kernels.cells import CELLS
from lstm_kernels.cells.code.stages import staged
from lstm_kernels.common import operators
from lstm_kernels.common.in_float32 import in_float32, is_narrow, widened
from lstm_kernels.common.projected import projected
from lstm_kernels.common.refusals import device_limit
from lstm_kernels.phases import Note
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights

__all__ = [
    "DIALECT",
    "empty_cache",
    "in_phases",
    "kernels_used",
    "layer",
    "operator_backward",
    "operator_forward",
    "saved_shapes",
    "unsupported",
]

WHAT = "the numba_cpu backend"
_OF_INT8 = {"vnni": ", dot products of int8", "words": ", int8 as 16-bit numbers"}
_OF_PRODUCTS = {"fma": "", "amx": ", AMX on bfloat16", "dot": ", dot products of bfloat16"}

# The dialect of `inspect --source`.
DIALECT = NUMBA_CPU


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
    look: bool = False,
    runner: Runner = PLAIN,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says.

    Args:
        look: whether to compare weights that it keeps as int8; others are packed at every call.
        runner: what runs the kernels; another one is `in_phases`'.
    """
    if problem.precision == "w8":
        return _of_int8(x, h0, c0, weights, problem, lengths, look, runner)
    if _is_widened(problem):
        in_wide = partial(layer, problem=widened(problem), lengths=lengths, runner=runner)
        return in_float32(in_wide, x, h0, c0, weights)
    if problem.proj_size:
        return projected(layer, x, h0, c0, weights, problem=problem, lengths=lengths, runner=runner)
    if lengths is None and operators.are_watched():
        return operators.layer("numba_cpu", x, h0, c0, weights, cell=problem.cell)
    x, h0, c0 = x.contiguous(), h0.contiguous(), None if c0 is None else c0.contiguous()
    flat = [tensor for direction in weights for tensor in direction]
    tensors = (x, h0, c0, *flat)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        y, h_n, *last = runner.function.apply(problem, lengths, *tensors)
        return y, h_n, last[0] if last else None
    y, h_n, c_n, _ = run_forward(
        runner.run, problem, x, h0, c0, packable(weights), lengths, saves=False
    )
    return y, h_n, c_n


def in_phases(note: Note) -> Any:
    """A layer that notes its phases, as `lstm_kernels.phases` says."""
    return SimpleNamespace(layer=partial(layer, runner=runner_of(noted(note))))


def _of_int8(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    problem: Problem,
    lengths: Tensor | None,
    look: bool,
    runner: Runner,
) -> Outputs:
    """The layer with int8 weights, which has no gradients."""
    x, h0, c0 = x.contiguous(), h0.contiguous(), None if c0 is None else c0.contiguous()
    packs = int8_weights.packs_of(problem, weights, look=look)
    y, h_n, c_n, _ = run_forward(
        runner.run, problem, x, h0, c0, packable(weights), lengths, saves=False, packs=packs
    )
    return y, h_n, c_n


def _is_widened(problem: Problem) -> bool:
    """Whether a narrow dtype is computed in float32, from copies."""
    if not is_narrow(problem):
        return False
    in_pairs = product_of(problem.dtype).in_pairs
    return problem.heads > 1 or not in_pairs or staged(problem.definition) is not None


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = device_limit(problem, device)
    if reason is not None:
        return reason
    if torch.device(device).type != "cpu":
        return f"{WHAT} needs a CPU, and this is {device!r}"
    reason = compiled.reason_against() or reason_against(CELLS[problem.cell])
    if reason is None and problem.precision == "w8":
        return int8_weights.reason_against(problem)
    return reason


def kernels_used(problem: Problem) -> list[str]:
    """How the products of a layer are made on this machine."""
    computed = widened(problem) if _is_widened(problem) else problem
    product, sizes = product_of(computed.dtype), sizes_of(computed)
    made = f"tiles of {product.rows} rows by {VECTORS} vectors of {sizes.W}"
    how = _OF_PRODUCTS[product.name]
    if problem.precision == "w8":
        how = _OF_INT8[registers().int8]
    elif is_unpacked(computed, problem.seq_len * problem.batch):
        how += ", forward with weights as they are"
    return [f"{made}{how}, {threads_for(problem, problem.batch)} threads"]
