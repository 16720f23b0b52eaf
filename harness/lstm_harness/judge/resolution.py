"""What a gate can see: the slowdown that it finds, and how many blocks would see its margin.

Both follow from how blocks spread, by the noncentral t distribution, at 95% power. A slowdown is
seen where it would be a `REGRESSION`. A margin is seen where a case that did not change would be
the `SAME`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtrinc, stdtrit

from lstm_harness.analysis.log_ratio import MOST_MORE_BLOCKS, exp
from lstm_harness.analysis.statistics import BLOCKS_FOR_INTERVAL, CONFIDENCE
from lstm_harness.judge.verdict import Key, Rules, Verdict, key_of

# How surely what is called seen is found.
POWER = 0.95
MOST_BLOCKS = MOST_MORE_BLOCKS


@dataclass(frozen=True)
class Resolution:
    """What a gate can see of a case.

    `slowdown` is a ratio less one, infinite where there are too few blocks. `margin` is the one
    that was applied to the case. `blocks` on each side would see it: None where even `MOST_BLOCKS`
    would not, or where `machines` are the units. `have` is how many blocks there are.
    """

    slowdown: float
    margin: float
    blocks: int | None
    have: int
    machines: int = 0

    @property
    def wants(self) -> int | None:
        """How many blocks to take; None where more blocks are not the answer."""
        return self.blocks if self.blocks is not None and self.blocks > self.have else None


def slowdown_seen(verdict: Verdict, rules: Rules, cases: int, se: float | None = None) -> float:
    """The slowdown that is found with 95% power in the blocks of a verdict, as a ratio less one.

    For the correction over the whole grid its hardest step is taken: the case is the only one.

    Args:
        cases: how many were tested.
        se: the standard error of the log ratio; the verdict's own where it is None.
    """
    threshold = float(stdtrit(verdict.df, 1 - rules.q / cases))
    distance = float(nctdtrinc(verdict.df, 1 - POWER, threshold))
    return exp(math.log1p(verdict.margin) + distance * (verdict.se if se is None else se)) - 1


def blocks_to_see(margin: float, spread: float, paired: bool) -> int | None:
    """Blocks on each side with which a case that did not change is the `SAME`, with 95% power.

    Args:
        spread: the standard error of the log ratio, times the square root of the blocks on a side.
    """
    counts = np.arange(BLOCKS_FOR_INTERVAL, MOST_BLOCKS + 1)
    df = counts - 1.0 if paired else 2.0 * counts - 2.0
    # Both ends of the interval must lie inside, each missing half of what may be missed.
    distances = nctdtrinc(df, (1 - POWER) / 2, stdtrit(df, (1 + CONFIDENCE) / 2))
    enough = distances * spread <= math.log1p(margin) * np.sqrt(counts)
    return int(counts[enough.argmax()]) if enough.any() else None


def resolution(
    undecided: Sequence[Verdict], rules: Rules, cases: int, spreads: Mapping[Key, float]
) -> Resolution | None:
    """What a gate can see of the middle one of some cases; None where that is not known.

    Args:
        undecided: verdicts on times of single cases.
        cases: how many were tested, over all backends.
        spreads: what selftest kept of this machine; see `noise.MachineNoise`.
    """
    each = (_of_case(verdict, rules, cases, spreads) for verdict in undecided)
    known = sorted((one for one in each if one), key=lambda one: one.slowdown)
    return known[len(known) // 2] if known else None


def _of_case(
    verdict: Verdict, rules: Rules, cases: int, spreads: Mapping[Key, float]
) -> Resolution | None:
    """By the larger of the spread that was seen and the one that selftest kept.

    What was kept is of blocks that are not paired. A case that is in doubt was not tested, and the
    doubt is its reason; but one that lacks blocks can say how many it takes.
    """
    kept = 0.0 if rules.paired else spreads.get(key_of(verdict), 0.0)
    have = min(verdict.base_blocks, verdict.new_blocks)
    if math.isfinite(verdict.q):
        se = max(verdict.se, kept * math.sqrt(1 / verdict.base_blocks + 1 / verdict.new_blocks))
        slowdown = slowdown_seen(verdict, rules, cases, se)
        spread = se * math.sqrt(have)
        # More blocks do not tell how machines differ.
        blocks = None if verdict.machines else blocks_to_see(verdict.margin, spread, rules.paired)
        return Resolution(slowdown, verdict.margin, blocks, have, verdict.machines)
    if verdict.lacks_blocks and kept:
        blocks = blocks_to_see(verdict.margin, kept * math.sqrt(2), rules.paired)
        return Resolution(math.inf, verdict.margin, blocks, have)
    return None
