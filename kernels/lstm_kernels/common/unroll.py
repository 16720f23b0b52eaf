"""The loop over time in Python, and what surrounds it: directions and ragged lengths.

A backend defines one step, or one direction; these functions do the rest.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lstm_kernels.common.gates import (
    State,
    StepCode,
    by_head,
    input_product,
    next_state,
    step_code,
)
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights

# An input of one step, h and c before it, and which sequences still run, [B, 1] or None for all.
Step = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], State]


class OneDirection(Protocol):
    """A layer run forward in time: x [T, B, I], h [B, S], c [B, K*H] or None -> y, h_n, c_n.

    With several heads the weights are `by_head`, for `common.gates` to multiply by. `alive`
    [T, B, 1] is True where a sequence still runs, or None if all always do.
    """

    def __call__(  # noqa: D102 - the class says it
        self,
        x: Tensor,
        h: Tensor,
        c: Tensor | None,
        weights: Weights,
        *,
        cell: str,
        alive: Tensor | None,
    ) -> Outputs: ...


def run_directions(
    one_direction: OneDirection,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """Run a layer in one direction, or in both: a backend's `layer` (see `lstm_kernels.stack`).

    The reverse direction reads every sequence from its own end.
    """
    alive = None
    if lengths is not None:
        alive = alive_steps(lengths, len(x), x.device).unsqueeze(-1)
        # Values past a sequence's end may be anything, including NaN.
        x = x.masked_fill(~alive, 0)
    outputs, last_h, last_c = [], [], []
    for direction, direction_weights in enumerate(by_head(weights, problem.heads)):
        y, h, c = one_direction(
            reverse_steps(x, lengths) if direction else x,
            h0[direction],
            None if c0 is None else c0[direction],
            direction_weights,
            cell=problem.cell,
            alive=alive,
        )
        outputs.append(reverse_steps(y, lengths) if direction else y)
        last_h.append(h)
        if c is not None:
            last_c.append(c)
    return (
        torch.cat(outputs, dim=-1) if problem.bidirectional else outputs[0],
        torch.stack(last_h),
        torch.stack(last_c) if last_c else None,
    )


def unroll(
    step: Step, inputs: Tensor, h: Tensor, c: Tensor | None, alive: Tensor | None
) -> Outputs:
    """Call `step(inputs[t], h, c, alive[t])` for every t; a sequence past its end keeps its state.

    Args:
        inputs: [T, B, ...]; h, c, alive: as in `OneDirection`.
    Returns:
        y [T, B, S], zero past a sequence's end, h_n and c_n.
    """
    outputs = []
    # unbind, not inputs[t]: the gradient of T selections would write T tensors of full size.
    for t, step_input in enumerate(inputs.unbind()):
        running = None if alive is None else alive[t]
        next_h, next_c = step(step_input, h, c, running)
        if running is None:
            h, c = next_h, next_c
        else:
            h = torch.where(running, next_h, h)
            c = None if next_c is None or c is None else torch.where(running, next_c, c)
        outputs.append(h)
    y = torch.stack(outputs)
    return (y if alive is None else y.masked_fill(~alive, 0)), h, c


def unroll_hoisted(
    x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
) -> Outputs:
    """One direction with x W_ih^T + b_ih of all steps made at once, before the loop."""
    code = step_code(cell)
    return unroll_steps(code, input_product(code, x, weights), h, c, weights, alive)


def unroll_steps(
    code: StepCode,
    from_x: Tensor,
    h: Tensor,
    c: Tensor | None,
    weights: Weights,
    alive: Tensor | None,
) -> Outputs:
    """The loop of `unroll_hoisted`, from x W_ih^T + b_ih of all steps, [T, B, G*H]."""

    def step(from_x: Tensor, h: Tensor, c: Tensor | None, running: Tensor | None) -> State:
        return next_state(code, from_x, h, c, weights, running)

    return unroll(step, from_x, h, c, alive)


def alive_steps(lengths: Tensor, steps: int, device: torch.device) -> Tensor:
    """[T, B], True where step t is before the end of sequence b."""
    return torch.arange(steps, device=device).unsqueeze(1) < lengths.to(device)


def reverse_steps(x: Tensor, lengths: Tensor | None) -> Tensor:
    """[T, B, *] with each sequence reversed within its own length, padding left in place."""
    if lengths is None:
        return x.flip(0)
    step = torch.arange(len(x), device=x.device).unsqueeze(1)
    lengths = lengths.to(x.device)
    source = torch.where(step < lengths, lengths - 1 - step, step)  # [T, B]
    return x.gather(0, source.unsqueeze(-1).expand_as(x))
