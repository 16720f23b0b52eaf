"""The launches of a layer's kernels: grids, windows of steps, turns of batch tiles."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lstm_kernels.backends.fused_triton import device_code
from lstm_kernels.backends.fused_triton.flags import COUNTER_STRIDE, POLL_LIMIT
from lstm_kernels.backends.fused_triton.parameters import MOST_REGISTERS, Parameters
from lstm_kernels.gpu.fused_gates import device_cell
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.problem import Problem


class Forward(NamedTuple):
    """The tensors of `device_code.forward`; shapes as there."""

    from_x: Tensor
    w: Tensor | None
    w_reverse: Tensor | None
    b: Tensor | None
    b_reverse: Tensor | None
    per_unit: Tensor | None
    per_unit_reverse: Tensor | None
    h0: Tensor
    c0: Tensor | None
    lengths: Tensor | None
    y: Tensor
    h_n: Tensor
    c_n: Tensor | None
    gates: Tensor | None
    cells: Tensor | None


class Backward(NamedTuple):
    """The tensors of `device_code.backward`; shapes as there."""

    d_y: Tensor
    d_h_n: Tensor
    d_c_n: Tensor | None
    w: Tensor | None
    w_reverse: Tensor | None
    per_unit: Tensor | None
    per_unit_reverse: Tensor | None
    gates: Tensor | None
    cells: Tensor | None
    y: Tensor
    h0: Tensor
    c0: Tensor | None
    lengths: Tensor | None
    d_gates: Tensor
    d_h0: Tensor
    d_c0: Tensor | None
    d_per_unit: Tensor | None


# What a kernel writes, and what keeps its address from call to call.
RESULTS = {
    Forward: ("y", "h_n", "c_n", "gates", "cells"),
    Backward: ("d_gates", "d_h0", "d_c0", "d_per_unit"),
}
WEIGHTS = ("w", "w_reverse", "b", "b_reverse", "per_unit", "per_unit_reverse")


def forward_launches(
    problem: Problem, parameters: Parameters, tensors: Forward, sm_count: int
) -> Iterator[Launch]:
    """Everything the forward of one layer launches, in order."""
    yield from _launches(device_code.forward, problem, parameters, tensors, sm_count, {})


def backward_launches(
    problem: Problem,
    parameters: Parameters,
    tensors: Backward,
    sm_count: int,
    *,
    preactivated: bool,
) -> Iterator[Launch]:
    """Everything the backward of one layer launches, in order."""
    constants = {"PREACTIVATED": preactivated}
    yield from _launches(device_code.backward, problem, parameters, tensors, sm_count, constants)


def _launches(
    kernel: Any,
    problem: Problem,
    parameters: Parameters,
    tensors: Forward | Backward,
    sm_count: int,
    constants: dict[str, Any],
) -> Iterator[Launch]:
    T, B, _ = tensors.y.shape
    D, groups = problem.directions, parameters.groups(problem)
    # Programs that wait for others must run at once, which interpreted ones do not.
    waits = parameters.regime == "held" and not _is_interpreted(kernel)
    at_once = parameters.tiles_at_once(problem, sm_count)
    whole = parameters.regime in ("own", "alone") or waits
    device, cell = tensors.y.device, device_cell(problem.definition)
    carry = None
    if not whole:
        shape = cell.states, D, B, problem.hidden_size
        carry = torch.empty(shape, dtype=wide_dtype(problem), device=device)
    arguments = {f"{name}_ptr": tensor for name, tensor in tensors._asdict().items()}
    arguments |= constants | {
        "carry_ptr": carry,
        "T": T,
        "B": B,
        "poll_limit": POLL_LIMIT,
        "CELL": cell,
        "H": problem.hidden_size,
        "PRODUCT": parameters.regime,
        "PRECISION": problem.precision,
        "TILE": parameters.tile,
        "UNITS": parameters.units,
        "CHUNK": parameters.chunk,
        "SPLIT": parameters.split,
        "AHEAD": parameters.ahead,
    }
    # Without a limit, ptxas spills although registers are left; Triton fuses by default,
    # with a warning from 3.9 on.
    options = {
        "num_warps": parameters.warps,
        "num_stages": 1,
        "maxnreg": MOST_REGISTERS,
        "enable_fp_fusion": True,
    }
    if waits:
        options["launch_cooperative_grid"] = True
    shown = asdict(parameters)
    del shown["regime"]
    tiles = parameters.tiles(B)
    windows = _windows(kernel is device_code.backward, T, whole)
    for first_tile in range(0, tiles, at_once):
        grid = (groups, min(at_once, tiles - first_tile), D)
        counters = None
        if waits:
            counters = torch.zeros(
                D * grid[1] * COUNTER_STRIDE.value, dtype=torch.int32, device=device
            )
        for first, last in windows:
            now = {"first": first, "last": last, "first_tile": first_tile}
            yield Launch(
                kernel,
                grid,
                arguments | now | {"counters_ptr": counters},
                options,
                regime=parameters.regime,
                parameters=shown,
            )


def wide_dtype(problem: Problem) -> torch.dtype:
    """What is added up and carried: float64 where the tensors are, else float32."""
    return torch.float64 if problem.dtype == "float64" else torch.float32


def _is_interpreted(kernel: Any) -> bool:
    """Whether Triton's interpreter runs this kernel, on the CPU."""
    return type(kernel).__name__ == "InterpretedFunction"


def _windows(backwards: bool, T: int, whole: bool) -> list[tuple[int, int]]:
    """First step and the one past the last, of every launch in order; a backward ends at -1."""
    if backwards:
        return [(-1, T)] if whole else [(step, step + 1) for step in range(T - 1, -2, -1)]
    return [(0, T)] if whole else [(step, step + 1) for step in range(T)]
