"""A layer over a sequence: the kernels, the whole-sequence products around them, the gradients.

`held` is one launch for all steps; `streamed` a product and a launch each step. They differ only
in the source of a step's product.
"""

from typing import Any

import torch
from torch import Tensor

from lstm_kernels.backends.fused_numba_cuda import parameters
from lstm_kernels.backends.fused_numba_cuda.cells import kept_states, saved_values
from lstm_kernels.backends.fused_numba_cuda.launches import (
    Backward,
    Forward,
    backward_step,
    forward_step,
    held_backward,
    held_forward,
)
from lstm_kernels.backends.fused_numba_cuda.tuning import parameters_for
from lstm_kernels.common.second_derivatives import layer_gradients
from lstm_kernels.common.sequence_products import (
    as_given,
    device_facts,
    parts_from_x,
    sequence_gradients,
    slots_of,
)
from lstm_kernels.common.unroll import alive_steps
from lstm_kernels.gpu.machine_code import Architecture
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights, unflatten


def architecture_of(device: torch.device) -> Architecture:
    """The device's facts that kernels are planned for."""
    return device_facts(device) if device.type == "cuda" else parameters.SIMULATOR


def new_forward(
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    lengths: Tensor | None,
    *,
    saves: bool,
) -> Forward:
    """The forward kernel's tensors, its results not filled yet; what it reads, except from_x."""
    (T, B, _), D, H = x.shape, problem.directions, problem.hidden_size
    none = x.new_empty(0)
    # Past a sequence's end y is zero, and the kernel does not write there.
    y = (x.new_empty if lengths is None else x.new_zeros)(T, B, D * H)
    shapes = saved_shapes(problem, T, B) if saves else (None, None)
    gates, cells = (none if shape is None else x.new_empty(shape) for shape in shapes)
    return Forward(
        from_x=x.new_empty(D, T, B, problem.gates * H),
        w=weights[0].w_hh.contiguous(),
        w_reverse=weights[-1].w_hh.contiguous(),
        b=_bias(weights[0]),
        b_reverse=_bias(weights[-1]),
        per_unit=_per_unit(weights[0]),
        per_unit_reverse=_per_unit(weights[-1]),
        h0=h0,
        c0=none if c0 is None else c0,
        lengths=_lengths(lengths, x),
        y=y,
        h_n=torch.empty_like(h0),
        c_n=none if c0 is None else torch.empty_like(c0),
        gates=gates,
        cells=cells,
    )


def run_forward(
    problem: Problem, x: Tensor, weights: tuple[Weights, ...], to: Forward, *, saves: bool
) -> None:
    """Fill the results of `to`."""
    parts_from_x(x, weights, to.from_x)
    on = architecture_of(x.device)
    chosen = parameters_for(problem, "forward", on, x.device)
    if chosen.regime == "held":
        for launch in held_forward(problem, chosen, to, on, saves=saves):
            launch.run()
        return
    to.h_n.copy_(to.h0)
    to.c_n.copy_(to.c0)
    from_h = x.new_empty(problem.directions, x.shape[1], problem.h_gates * problem.hidden_size)
    if not problem.h_gates:
        forward_step(problem, to, from_h, 0, saves=saves).run()
        return
    per_direction = ((to.w, to.b), (to.w_reverse, to.b_reverse))[: problem.directions]
    for step in range(len(x)):
        for direction, (w, b) in enumerate(per_direction):
            torch.addmm(b, to.h_n[direction], w.t(), out=from_h[direction])
        forward_step(problem, to, from_h, step, saves=saves).run()


def new_backward(
    problem: Problem,
    d_y: Tensor,
    d_h_n: Tensor,
    d_c_n: Tensor | None,
    weights: tuple[Weights, ...],
    saved: tuple[Tensor, Tensor],
    y: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    lengths: Tensor | None,
) -> Backward:
    """The backward kernel's tensors, its results not filled yet; `saved` are gates and cells."""
    (T, B, _), D, H = y.shape, problem.directions, problem.hidden_size
    none = y.new_empty(0)
    # The products after the loop read every step, those past a sequence's end too.
    d_gates = y.new_empty if lengths is None else y.new_zeros
    gates, cells = saved
    return Backward(
        d_y=d_y.contiguous(),
        d_h_n=d_h_n.contiguous(),
        d_c_n=none if d_c_n is None else d_c_n.contiguous(),
        w=weights[0].w_hh.contiguous(),
        w_reverse=weights[-1].w_hh.contiguous(),
        per_unit=_per_unit(weights[0]),
        per_unit_reverse=_per_unit(weights[-1]),
        gates=gates,
        cells=cells,
        y=y,
        h0=h0,
        c0=none if c0 is None else c0,
        lengths=_lengths(lengths, y),
        d_gates=d_gates(D, T, B, slots_of(problem.cell) * H),
        d_h0=torch.empty_like(h0),
        d_c0=none if c0 is None else torch.empty_like(c0),
        d_per_unit=y.new_zeros(D, B, len(problem.definition.per_unit) * H),
    )


