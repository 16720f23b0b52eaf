"""A run that is measured until it is precise enough, with known spreads, on devices that differ."""

import math
from dataclasses import dataclass

import numpy as np
from synthetic_runs import case, record

from lstm_harness.analysis.precision import blocks_to_add, precisions
from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL, half_width
from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.model.plan import Plan

NS = 10_000_000.0


@dataclass(frozen=True)
class Fleet:
    """What is simulated. A case's blocks spread by a number between the two of `spreads`.

    The devices' levels spread by `device_spread`; the last one is slower by `slow_device`. A block
    is measured on any device. A device may be faster or slower for one case than for others, by
    `by_case`.
    """

    cases: int = 40
    devices: int = 8
    spreads: tuple[float, float] = (0.003, 0.03)
    device_spread: float = 0.03
    slow_device: float = 1.2
    by_case: float = 0.0
    blocks: int = 3
    wanted: float = 0.01
    budget: int = 100_000


@dataclass(frozen=True)
class Reached:
    """How it ended.

    `fewest` is what somebody who knew each case's spread would have planned: the least number of
    blocks whose interval has the half-width, by the spread that is true. `covered` is the share of
    cases whose interval has the truth in it.
    """

    blocks: int
    fewest: int
    rounds: int
    widest: float
    covered: float
    spent: bool


def reached(fleet: Fleet, seed: int) -> Reached:
    """Measure until every case is precise enough, or the budget is spent."""
    rng = np.random.default_rng(seed)
    low, high = map(math.log, fleet.spreads)
    spreads = np.exp(rng.uniform(low, high, fleet.cases))
    levels = rng.normal(0, fleet.device_spread, fleet.devices)
    levels[-1] += math.log(fleet.slow_device)
    own = rng.normal(0, fleet.by_case, (fleet.cases, fleet.devices)) if fleet.by_case else None
    cases = tuple(case(seq_len=steps) for steps in range(1, fleet.cases + 1))
    plan = Plan(("naive",), cases, fleet.blocks, "cpu", {}, {})
    truths: list[list[float]] = [[] for _ in cases]

    def measured(place: int, block: int):
        device = int(rng.integers(fleet.devices))
        level = levels[device] + (own[place, device] if own is not None else 0.0)
        truths[place].append(level)
        time = NS * math.exp(level + rng.normal(0, spreads[place]))
        machine = f"device {device}"
        return record("naive", (round(time),), block=block, of=cases[place], machine=machine)

    records = [
        measured(place, block) for place in range(len(cases)) for block in range(plan.blocks)
    ]
    left, rounds = fleet.budget, 0
    while pairs := blocks_to_add(plan, records, fleet.wanted, left):
        plan, left, rounds = plan.with_blocks(pairs), left - len(pairs), rounds + 1
        records += [measured(place, block) for place, block in pairs]
    rows = plain_rows(summarise(records))
    inside = [
        row["low_ns"] <= NS * math.exp(sum(truth) / len(truth)) <= row["high_ns"]
        for row, truth in zip(rows, truths, strict=True)
    ]
    return Reached(
        blocks=len(records),
        fewest=sum(max(fleet.blocks, fewest(spread, fleet.wanted)) for spread in spreads),
        rounds=rounds,
        widest=max(each.half_width for each in precisions(records).values()),
        covered=sum(inside) / len(inside),
        spent=left == 0,
    )


def fewest(spread: float, wanted: float) -> int:
    """The least number of blocks whose interval has the half-width, by the spread that is true."""
    blocks = BLOCKS_FOR_INTERVAL
    while half_width(spread / math.sqrt(blocks), blocks - 1.0) > math.log1p(wanted):
        blocks += 1
    return blocks
