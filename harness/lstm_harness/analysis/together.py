"""How many times longer all of a backend's cases take than all of another's: one ratio for them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.statistics import mean_interval

Row = Mapping[str, Any]


def of_all(pairs: Sequence[tuple[Row, Row]]) -> Ratio | None:
    """The geometric mean over the pairs, of each the first's time over the second's.

    It is made block by block, so that what slows a whole block hits both alike; its interval is
    that of the blocks' means.

    Args:
        pairs: ok rows of Summaries whose blocks were measured in turn, as `summary.plain_rows`
            makes them.
    Returns:
        None where no block has them all.
    """
    times = [
        tuple(dict(zip(row["block_ids"], row["block_medians_ns"], strict=True)) for row in pair)
        for pair in pairs
    ]
    shared = set.intersection(*(set(side) for pair in times for side in pair)) if times else set()
    means = [
        math.fsum(math.log(over[block] / under[block]) for over, under in times) / len(times)
        for block in sorted(shared)
    ]
    if not means:
        return None
    mean, low, high = mean_interval(means)
    return Ratio(*map(math.exp, (mean, low, high)))
