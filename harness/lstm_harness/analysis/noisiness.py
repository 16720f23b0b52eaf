"""How much a run was disturbed: the samples that are marked, and the intervals that are wide."""

import math
from dataclasses import dataclass

import pandas as pd

# Of more marked samples than this, half the width of an interval beyond this: a reader is warned.
# They are a verdict's own: `judge.pairing.Rules.few_marked`, and the margin that `check` asks for.
MARKED = 0.05
WIDE = 0.05


@dataclass(frozen=True)
class Noisiness:
    """What disturbed a run.

    Attributes:
        marked: share of the samples that were taken in a disturbed spell or under throttling, 0 to
            1; NaN without a sample.
        times, wide: how many (backend, case) pairs have an interval, and of how many half its width
            is above `WIDE` of the median.
        widest: half the width of the widest as a share of its median, with its backend and case;
            NaN without any.
    """

    marked: float
    times: int
    wide: int
    widest: float
    backend: str = ""
    case: str = ""


def noisiness(summary: pd.DataFrame) -> Noisiness:
    """Measure it on a Summary."""
    sampled = summary[summary["samples"] > 0]
    samples = int(sampled["samples"].sum())
    marked = float((sampled["marked_share"] * sampled["samples"]).sum())
    share = marked / samples if samples else math.nan
    known = summary[(summary["status"] == "ok") & summary["low_ns"].notna()]
    if known.empty:
        return Noisiness(share, 0, 0, math.nan)
    halves = (known["high_ns"] - known["low_ns"]) / 2 / known["median_ns"]
    worst = known.iloc[int(halves.to_numpy().argmax())]
    return Noisiness(
        share,
        len(known),
        int((halves > WIDE).sum()),
        float(halves.max()),
        str(worst["backend"]),
        str(worst["label"]),
    )
