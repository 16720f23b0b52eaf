"""Two sides that a fleet measures: the blocks that are added of what is in doubt.

The added blocks are the second measurement, as many as there were. They are of the cases that are
in doubt, with all of their backends: a task of a fleet has the backends of a case together.
"""

from collections.abc import Callable, Sequence

from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL
from lstm_harness.judge.confirm import doubtful, in_doubt, judged
from lstm_harness.judge.verdict import Rules
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import Record
from lstm_harness.model.spec import MOST_BLOCKS


def blocks_to_add(
    plan: Plan, sides: Sequence[Sequence[Record]], rules: Rules, warned: Callable[[str], None]
) -> list[tuple[int, int]]:
    """Pairs of a case's place and a block's number; none where nothing is in doubt.

    None where too few devices measured, either: more of their blocks would settle nothing.

    Args:
        sides: the records of base and new in the blocks of the plan.
    """
    found = doubtful(judged(sides, plan.blocks, rules, {})[0])
    if not found:
        return []
    devices = {record.machine for side in sides for record in side}
    if 1 < len(devices) < BLOCKS_FOR_INTERVAL:
        warned(
            f"{len(devices)} devices measured; a verdict over devices needs "
            f"{BLOCKS_FOR_INTERVAL} or more, or one alone"
        )
        return []
    labels = {case.label() for case in in_doubt(plan, found).cases}
    places = [place for place, case in enumerate(plan.cases) if case.label() in labels]
    blocks = range(plan.blocks, min(2 * plan.blocks, MOST_BLOCKS))
    return [(place, block) for place in places for block in blocks]
