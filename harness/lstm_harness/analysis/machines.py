"""A run that several machines measured: what they differ by is taken out of a time's interval.

The interval of a time speaks of the machines that measured it, as that of one machine's run speaks
of that one. A machine that is slower throughout is no uncertainty: the additive model

    log time = cell of the grid + machine + noise

is fitted by least squares, and a cell's interval is that of its noise. Two cells of a run need none
of this: they are compared within blocks, each of which one machine measured.

A verdict is of another kind: there machines are a random effect (`judge.machines`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_harness.analysis.statistics import (
    BLOCKS_FOR_INTERVAL,
    Floats,
    geometric_means,
    half_width,
)

# Alternating means converge within a few rounds where machines share cells of the grid.
MOST_ROUNDS = 100
_CONVERGED = 1e-12


def of_blocks(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The machine of each block of a Summary's row; empty names where they are not known."""
    return row.get("block_machines") or ("",) * len(row["block_ids"])


def may_be_one(one: str, other: str) -> bool:
    """Whether two blocks may be of the same machine: before there were parts a run had one."""
    return not one or not other or one == other


def intervals(
    groups: NDArray[np.int64], logs: Floats, machines: Sequence[str], count: int
) -> tuple[Floats, Floats, Floats]:
    """The geometric mean of each group's times with its 95% interval; see the module.

    Args:
        groups: which cell of the grid each block belongs to, 0 to count - 1.
        logs: the logarithm of each block's time.
        machines: which one measured each block.
    Returns:
        mean, low and high [count]; NaN where machines and noise cannot be separated.
    """
    mean, low, high = geometric_means(groups, logs, count)
    names, numbers = np.unique(np.array(machines, dtype=object), return_inverse=True)
    cells_and_machines = np.unique(np.stack([groups, numbers]), axis=1) if len(names) > 1 else None
    if cells_and_machines is None:
        return mean, low, high
    mixed = np.bincount(cells_and_machines[0], minlength=count) > 1
    inside = mixed[groups]
    if not inside.any():
        return mean, low, high
    groups, logs, numbers = groups[inside], logs[inside], numbers[inside]
    noise = _noise(groups, logs, numbers)
    blocks = np.bincount(groups, minlength=count)
    taken = int(mixed.sum()) + len(np.unique(numbers)) - 1
    df = np.where(mixed, (blocks - 1) * (len(logs) - taken) / (len(logs) - mixed.sum()), 0.0)
    known = mixed & (blocks >= BLOCKS_FOR_INTERVAL) & (df >= 1)
    safe, squares = np.where(known, df, 1.0), np.bincount(groups, noise**2, minlength=count)
    half = half_width(np.sqrt(squares / safe / np.maximum(blocks, 1)), safe)
    half = np.where(known, half, np.nan)
    return (
        mean,
        np.where(mixed, mean / np.exp(half), low),
        np.where(mixed, mean * np.exp(half), high),
    )


def _noise(groups: NDArray[np.int64], logs: Floats, machines: NDArray[np.int64]) -> Floats:
    """What is left of each block's time without its cell's level and its machine's."""
    in_cell = np.maximum(np.bincount(groups), 1)
    on_machine = np.maximum(np.bincount(machines), 1)
    level = np.zeros(len(on_machine))
    for _ in range(MOST_ROUNDS):
        cell = np.bincount(groups, logs - level[machines]) / in_cell
        before, level = level, np.bincount(machines, logs - cell[groups]) / on_machine
        if np.abs(level - before).max() < _CONVERGED:
            break
    left: Floats = logs - level[machines]
    return left - (np.bincount(groups, left) / in_cell)[groups]
