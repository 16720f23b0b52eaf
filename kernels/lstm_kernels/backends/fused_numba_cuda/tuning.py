"""The parameters a layer runs with: a choice on trial, else the tuned file's, else the rules'.

All possible blocks are worth measuring, with fewer and more sequences in a tile,
and with a launch for each step. Every one must be able to run: `reason_against` knows what the
kernels need.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any

import torch

from lstm_kernels import tuning
from lstm_kernels.backends.fused_numba_cuda import parameters as rules
from lstm_kernels.backends.fused_numba_cuda.parameters import Parameters
from lstm_kernels.common.in_float32 import widened
from lstm_kernels.gpu.machine_code import Architecture
from lstm_kernels.problem import Problem

NAME = "numba_cuda"

# A key's choices: what a minute or so can measure, compiling included; a guess, not measured.
MOST_CANDIDATES = 12

STREAMED = Parameters("streamed")

using = partial(tuning.trial, NAME)
read_choice = partial(tuning.read_choice, Parameters)


def tuning_key(problem: Problem, pass_name: str, device: str) -> str:
    """The key of a choice; each device has its own file."""
    return _key(problem, pass_name)


@lru_cache(maxsize=1024)
def _key(problem: Problem, pass_name: str) -> str:
    # These kernels are for small batches, which differ in how many blocks share the work.
    return tuning.key_of(widened(problem), pass_name, least_batch=1)


def parameters_for(
    problem: Problem, pass_name: str, on: Architecture, device: torch.device | None
) -> Parameters:
    """The launch parameters of a layer's kernels.

    Args:
        pass_name: "forward" or "backward".
        device: the device of the tuned file; None for no file.
    Raises:
        ValueError: a choice on trial cannot run this, with the reason.
    """
    found = tuning.in_force(
        NAME,
        _key(problem, pass_name),
        device,
        read=read_choice,
        against=lambda given: reason_against(problem, pass_name, given, on),
    )
    return found or rules.choose(problem, pass_name, on)


def candidates_on(problem: Problem, pass_name: str, on: Architecture) -> list[dict[str, Any]]:
    """The choices worth measuring on an architecture, the rules' own first."""
    # A stored choice runs every batch of its key.
    whole = replace(problem, batch=tuning.top_of_bucket(problem.batch, 1), lengths="full")
    pass_name = "backward" if pass_name == "backward" else "forward"
    first = rules.choose(problem, pass_name, on)
    able = [
        each
        for each in _others(whole, pass_name, on)
        if reason_against(whole, pass_name, each, on) is None
    ]
    # The fewest launches one after another, then the shortest products, as the rules judge them.
    held = [each for each in able if each.regime == "held"]
    held.sort(key=lambda each: (each.turns(whole, on.sm_count), each.product_clocks()))
    found = dict.fromkeys([first, *held[: MOST_CANDIDATES - 2], STREAMED])
    return [asdict(each) for each in found]


@lru_cache(maxsize=4096)
def reason_against(
    problem: Problem, pass_name: str, given: Parameters, on: Architecture
) -> str | None:
    """Why the kernels cannot run a problem with these parameters, or None."""
    if given == STREAMED:
        return None
    if given.regime != "held":
        return f"unknown regime {given.regime!r}"
    if not problem.h_gates:
        return f"{problem.cell} makes no product with h, so there are no weights to hold"
    reason = _against_block(problem, given, rules.choices_for(problem, pass_name, on))
    if reason:
        return reason
    if given.directions not in (1, problem.directions):
        return f"directions={given.directions} of {problem.directions}"
    if given.tiles_at_once(problem, on.sm_count) < 1:
        return f"{given.groups(problem)} blocks wait for each other on {on.sm_count} SMs"
    needed = given.shared_bytes(problem, pass_name)
    if needed > on.shared_per_block:
        return f"{needed} bytes of shared memory, and an SM gives {on.shared_per_block}"
    return None


def _against_block(problem: Problem, given: Parameters, choices: rules.Choices) -> str | None:
    """Why there is no such block, or it holds too little."""
    if given.lanes not in choices.lanes or given.registers not in choices.registers:
        return f"no kernel has lanes={given.lanes} and registers={given.registers}"
    if given.parts != choices.threads // given.lanes:
        return f"parts={given.parts} of {given.lanes} lanes make no block"
    if given.units < 1 or given.units * problem.h_gates > given.lanes:
        return f"units={given.units} have more gates than lanes={given.lanes}"
    held = given.parts * (given.registers + given.in_shared)
    if given.in_shared < 0 or given.in_shared % 4 or held < problem.hidden_size:
        return f"registers={given.registers} and in_shared={given.in_shared} do not hold H"
    if not 1 <= given.tile <= min(rules.MOST_SEQUENCES, given.threads // given.units):
        return f"tile={given.tile} sequences are more than its threads keep"
    return None


def _others(problem: Problem, pass_name: str, on: Architecture) -> Iterator[Parameters]:
    """Every possible block, with the rules' tile, halved and doubled."""
    for each in rules.every_block(problem, pass_name, on):
        for tile in (each.tile, math.ceil(each.tile / 2), 2 * each.tile):
            yield replace(each, tile=min(tile, problem.batch))
