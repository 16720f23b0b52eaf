"""A regression must recur: what a second measurement makes of what the first one flagged.

The blocks of both are judged together; what is then flagged stays so only where each measurement
alone shows more than the margin, in the same direction.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.verdict import Key, Kind, Rules, Verdict, judge
from lstm_harness.model.plan import Plan
from lstm_harness.model.record import Record

FLAGGED = (Kind.REGRESSION, Kind.IMPROVEMENT)
DOUBTFUL = (*FLAGGED, Kind.INCONCLUSIVE)


def doubtful(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What is measured once more before it is believed: what was flagged, times not settled."""
    return [v for v in verdicts if v.kind in DOUBTFUL]


def in_doubt(plan: Plan, doubt: Sequence[Verdict]) -> Plan:
    """The plan of the backends and cases that are in doubt, alone; together they all are."""
    labels = {v.label for v in doubt}
    if any(v.cases > 1 for v in doubt):
        labels |= {case.label() for case in plan.cases}
    return plan.only({v.backend for v in doubt}, labels)


def pooled(first: Sequence[Record], second: Sequence[Record], blocks: int) -> list[Record]:
    """The records of both measurements, the second's blocks counted on from the first's."""
    return [*first, *(replace(record, block=record.block + blocks) for record in second)]


def judged(
    sides: Sequence[Sequence[Record]], blocks: int, rules: Rules, noise: Mapping[Key, float]
) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts before anything was measured again, and those after.

    Args:
        sides: the records of base and new; a block from this number on was measured again.
    """
    first, second = (
        [[record for record in side if (record.block >= blocks) == is_again] for side in sides]
        for is_again in (False, True)
    )
    alone = _verdicts(first, rules, noise)
    if not any(second):
        return alone, alone
    again, together = _verdicts(second, rules, noise), _verdicts(sides, rules, noise)
    return alone, confirmed(alone, again, together)


def _verdicts(
    sides: Sequence[Sequence[Record]], rules: Rules, noise: Mapping[Key, float]
) -> list[Verdict]:
    base, new = map(summarise, sides)
    return judge(base, new, rules, noise)


def confirmed(
    first: Sequence[Verdict], second: Sequence[Verdict], together: Sequence[Verdict]
) -> list[Verdict]:
    """The verdicts on both measurements together, less what did not recur.

    Args:
        first, second: the verdicts on each measurement alone; the second's cells may be fewer.
        together: those on the blocks of both.
    """
    alone = [{_names(v): v for v in part if v.measure == "time"} for part in (first, second)]
    return [
        _confirmed(verdict, *(part.get(_names(verdict)) for part in alone)) for verdict in together
    ]


def _names(verdict: Verdict) -> tuple[str, str]:
    """The backend and the case that a verdict is of."""
    return verdict.backend, verdict.label


def _confirmed(verdict: Verdict, first: Verdict | None, second: Verdict | None) -> Verdict:
    if verdict.measure != "time" or verdict.kind not in FLAGGED or first is None or second is None:
        return verdict
    ratios = [part.new / part.base if part.base > 0 else math.nan for part in (first, second)]
    if all(_shows(ratio, verdict) for ratio in ratios):
        return verdict
    reason = f"did not recur: {ratios[0]:.2f} at first, then {ratios[1]:.2f}"
    return replace(verdict, kind=Kind.INCONCLUSIVE, reason=reason)


def _shows(ratio: float, whole: Verdict) -> bool:
    """Whether a measurement alone, of however few blocks, is beyond the margin as the whole is."""
    if not 0 < ratio < math.inf:
        return False
    d, edge = math.log(ratio), math.log1p(whole.margin)
    return d > edge if whole.kind == Kind.REGRESSION else d < -edge
