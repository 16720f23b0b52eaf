"""The parameters a layer runs with: a choice on trial, else the tuned file's, else the table's.

And which choices are worth measuring: the table's own, those of the other regimes, and those that
differ from the table's in one parameter. Every one of them must be able to run: `reason_against`
knows what the kernels need.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any

import torch

from lstm_kernels import tuning
from lstm_kernels.backends.fused_triton import parameters as table
from lstm_kernels.backends.fused_triton.parameters import Parameters
from lstm_kernels.gpu.machine_code import Architecture
from lstm_kernels.problem import Problem

NAME = "triton"

# A key's choices: what a minute or so can measure, compiling included; a guess, not measured.
MOST_CANDIDATES = 16

# With fewer, kernels spill: 7 of 12 with two warps did, and 22 of 333 with more
# (docs/triton-design.md).
LEAST_WARPS = 4
# Chunks in flight are in registers before they are stored to shared memory.
MOST_AHEAD = 8
# Stages of the pipeline that Triton makes from a loop over chunks.
STAGES = (1, 2, 3, 4, 5)

using = partial(tuning.trial, NAME)


def tuning_key(problem: Problem, pass_name: str, device: str) -> str:
    """The key of a choice; each device has its own file."""
    return _key(problem, pass_name)


@lru_cache(maxsize=1024)
def _key(problem: Problem, pass_name: str) -> str:
    return tuning.key_of(problem, pass_name)


def parameters_for(
    problem: Problem, pass_name: str, architecture: Architecture, device: torch.device | None
) -> Parameters:
    """The launch parameters of a layer's kernel.

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
        against=lambda given: reason_against(problem, pass_name, given, architecture),
    )
    return found or table.choose(problem, pass_name, architecture)


def candidates_on(
    problem: Problem, pass_name: str, architecture: Architecture
) -> list[dict[str, Any]]:
    """The choices worth measuring on an architecture, the table's own first."""
    # A stored choice runs every batch of its key.
    whole = replace(problem, batch=tuning.top_of_bucket(problem.batch), lengths="full")
    pass_name = "backward" if pass_name == "backward" else "forward"
    first = table.choose(problem, pass_name, architecture)
    found = dict.fromkeys([first, *_others(whole, pass_name, first, architecture)])
    # A tile with more rows than sequences wastes work.
    most_rows = max(table.TILES[0], whole.batch)
    able = [
        p
        for p in found
        if p.tile <= most_rows
        and p.warps >= LEAST_WARPS
        and reason_against(whole, pass_name, p, architecture) is None
    ]
    return [asdict(each) for each in dict.fromkeys([first, *able])][:MOST_CANDIDATES]


read_choice = partial(tuning.read_choice, Parameters)


@lru_cache(maxsize=4096)
def reason_against(
    problem: Problem, pass_name: str, given: Parameters, architecture: Architecture
) -> str | None:
    """Why the kernels cannot run a problem with these parameters, or None."""
    for name in ("tile", "units", "chunk", "split", "warps", "resident"):
        size = getattr(given, name)
        if size < 1 or size & (size - 1):
            return f"{name}={size} is not a power of two"
    columns = given.units * (1 if pass_name == "backward" else table.width_of(problem))
    if given.tile < table.TILES[0] or columns < table.SMALLEST_CHUNK:
        return f"a product of {given.tile} by {columns} is too small"
    most = table.MOST_WARPS
    if given.warps > most or given.split > given.warps:
        return f"{given.split} of {given.warps} warps share k, and there are {most} at most"
    if given.chunk < table.SMALLEST_CHUNK * given.split:
        return f"chunk={given.chunk} is too short for split={given.split}"
    if given.ahead < 0 or given.ahead > MOST_AHEAD:
        return f"ahead={given.ahead} is not from 0 to {MOST_AHEAD}"
    rule = _RULES.get(given.regime)
    if rule is None:
        return f"unknown regime {given.regime!r}"
    if (given.regime == "alone") == bool(problem.h_gates):
        has = f"{problem.h_gates} blocks of recurrent weights"
        return f"{problem.cell} has {has}, and regime {given.regime!r} is for others"
    return rule(problem, pass_name, given, architecture)


def _against_alone(*_: Any) -> str | None:
    """Nothing is held and nobody waits."""
    return None


