"""Sides that several machines measured: machines are a random effect.

The machines of a run are some of their class, and a change may differ from one to another. So each
machine counts once, by its mean change, and Student's t is taken over machines: what one odd GPU
says raises the spread and accuses nobody. Blocks of one machine are not independent for this
question, however many there are; as if they were, one machine in three that became slower by a
fifth would be called a regression of all.

Where both sides were measured on the same machines, a machine's change is the mean of its paired
blocks, or the difference of its two means. Otherwise both sides are samples of machines (Welch).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lstm_harness.analysis.log_ratio import LogRatio, of_pairs, of_samples
from lstm_harness.analysis.machines import of_blocks
from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Machines:
    """Who measured each block of one cell's two sides."""

    base: Mapping[int, str]
    new: Mapping[int, str]

    @property
    def is_one(self) -> bool:
        """Whether one and the same machine measured both sides."""
        return len({*self.base.values(), *self.new.values()}) == 1

    @property
    def shared(self) -> set[str]:
        """Those that measured both sides."""
        return {*self.base.values()} & {*self.new.values()}


def machines_of(old: Row, now: Row) -> Machines:
    """Who measured a cell."""
    base, new = (dict(zip(row["block_ids"], of_blocks(row), strict=True)) for row in (old, now))
    return Machines(base, new)


def are_several(rows: Mapping[Any, Row]) -> bool:
    """Whether several machines measured a side."""
    return len({name for row in rows.values() for name in row["block_machines"] if name}) > 1


def paired(
    base: Mapping[int, float], ratios: Mapping[int, float], machines: Machines
) -> LogRatio | None:
    """Over machines, from the logarithms of the base side's times and of the ratios, by block."""
    shared = {block: base[block] for block in ratios}
    changes = _means(ratios, machines.base)
    return _over(_means(shared, machines.base), changes, len(ratios), len(ratios))


def unpaired(
    base: Mapping[int, float], new: Mapping[int, float], machines: Machines
) -> LogRatio | None:
    """Over machines, from the times of two runs, by block."""
    before, after = (
        _means({block: math.log(time) for block, time in times.items()}, where)
        for times, where in ((base, machines.base), (new, machines.new))
    )
    shared = [name for name in before if name in after]
    if len(shared) >= BLOCKS_FOR_INTERVAL or before.keys() == after.keys():
        changes = {name: after[name] - before[name] for name in shared}
        counts = (
            sum(name in changes for name in where.values())
            for where in (machines.base, machines.new)
        )
        return _over({name: before[name] for name in shared}, changes, *counts)
    found = of_samples(list(before.values()), list(after.values()))
    number = len({*before, *after})
    return found and replace(found, blocks=(len(base), len(new)), machines=number)


def _means(values: Mapping[int, float], where: Mapping[int, str]) -> dict[str, float]:
    by_machine: dict[str, list[float]] = {}
    for block, value in values.items():
        by_machine.setdefault(where[block], []).append(value)
    return {name: math.fsum(each) / len(each) for name, each in by_machine.items()}


def _over(
    base: Mapping[str, float], changes: Mapping[str, float], blocks: int, new_blocks: int
) -> LogRatio | None:
    found = of_pairs(base, changes)
    return found and replace(found, blocks=(blocks, new_blocks), machines=len(changes))
