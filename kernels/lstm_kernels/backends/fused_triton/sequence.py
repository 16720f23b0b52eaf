"""A layer over a sequence: the kernels, the whole-sequence products around them, the gradients."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.backends.fused_triton.launches import (
    Backward,
    Forward,
    backward_launches,
    forward_launches,
    wide_dtype,
)
from lstm_kernels.backends.fused_triton.parameters import Parameters
from lstm_kernels.backends.fused_triton.replay import replay
from lstm_kernels.backends.fused_triton.tuning import parameters_for
from lstm_kernels.cells.code.derive import derived
from lstm_kernels.common.second_derivatives import layer_gradients
from lstm_kernels.common.sequence_products import (
    as_given,
    blocks,
    contiguous,
    device_facts,
    linear_into,
    parts_from_x,
    sequence_gradients,
    slots_of,
    states_before,
)
from lstm_kernels.common.unroll import alive_steps
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import ARCHITECTURES, Architecture
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights, unflatten

# The GPU that the interpreter plans for: an H100 with few SMs, because it runs one program after
# another.
INTERPRETED = replace(ARCHITECTURES["sm_90"], name="interpreted", sm_count=8)


@lru_cache
def architecture_of(device: torch.device) -> Architecture:
    """The device's facts that kernels are planned for."""
    if device.type != "cuda":
        return INTERPRETED
    return device_facts(device)


def new_forward(
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    lengths: Tensor | None,
    *,
    saves: bool,
    recompute: bool,
) -> Forward:
    """The forward kernel's tensors, its results not filled yet; what it reads, except from_x."""
    (T, B, _), D, H = x.shape, problem.directions, problem.hidden_size
    # Past a sequence's end y is zero, and the kernel does not write there.
    y = (x.new_empty if lengths is None else x.new_zeros)(T, B, D * H)
    shapes = saved_shapes(problem, T, B, recompute=recompute) if saves else (None, None)
    gates, cells = (None if shape is None else x.new_empty(shape) for shape in shapes)
    return Forward(
        from_x=x.new_empty(D, T, B, problem.gates * H),
        **_recurrent(problem, weights),
        b=_of_h(problem, weights[0].b_hh),
        b_reverse=_of_h(problem, weights[-1].b_hh),
        h0=h0,
        c0=c0,
        lengths=lengths,
        y=y,
        h_n=torch.empty_like(h0),
        c_n=None if c0 is None else torch.empty_like(c0),
        gates=gates,
        cells=cells,
    )


def run_forward(problem: Problem, x: Tensor, weights: tuple[Weights, ...], to: Forward) -> None:
    """Fill the results of `to`."""
    parts_from_x(x, weights, to.from_x)
    architecture = architecture_of(x.device)
    parameters = parameters_for(problem, "forward", architecture, x.device)
    launches = partial(forward_launches, problem, parameters, sm_count=architecture.sm_count)
    _run(problem, parameters, launches, to)


def new_backward(
    problem: Problem,
    d_y: Tensor,
    d_h_n: Tensor,
    d_c_n: Tensor | None,
    weights: tuple[Weights, ...],
    saved: tuple[Tensor | None, ...],
    y: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    lengths: Tensor | None,
) -> Backward:
    """The backward kernel's tensors, its results not filled yet; `saved` are gates and cells."""
    (T, B, _), D, H = y.shape, problem.directions, problem.hidden_size
    # The products after the loop read every step, those past a sequence's end too.
    d_gates = y.new_empty if lengths is None else y.new_zeros
    gates, cells = saved
    units = len(problem.definition.per_unit) * H
    return Backward(
        d_y=d_y.contiguous(),
        d_h_n=d_h_n.contiguous(),
        d_c_n=None if d_c_n is None else d_c_n.contiguous(),
        **_recurrent(problem, weights),
        gates=gates,
        cells=cells,
        y=y,
        h0=h0,
        c0=c0,
        lengths=lengths,
        d_gates=d_gates(D, T, B, slots_of(problem.cell) * H),
        d_h0=torch.empty_like(h0),
        d_c0=None if c0 is None else torch.empty_like(c0),
        d_per_unit=y.new_empty(D, B, units, dtype=wide_dtype(problem)) if units else None,
    )


def _recurrent(problem: Problem, weights: tuple[Weights, ...]) -> dict[str, Tensor | None]:
    """The weights that both passes read, of each direction."""
    first, last = weights[0], weights[-1]
    return {
        "w": _of_h(problem, first.w_hh),
        "w_reverse": _of_h(problem, last.w_hh),
        "per_unit": contiguous(first.per_unit),
        "per_unit_reverse": contiguous(last.per_unit),
    }


def _of_h(problem: Problem, weights: Tensor | None) -> Tensor | None:
    """What h is multiplied by or adds, or None if it is not multiplied."""
    return contiguous(weights) if problem.h_gates else None


def run_backward(problem: Problem, to: Backward, *, preactivated: bool) -> None:
    """Fill the results of `to`."""
    architecture = architecture_of(to.y.device)
    parameters = parameters_for(problem, "backward", architecture, to.y.device)
    launches = partial(
        backward_launches,
        problem,
        parameters,
        sm_count=architecture.sm_count,
        preactivated=preactivated,
    )
    _run(problem, parameters, launches, to, preactivated)


def _run(problem: Problem, parameters: Parameters, launches: Any, to: Any, *key: Any) -> None:
    if parameters.regime == "streamed":
        replay((problem, parameters, *key), launches, to)
        return
    made: Iterator[Launch] = launches(to)
    for launch in made:
        launch.run()