def _against_own(
    problem: Problem, pass_name: str, given: Parameters, architecture: Architecture
) -> str | None:
    if given.units < problem.hidden_size or given.chunk != given.units:
        return f"units={given.units} and chunk={given.chunk} do not hold H={problem.hidden_size}"
    if pass_name == "forward" and given.split > 1:
        return "a forward of one SM shares no k"
    needed = table.own_bytes(problem, given.tile, given.units)
    return _too_large(needed, architecture)


def _against_held(
    problem: Problem, pass_name: str, given: Parameters, architecture: Architecture
) -> str | None:
    most = table.most_resident(problem)
    if given.resident > most:
        return f"resident={given.resident} programs on an SM; there are {most} at most"
    programs = given.groups(problem) * problem.directions
    if given.tiles_at_once(problem, architecture.sm_count) < 1:
        return f"{programs} programs wait for each other on {architecture.sm_count} SMs"
    needed = table.held_bytes(problem, pass_name, given)
    held = table.programs_an_sm(problem, pass_name, given, architecture)
    if 0 < held < given.resident:
        return (
            f"an SM holds {held} programs with {needed} bytes of shared memory and {given.warps} "
            "warps each"
        )
    return _too_large(needed, architecture)


def _against_streamed(
    problem: Problem, pass_name: str, given: Parameters, architecture: Architecture
) -> str | None:
    if given.ahead not in STAGES:
        return f"a pipeline of {given.ahead} stages"
    backward = pass_name == "backward"
    columns = given.units * (1 if backward else table.width_of(problem))
    stage = given.chunk * (given.tile + columns) * problem.element_bytes
    summed = given.split * given.tile * columns * table.sum_bytes(problem)
    return _too_large(max(given.ahead * stage, summed), architecture)


def _too_large(needed: int, architecture: Architecture) -> str | None:
    if needed <= architecture.shared_per_block:
        return None
    return f"{needed} bytes of shared memory, and an SM gives {architecture.shared_per_block}"


_RULES = {
    "alone": _against_alone,
    "own": _against_own,
    "held": _against_held,
    "streamed": _against_streamed,
}


def _others(
    problem: Problem, pass_name: str, first: Parameters, architecture: Architecture
) -> Iterator[Parameters]:
    """Other choices that may be faster, the most promising first."""
    one_step = list(_one_step(pass_name, first))
    held = []
    if first.regime == "held":
        held = list(table.held_choices(problem, pass_name, architecture))
    yield from one_step[:6]
    for other in table.every_regime(problem, pass_name, architecture):
        if other.regime != first.regime:
            yield other
    # More or fewer programs an SM, which the table's own choice says nothing about.
    yield from (other for other in held if other.resident != first.resident)
    yield from one_step[6:]
    yield from held


def _one_step(pass_name: str, given: Parameters) -> Iterator[Parameters]:
    """Choices that differ in one parameter from the given ones, or in two that belong together."""
    if given.regime == "alone":
        for factor in (2, 0.5):
            yield replace(given, units=int(given.units * factor))
            yield replace(given, warps=int(given.warps * factor))
        for tile in table.TILES:
            yield replace(given, tile=tile)
        return
    if given.regime == "own":
        for factor in (2, 0.5):
            warps = int(given.warps * factor)
            shared = min(warps, given.units // table.SMALLEST_CHUNK)
            split = shared if pass_name == "backward" else 1
            yield replace(given, warps=warps, split=split)
        for tile in table.TILES:
            yield replace(given, tile=tile)
            yield replace(given, tile=tile, warps=given.warps * 2)
        return
    for ahead in (2, 1, 3, 4) if given.regime == "streamed" else (2, 1, 4, 0):
        yield replace(given, ahead=ahead)
    yield replace(given, chunk=given.chunk * 2)
    yield replace(given, chunk=given.chunk // 2)
    yield replace(given, units=given.units * 2)
    yield replace(given, units=given.units // 2)
    yield replace(given, warps=given.warps * 2, split=given.split * 2)
    yield replace(given, warps=given.warps // 2, split=given.split // 2)
    yield replace(given, warps=given.warps * 2)
    yield replace(given, split=given.split // 2)
    yield replace(given, split=given.split * 2)
    for tile in table.TILES:
        yield replace(given, tile=tile)