def run_backward(problem: Problem, to: Backward) -> None:
    """Fill the results of `to`."""
    on = architecture_of(to.y.device)
    chosen = parameters_for(problem, "backward", on, to.y.device)
    if chosen.regime == "held":
        for launch in held_backward(problem, chosen, to, on):
            launch.run()
        return
    (T, B, _), D, H = to.y.shape, problem.directions, problem.hidden_size
    d_now, through_w = to.y.new_empty(D, B, problem.h_gates * H), to.y.new_empty(D, B, H)
    carry = to.y.new_empty(len(problem.definition.states), D, B, H)
    if not problem.h_gates:
        backward_step(problem, to, through_w, d_now, carry, T - 1).run()
        return
    for step in range(T - 1, -2, -1):
        if step < T - 1:
            for direction, w in enumerate((to.w, to.w_reverse)[:D]):
                torch.mm(d_now[direction], w, out=through_w[direction])
        backward_step(problem, to, through_w, d_now, carry, step).run()


class FusedLayer(torch.autograd.Function):
    """One layer, one or both directions, with gradients of x, the states and every weight."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        lengths: Tensor | None,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        *flat: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """y, h_n and, where the cell has one, c_n; keeps what the backward needs."""
        weights = unflatten(flat)
        to = new_forward(problem, x, h0, c0, weights, lengths, saves=True)
        run_forward(problem, x, weights, to, saves=True)
        ctx.problem = problem
        ctx.save_for_backward(lengths, x, h0, c0, to.y, to.gates, to.cells, *flat)
        return (to.y, to.h_n) if c0 is None else (to.y, to.h_n, to.c_n)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor, d_h_n: Tensor, d_c_n: Tensor | None = None) -> Any:
        """The gradients of what `forward` takes, in its order; None for what has none."""
        with as_given(d_y.device):
            return _gradients(ctx, d_y, d_h_n, d_c_n)


def _gradients(ctx: Any, d_y: Tensor, d_h_n: Tensor, d_c_n: Tensor | None) -> Any:
    lengths, x, h0, c0, y, gates, cells, *flat = ctx.saved_tensors
    problem, weights, needed = ctx.problem, unflatten(flat), ctx.needs_input_grad[2:]
    if torch.is_grad_enabled():
        inputs, d_outputs = (x, h0, c0, *flat), (d_y, d_h_n, d_c_n)
        return None, None, *layer_gradients(problem, inputs, lengths, d_outputs, needed)
    return (
        None,
        None,
        *_kernel_gradients(
            problem, (x, h0, c0), weights, y, (gates, cells), (d_y, d_h_n, d_c_n), lengths, needed
        ),
    )


def _kernel_gradients(
    problem: Problem,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    weights: tuple[Weights, ...],
    y: Tensor,
    saved: tuple[Tensor, Tensor],
    d_outputs: tuple[Tensor, Tensor, Tensor | None],
    lengths: Tensor | None,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """The gradients of x, h0, c0 and of every weight; None for what needs none."""
    x, h0, c0 = inputs
    if lengths is not None:
        # What lies past a sequence's end may be anything, NaN included.
        alive = alive_steps(lengths, len(x), x.device).unsqueeze(-1)
        x = x.masked_fill(~alive, 0)
    to = new_backward(problem, *d_outputs, weights, saved, y, h0, c0, lengths)
    run_backward(problem, to)
    d_per_unit = to.d_per_unit.sum(1)
    d_x, d_flat = sequence_gradients(
        problem, x, y, h0, to.d_gates, lengths, weights, needed, d_per_unit.unbind()
    )
    return d_x, to.d_h0, None if c0 is None else to.d_c0, *d_flat


def operator_forward(
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    saves: bool,
    recompute: bool = False,
) -> tuple[Tensor | None, ...]:
    """y, h_n, c_n, gates and cells, as `lstm_kernels.common.operators` says."""
    with as_given(x.device):
        to = new_forward(problem, x, h0, c0, weights, None, saves=saves)
        run_forward(problem, x, weights, to, saves=saves)
    some = (to.c_n, to.gates, to.cells)
    return to.y, to.h_n, *(tensor if tensor.numel() else None for tensor in some)


def operator_backward(
    problem: Problem,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    weights: tuple[Weights, ...],
    y: Tensor,
    saved: tuple[Tensor | None, Tensor | None],
    d_outputs: tuple[Tensor, Tensor, Tensor | None],
    needed: tuple[bool, ...],
    *,
    recompute: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, h0, c0 and of every weight, as in that module."""
    gates, cells = (y.new_empty(0) if tensor is None else tensor for tensor in saved)
    with as_given(y.device):
        return _kernel_gradients(
            problem, inputs, weights, y, (gates, cells), d_outputs, None, needed
        )


def saved_shapes(
    problem: Problem, T: int, B: int, *, recompute: bool = False
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The shapes of gates and cells, None for what is not saved; T and B may be symbols."""
    D, H = problem.directions, problem.hidden_size
    blocks = saved_values(problem.cell), len(kept_states(problem.cell))
    gates, cells = ((D, T, B, count * H) if count else None for count in blocks)
    return gates, cells


def _bias(weights: Weights) -> Tensor:
    """b_hh, or zeros: a kernel adds it in any case."""
    if weights.b_hh is None:
        return weights.w_hh.new_zeros(len(weights.w_hh))
    return weights.b_hh.contiguous()


def _per_unit(weights: Weights) -> Tensor:
    return weights.w_ih.new_empty(0) if weights.per_unit is None else weights.per_unit.contiguous()


def _lengths(lengths: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0, dtype=torch.int64) if lengths is None else lengths
