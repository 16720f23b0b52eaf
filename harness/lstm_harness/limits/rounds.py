"""Samples, round by round, to ceilings.

In each round every probe takes a few samples, so that a noisy spell of the machine hits all alike;
the round is the unit of replication, as the block is of a run.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from lstm_harness.analyse import log_mean_interval
from lstm_harness.limits.ceilings import UNITS, Ceiling, Ceilings, Level
from lstm_harness.limits.keep import conditions_of
from lstm_harness.survey import Survey

Rounds = Sequence[Mapping[str, Any]]


def ceilings_of(
    survey: Survey, facts: Mapping[str, Any], rounds: Rounds, measured: str
) -> Ceilings:
    """The ceilings of all probes that have samples, and why the others have none.

    Args:
        facts: what `probe.Bencher.facts` tells.
        rounds: what `probe.Bencher.round` told, time after time.
        measured: when that was, UTC, ISO 8601.
    """
    found: list[Ceiling] = []
    failures: dict[str, str] = {}
    by_probe = zip(*(each["samples"] for each in rounds), strict=True)
    for probe, taken in zip(facts["probes"], by_probe, strict=True):
        samples = tuple(tuple(each) for each in taken if not isinstance(each, str))
        if samples:
            found.append(_ceiling(probe, samples))
        else:
            name = " ".join(filter(None, (probe["kind"], probe["of"], probe["by"])))
            failures[name] = next(each for each in taken if isinstance(each, str))
    return Ceilings(
        device=survey.device,
        identity=survey.identity,
        conditions=conditions_of(survey.device, survey.environment),
        levels=tuple(Level(each["name"], each["bytes"]) for each in facts["levels"]),
        units=facts["units"],
        near_bytes=facts["near_bytes"],
        measured=measured,
        rounds=len(rounds),
        disturbed=sum(each["disturbed"] for each in rounds),
        ceilings=tuple(found),
        failures=failures,
    )


def _ceiling(probe: Mapping[str, Any], samples: tuple[tuple[float, ...], ...]) -> Ceiling:
    medians = [median(some) for some in samples]
    logs = np.log(np.array(medians, dtype=np.float64))
    low, high = log_mean_interval(np.zeros(len(logs), dtype=np.int64), logs, 1)
    known = math.isfinite(low[0])
    fastest = max if UNITS[probe["unit"]] else min
    return Ceiling(
        **{name: probe[name] for name in ("kind", "of", "by", "unit", "detail")},
        value=median(medians),
        low=float(low[0]) if known else None,
        high=float(high[0]) if known else None,
        best=fastest(sample for some in samples for sample in some),
        samples=samples,
    )
