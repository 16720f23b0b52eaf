"""The products over whole sequences around a kernel: x W_ih^T, weight gradients.

x W_ih^T + b_ih is one product before the loop; dx and every weight's gradient are one product each
after it. The kernel writes the gates' gradients once and the products read them where they are;
the state before each step is y, shifted by one, and is not copied either.

Gradients of gates, `d_gates` [D, T, B, slots*H], have a block for each of `Cell.slots`: LSTM i, f,
g, o; GRU r, z and n's part from x, then n's part from h; plain cells one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lstm_kernels.cells import CELLS
from lstm_kernels.gpu.machine_code import Architecture
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Weights


def slots_of(cell: str) -> int:
    """Blocks of H of the gates' gradients: a GRU's n counts twice."""
    return len(CELLS[cell].slots)


@lru_cache
def device_facts(device: torch.device) -> Architecture:
    """The facts of a CUDA device that kernels are planned for."""
    # torch's types do not have shared_memory_per_block_optin.
    facts: Any = torch.cuda.get_device_properties(device)
    return Architecture(
        name=f"sm_{facts.major}{facts.minor}",
        capability=10 * facts.major + facts.minor,
        sm_count=facts.multi_processor_count,
        shared_per_block=facts.shared_memory_per_block_optin,
        shared_per_sm=facts.shared_memory_per_multiprocessor,
    )


@contextmanager
def as_given(device: torch.device) -> Iterator[None]:
    """Launch on the tensors' own device, and multiply in their own dtype, not autocast's."""
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with current, torch.autocast(device.type, enabled=False):
        yield


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """The tensor itself, or a contiguous copy; None if there is none."""
    return None if tensor is None else tensor.contiguous()


def linear_into(rows: Tensor, w: Tensor, b: Tensor | None, out: Tensor) -> None:
    """Write rows W^T + b where it belongs."""
    if b is None:
        torch.mm(rows, w.t(), out=out)
    else:
        torch.addmm(b, rows, w.t(), out=out)


def parts_from_x(x: Tensor, weights: tuple[Weights, ...], out: Tensor) -> None:
    """Write x W_ih^T + b_ih of all steps and directions into [D, T, B, G*H]."""
    rows = x.view(-1, x.shape[-1])
    for direction, w in enumerate(weights):
        linear_into(rows, w.w_ih, w.b_ih, out[direction].view(len(rows), -1))


def sequence_gradients(
    problem: Problem,
    x: Tensor,
    y: Tensor,
    h0: Tensor,
    d_gates: Tensor,
    lengths: Tensor | None,
    weights: tuple[Weights, ...],
    needed: tuple[bool, ...],
    d_per_unit: Sequence[Tensor] | None = None,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradients of x and of every weight, from the gates' gradients of all steps.

    Args:
        x: [T, B, I], finite past a sequence's end too, where d_gates is zero.
        y: [T, B, D*H]. h0: [D, B, H]. lengths: [B] on their device, or None.
        needed: which of x, h0, c0 and then the weights' tensors, one after another, need one.
        d_per_unit: [U*H] of each direction, which the kernels make, handed on.
    Returns:
        d_x, and the weights' gradients in their order; None for what needs none.
    """
    H, G = problem.hidden_size, problem.gates
    rows = x.view(-1, x.shape[-1])
    d_x = torch.zeros_like(rows) if problem.bidirectional and needed[0] else None
    d_flat: list[Tensor | None] = []
    for direction, w in enumerate(weights):
        needs = Weights._make(needed[3 + len(d_flat) : 3 + len(d_flat) + len(w)])
        of_direction = d_gates[direction].view(len(rows), -1)
        d_from_x = of_direction[:, : G * H]
        if needed[0]:
            d_x = d_from_x @ w.w_ih if d_x is None else d_x.addmm_(d_from_x, w.w_ih)
        d_bias = of_direction.sum(0) if needs.b_ih or needs.b_hh else None
        d_w_hh = None
        if needs.w_hh:
            d_w_hh = _d_w_hh(problem, direction, y, h0, of_direction, lengths)
        d_flat += [
            d_from_x.t() @ rows if needs.w_ih else None,
            d_w_hh,
            None if d_bias is None else d_bias[: G * H],
            None if d_bias is None else _of_h(problem, d_bias),
            None,
            d_per_unit[direction] if d_per_unit is not None and needs.per_unit else None,
        ]
    return None if d_x is None else d_x.view_as(x), d_flat


def _d_w_hh(
    problem: Problem,
    direction: int,
    y: Tensor,
    h0: Tensor,
    d_gates: Tensor,
    lengths: Tensor | None,
) -> Tensor:
    """The gradient of W_hh: d_gates [T*B, slots*H] of a direction times the state before."""
    d_w_hh = y.new_zeros(problem.h_gates * problem.hidden_size, problem.hidden_size)
    for at, states in states_before(problem, direction, y, h0, lengths):
        d_rows = d_gates[at]
        for columns, rows in blocks(problem):
            d_w_hh[rows].addmm_(d_rows[:, columns].t(), states)
    return d_w_hh


def states_before(
    problem: Problem, direction: int, y: Tensor, h0: Tensor, lengths: Tensor | None
) -> list[tuple[slice | Tensor, Tensor]]:
    """Which rows of [T*B, *] begin with which states [*, H]: views of y, then h0.

    Beyond a sequence's end the rows mean nothing, and y is zero.
    """
    T, B, _ = y.shape
    H = problem.hidden_size
    states = y.view(T * B, -1)[:, direction * H : (direction + 1) * H]
    if direction == 0:
        return [(slice(B, None), states[:-B]), (slice(0, B), h0[0])]
    following = slice(0, (T - 1) * B), states[B:]
    if lengths is None:
        return [following, (slice((T - 1) * B, None), h0[1])]
    ends = (lengths - 1).clamp(min=0) * B + torch.arange(B, device=y.device)
    return [following, (ends, h0[1])]


def blocks(problem: Problem) -> list[tuple[slice, slice]]:
    """Columns of d_gates with the rows of W_hh they belong to: a GRU's third is n from x."""
    found: list[tuple[slice, slice]] = []
    H = problem.hidden_size
    for column, slot in enumerate(problem.definition.slots):
        if slot.h is None:
            continue
        columns, rows = (slice(at * H, at * H + H) for at in (column, slot.h))
        if found and (found[-1][0].stop, found[-1][1].stop) == (columns.start, rows.start):
            before = found.pop()
            columns, rows = slice(before[0].start, columns.stop), slice(before[1].start, rows.stop)
        found.append((columns, rows))
    return found


def _of_h(problem: Problem, d_bias: Tensor) -> Tensor:
    """The gradient of b_hh [Gh*H] from the sums of all slots' gradients."""
    d_b_hh = d_bias.new_zeros(problem.h_gates * problem.hidden_size)
    for columns, rows in blocks(problem):
        d_b_hh[rows] = d_bias[columns]
    return d_b_hh