class FusedLayer(torch.autograd.Function):
    """One layer, one or both directions, with gradients of x, the states and every weight."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        recompute: bool,
        lengths: Tensor | None,
        x: Tensor,
        h0: Tensor,
        c0: Tensor | None,
        *flat: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """y, h_n and, where the cell has one, c_n; keeps what the backward needs."""
        weights = unflatten(flat)
        to = new_forward(problem, x, h0, c0, weights, lengths, saves=True, recompute=recompute)
        run_forward(problem, x, weights, to)
        ctx.problem, ctx.recompute = problem, recompute
        ctx.save_for_backward(lengths, x, h0, c0, to.y, to.gates, to.cells, *flat)
        return (to.y, to.h_n) if to.c_n is None else (to.y, to.h_n, to.c_n)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor, d_h_n: Tensor, d_c_n: Tensor | None = None) -> Any:
        """The gradients of what `forward` takes, in its order; None for what has none."""
        with as_given(d_y.device):
            return _gradients(ctx, d_y, d_h_n, d_c_n)


def _gradients(ctx: Any, d_y: Tensor, d_h_n: Tensor, d_c_n: Tensor | None) -> Any:
    lengths, x, h0, c0, y, gates, cells, *flat = ctx.saved_tensors
    problem, weights, needed = ctx.problem, unflatten(flat), ctx.needs_input_grad[3:]
    if torch.is_grad_enabled():
        inputs, d_outputs = (x, h0, c0, *flat), (d_y, d_h_n, d_c_n)
        return None, None, None, *layer_gradients(problem, inputs, lengths, d_outputs, needed)
    return (
        None,
        None,
        None,
        *_kernel_gradients(
            problem,
            (x, h0, c0),
            weights,
            y,
            (gates, cells),
            (d_y, d_h_n, d_c_n),
            lengths,
            needed,
            recompute=ctx.recompute,
        ),
    )


def _kernel_gradients(
    problem: Problem,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    weights: tuple[Weights, ...],
    y: Tensor,
    saved: tuple[Tensor | None, Tensor | None],
    d_outputs: tuple[Tensor, Tensor, Tensor | None],
    lengths: Tensor | None,
    needed: tuple[bool, ...],
    *,
    recompute: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, h0, c0 and of every weight; None for what needs none."""
    (x, h0, c0), (gates, cells) = inputs, saved
    if lengths is not None:
        # What lies past a sequence's end may be anything, NaN included.
        alive = alive_steps(lengths, len(x), x.device).unsqueeze(-1)
        x = x.masked_fill(~alive, 0)
    preactivated = recompute and saves_values(problem)
    if preactivated:
        gates = _preactivations(problem, x, h0, weights, y, lengths)
    to = new_backward(problem, *d_outputs, weights, (gates, cells), y, h0, c0, lengths)
    run_backward(problem, to, preactivated=preactivated)
    d_units = None
    if to.d_per_unit is not None:
        d_units = list(to.d_per_unit.sum(1).to(y.dtype))
    d_x, d_flat = sequence_gradients(
        problem, x, y, h0, to.d_gates, lengths, weights, needed, d_units
    )
    return d_x, to.d_h0, to.d_c0, *d_flat


def operator_forward(
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    saves: bool,
    recompute: bool,
) -> tuple[Tensor | None, ...]:
    """y, h_n, c_n, gates and cells, as `lstm_kernels.common.operators` says."""
    with as_given(x.device):
        to = new_forward(problem, x, h0, c0, weights, None, saves=saves, recompute=recompute)
        run_forward(problem, x, weights, to)
    return to.y, to.h_n, to.c_n, to.gates, to.cells


def operator_backward(
    problem: Problem,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    weights: tuple[Weights, ...],
    y: Tensor,
    saved: tuple[Tensor | None, Tensor | None],
    d_outputs: tuple[Tensor, Tensor, Tensor | None],
    needed: tuple[bool, ...],
    *,
    recompute: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, h0, c0 and of every weight, as in that module."""
    with as_given(y.device):
        return _kernel_gradients(
            problem, inputs, weights, y, saved, d_outputs, None, needed, recompute=recompute
        )


def saved_shapes(
    problem: Problem, T: int, B: int, *, recompute: bool
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The shapes of gates and cells, None for what is not saved; T and B may be symbols."""
    D, H = problem.directions, problem.hidden_size
    count = len(derived(problem.definition).saved)
    return (
        None if recompute or not count else (D, T, B, count * H),
        (D, T, B, problem.cell_state_size) if problem.has_cell_state else None,
    )


def saves_values(problem: Problem) -> bool:
    """Whether a step's gradients need more than its states."""
    return bool(derived(problem.definition).saved)


def _preactivations(
    problem: Problem,
    x: Tensor,
    h0: Tensor,
    weights: tuple[Weights, ...],
    y: Tensor,
    lengths: Tensor | None,
) -> Tensor:
    """All pre-activations, [D, T, B, slots*H], again: y holds every state, so no loop is needed."""
    (T, B, _), H, G = x.shape, problem.hidden_size, problem.gates
    rows = x.view(T * B, -1)
    found = x.new_empty(problem.directions, T, B, slots_of(problem.cell) * H)
    for direction, w in enumerate(weights):
        flat = found[direction].view(T * B, -1)
        linear_into(rows, w.w_ih, w.b_ih, flat[:, : G * H])
        # What comes from h alone.
        flat[:, G * H :] = 0
        for columns, gates in blocks(problem):
            if w.b_hh is not None:
                flat[:, columns] += w.b_hh[gates]
            for at, states in states_before(problem, direction, y, h0, lengths):
                if isinstance(at, slice):
                    flat[at, columns].addmm_(states, w.w_hh[gates].t())
                else:
                    flat[at, columns] += states @ w.w_hh[gates].t()
    return found
