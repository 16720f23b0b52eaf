"""The launches of a layer's kernels: grids, windows of steps, turns of tiles and directions."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

from torch import Tensor

from lstm_kernels.backends.fused_numba_cuda import device_code, step_code
from lstm_kernels.backends.fused_numba_cuda.exchange import POLL_LIMIT, mark_not_yet
from lstm_kernels.backends.fused_numba_cuda.parameters import Parameters, choices_on
from lstm_kernels.gpu.machine_code import Architecture
from lstm_kernels.gpu.numba_launching import SIMULATED, NumbaLaunch
from lstm_kernels.problem import Problem


class Forward(NamedTuple):
    """The tensors of `device_code.forward_kernel`, shapes as there; empty where there is none."""

    from_x: Tensor
    w: Tensor
    w_reverse: Tensor
    b: Tensor
    b_reverse: Tensor
    per_unit: Tensor
    per_unit_reverse: Tensor
    h0: Tensor
    c0: Tensor
    lengths: Tensor
    y: Tensor
    h_n: Tensor
    c_n: Tensor
    gates: Tensor
    cells: Tensor


class Backward(NamedTuple):
    """The tensors of `device_code.backward_kernel`, shapes as there; empty where there is none."""

    d_y: Tensor
    d_h_n: Tensor
    d_c_n: Tensor
    w: Tensor
    w_reverse: Tensor
    per_unit: Tensor
    per_unit_reverse: Tensor
    gates: Tensor
    cells: Tensor
    y: Tensor
    h0: Tensor
    c0: Tensor
    lengths: Tensor
    d_gates: Tensor
    d_h0: Tensor
    d_c0: Tensor
    d_per_unit: Tensor


# Threads of a block of `streamed`, and sequences of a CUDA grid's second dimension.
STEP_THREADS = 16 if SIMULATED else 128
MOST_ROWS = 65535


def held_forward(
    problem: Problem, parameters: Parameters, tensors: Forward, on: Architecture, *, saves: bool
) -> Iterator[NumbaLaunch]:
    """Everything the forward of one layer launches, in order."""
    aligned = _aligned(problem, tensors.h0, tensors.y)
    windows = [(0, tensors.y.shape[0])]
    if SIMULATED:
        windows = [(step, step + 1) for step in range(tensors.y.shape[0])]
    else:
        mark_not_yet(tensors.y, tensors.lengths)
    yield from _held(
        device_code.forward_kernel,
        problem,
        parameters,
        tensors,
        on,
        windows,
        parameters.shared_bytes(problem, "forward"),
        {"saves": int(saves)},
        aligned,
    )


def held_backward(
    problem: Problem, parameters: Parameters, tensors: Backward, on: Architecture
) -> Iterator[NumbaLaunch]:
    """Everything the backward of one layer launches, in order."""
    T = tensors.y.shape[0]
    windows = [(-1, T)]
    if SIMULATED:
        windows = [(step, step + 1) for step in range(T - 1, -2, -1)]
    else:
        mark_not_yet(tensors.d_gates, tensors.lengths)
    yield from _held(
        device_code.backward_kernel,
        problem,
        parameters,
        tensors,
        on,
        windows,
        parameters.shared_bytes(problem, "backward"),
        {},
        _aligned(problem, tensors.d_gates),
    )


def _held(
    make: Callable[..., Any],
    problem: Problem,
    parameters: Parameters,
    tensors: Forward | Backward,
    on: Architecture,
    windows: list[tuple[int, int]],
    shared_bytes: int,
    flags: dict[str, int],
    aligned: bool,
) -> Iterator[NumbaLaunch]:
    """Directions and batch tiles in as many turns as it takes, each its windows of steps."""
    T, B, _ = tensors.y.shape
    y, D = tensors.y, problem.directions
    # Blocks that wait for others must run at once, which simulated ones do not.
    waits = not SIMULATED
    at_once = parameters.tiles_at_once(problem, on.sm_count)
    states = len(problem.definition.states)
    carry = y.new_empty((states, D, B, problem.hidden_size) if len(windows) > 1 else 0)
    sizes = {"D": D, "T": T, "B": B, "H": problem.hidden_size}
    shape = {
        name: getattr(parameters, name) for name in ("units", "lanes", "parts", "in_shared", "tile")
    }
    flags = {"ragged": int(len(tensors.lengths) > 0), **flags}
    flags |= {"waits": int(waits), "aligned": int(aligned), "poll_limit": POLL_LIMIT}
    shown = {name: value for name, value in asdict(parameters).items() if name != "regime"}
    fixed = {
        "cell": problem.cell,
        "registers": parameters.registers,
        "overflows": parameters.in_shared > 0,
        "dtype": problem.dtype,
    }
    tiles = parameters.tiles(B)
    for first_direction in range(0, D, parameters.directions):
        for first_tile in range(0, tiles, at_once):
            grid = (
                parameters.groups(problem),
                min(at_once, tiles - first_tile),
                parameters.directions,
            )
            for first, last in windows:
                place = {
                    "first": first,
                    "last": last,
                    "first_direction": first_direction,
                    "first_tile": first_tile,
                }
                given = tensors._asdict() | {"carry": carry}
                yield NumbaLaunch(
                    make,
                    fixed,
                    grid,
                    parameters.threads,
                    {**given, **place, **sizes, **shape, **flags},
                    choices_on(on, problem.dtype).threads,
                    shared_bytes,
                    cooperative=waits,
                    regime=parameters.regime,
                    parameters=shown,
                )


def forward_step(
    problem: Problem, tensors: Forward, from_h: Tensor, step: int, *, saves: bool
) -> NumbaLaunch:
    """The gates of one step, where `from_h` [D, B, Gh*H] is h W_hh^T + b_hh.

    Those of all steps from that one on where the cell makes no such product.
    """
    names = ("from_x", "per_unit", "per_unit_reverse", "lengths", "y", "h_n", "c_n", "gates")
    given = {"from_h": from_h} | {name: getattr(tensors, name) for name in (*names, "cells")}
    return _step(
        step_code.forward_step_kernel, problem, tensors, given, step, {"saves": int(saves)}
    )


def backward_step(
    problem: Problem,
    tensors: Backward,
    through_w: Tensor,
    d_now: Tensor,
    carry: Tensor,
    step: int,
) -> NumbaLaunch:
    """The gates' gradients of one step, tensors as `step_code.backward_step_kernel` has them.

    Those of all steps from that one down where the cell makes no product with h.
    """
    given = {"through_w": through_w} | tensors._asdict()
    del given["w"], given["w_reverse"]
    last = {name: given.pop(name) for name in ("d_h0", "d_c0", "d_per_unit")}
    given |= {"d_now": d_now, **last, "carry": carry}
    return _step(step_code.backward_step_kernel, problem, tensors, given, step, {})


def _step(
    make: Callable[..., Any],
    problem: Problem,
    tensors: Forward | Backward,
    given: dict[str, Tensor],
    step: int,
    flags: dict[str, int],
) -> NumbaLaunch:
    T, B, _ = tensors.y.shape
    H, D = problem.hidden_size, problem.directions
    numbers = {"step": step, "D": D, "T": T, "B": B, "H": H}
    return NumbaLaunch(
        make,
        {"cell": problem.cell, "dtype": problem.dtype},
        (math.ceil(H / STEP_THREADS), min(B, MOST_ROWS), D),
        STEP_THREADS,
        {**given, **numbers, "ragged": int(len(tensors.lengths) > 0), **flags},
        STEP_THREADS,
        regime="streamed",
        parameters={"threads": STEP_THREADS},
    )


def _aligned(problem: Problem, *gathered: Tensor) -> bool:
    """Whether 16 bytes at once can be loaded from any vector of H of these, four elements on."""
    return problem.hidden_size % 4 == 0 and all(t.data_ptr() % 16 == 0 for t in gathered)
