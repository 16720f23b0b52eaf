"""A plan in parts, each for one task: the backends of a case in a block are always in one part."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import MOST_BLOCKS, MOST_CASES

# About how long a task should take, so that its start is a small share of it.
TASK_S = 60.0


def cases_a_task(plans: Sequence[Plan]) -> int:
    """How many cases a task has, by a rough estimate of its time.

    Args:
        plans: of the same cases; a task measures its part of each.
    """
    cases = len(plans[0].cases)
    case_s = sum(plan.estimated_s for plan in plans) / (plans[0].blocks * cases)
    return max(1, min(cases, int(TASK_S / case_s) if case_s else cases))


def in_parts(pairs: Iterable[tuple[int, int]], size: int) -> tuple[Part, ...]:
    """The parts of these pairs of a case and a block, block by block.

    Those of a block are in an order of its own. Devices that take parts in turn would otherwise
    measure the same cases in every block, and what is a device's would look like a case's.

    Args:
        pairs: places in a plan's cases, and numbers of blocks.
        size: the most cases in a part.
    """
    by_block: dict[int, list[int]] = {}
    for case, block in pairs:
        by_block.setdefault(block, []).append(case)
    return tuple(
        Part(tuple(cases), (block,))
        for block, all_cases in sorted(by_block.items())
        for cases in _shuffled(_pieces(sorted(all_cases), size), block)
    )


def whole(plan: Plan) -> Iterator[tuple[int, int]]:
    """Every pair of a case and a block that a plan has."""
    for case in range(len(plan.cases)):
        for block in range(plan.blocks_of(case)):
            yield case, block


def grown(plan: Plan, parts: Iterable[Part]) -> Plan:
    """The plan with those blocks of these parts that it does not have yet."""
    pairs = [(case, block) for part in parts for case in part.cases for block in part.blocks]
    more = [(case, block) for case, block in pairs if block >= plan.blocks]
    return plan.with_blocks(more) if more else plan


def piece(plan: Plan, part: Part) -> tuple[Plan, Part]:
    """The plan of a part's cases alone, and the part as that plan numbers them.

    A task needs no more. If each had the whole plan, all together would grow with its square.
    """
    own = replace(plan.of_cases(part.cases), whole_cases=len(plan.cases))
    return own, Part(tuple(range(len(part.cases))), part.blocks)


def affordable(budget_s: float | None, spent_s: float, pairs: int) -> int:
    """How many more pairs of a case and a block a budget allows, if they take as long as others.

    Args:
        budget_s: the device time for all; None for any.
        spent_s: the device time that was spent, on this many pairs.
    """
    if budget_s is None:
        return MOST_CASES * MOST_BLOCKS
    # Times are stored in whole seconds.
    pair_s = max(spent_s, 1.0) / pairs
    return max(0, int((budget_s - spent_s) / pair_s))


def _shuffled(pieces: Iterable[list[int]], block: int) -> list[list[int]]:
    found = list(pieces)
    random.Random(block).shuffle(found)
    return found


def _pieces(cases: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(cases), size):
        yield cases[first : first + size]
