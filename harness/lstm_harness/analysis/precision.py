"""How precise a run's times are, and which blocks make them as precise as asked: `fleet --until`.

A case is as precise as the widest 95% interval of its backends, which are those that a report
shows. Blocks are added where the interval is widest. How many it takes follows from the spread of
the blocks so far; few blocks say little about that, so a case gets at most half as many more at a
time, and is looked at again.
"""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL, half_width
from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import Record
from lstm_harness.model.spec import MOST_BLOCKS

# At most this share of the blocks that a case has is added at a time.
MOST_GROWTH = 0.5


@dataclass(frozen=True)
class Precision:
    """Half the widest 95% interval of a case, as a share, and from how many blocks.

    Infinite where it is not known: with fewer than three blocks, or where blocks are too few to
    separate noise from machines.
    """

    half_width: float
    blocks: int

    def after(self, more: int) -> float:
        """About what the half-width is with more blocks of the same spread."""
        if not more or math.isinf(self.half_width):
            return self.half_width
        had, has = self.blocks, self.blocks + more
        before, now = (half_width(1 / math.sqrt(n), n - 1.0) for n in (had, has))
        return math.expm1(math.log1p(self.half_width) * now / before)


def precisions(records: Iterable[Record]) -> dict[str, Precision]:
    """How precise each case is that has a time, by its label."""
    found: dict[str, Precision] = {}
    for row in plain_rows(summarise(records)):
        if row["status"] != "ok":
            continue
        share = math.sqrt(row["high_ns"] / row["low_ns"]) - 1
        own = Precision(math.inf if math.isnan(share) else share, len(row["block_ids"]))
        known = found.get(row["label"], own)
        found[row["label"]] = max(known, own, key=lambda each: (each.half_width, -each.blocks))
    return found


def blocks_to_add(
    plan: Plan, records: Iterable[Record], wanted: float, budget: int
) -> tuple[tuple[int, int], ...]:
    """The blocks to measure next, until every case is as precise as wanted or the budget is spent.

    Args:
        plan: what the records are of; every block of it that is not lost has been measured.
        wanted: the half-width that a case's 95% interval may have, as a share: 0.01 for 1%.
        budget: at most this many blocks of single cases.
    Returns:
        places of cases in the plan, each with the number of a new block of it; the case with the
        widest interval first. None where all are precise enough.
    """
    known = precisions(records)
    waiting = [
        (-known[case.label()].half_width, place)
        for place, case in enumerate(plan.cases)
        if case.label() in known
    ]
    heapq.heapify(waiting)
    added = dict.fromkeys((place for _, place in waiting), 0)
    pairs: list[tuple[int, int]] = []
    while waiting and len(pairs) < budget:
        width, place = heapq.heappop(waiting)
        now, block = known[plan.cases[place].label()], plan.blocks_of(place) + added[place]
        if -width <= wanted or added[place] >= _most(now) or block >= MOST_BLOCKS:
            continue
        pairs.append((place, block))
        added[place] += 1
        heapq.heappush(waiting, (-now.after(added[place]), place))
    return tuple(pairs)


def _most(now: Precision) -> int:
    """How many blocks a case may get before it is looked at again."""
    if now.blocks < BLOCKS_FOR_INTERVAL:
        return BLOCKS_FOR_INTERVAL - now.blocks
    return 1 if math.isinf(now.half_width) else max(1, int(MOST_GROWTH * now.blocks))
