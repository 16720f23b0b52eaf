"""From samples, round by round, to ceilings.

In each round every probe takes a few samples, so that a noisy time of the machine affects all
alike; the round is the unit of replication, as the block is of a run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from lstm_harness.analysis.statistics import mean_interval
from lstm_harness.model.ceilings import UNITS, Ceiling, Ceilings, conditions_of
from lstm_harness.model.protocol import ProbeMade, ProbesMade

# For every round and probe: `samples` and `cpu_shares`, or why there are none.
Rounds = Sequence[Sequence[Mapping[str, Sequence[float]] | str]]
# A round in which half the samples had less of the CPU than this was disturbed.
UNDISTURBED = 0.9


def ceilings_of(
    device: str,
    identity: str,
    environment: Mapping[str, Any],
    made: ProbesMade,
    rounds: Rounds,
    measured: str,
) -> Ceilings:
    """The ceilings of all probes that have samples, and why the others have none.

    Args:
        device, identity, environment: facts about the device from a survey.
        made: what was measured.
        rounds: the results of `probe.Bencher.round`, call by call.
        measured: when that was, UTC, ISO 8601.
    """
    ceilings: list[Ceiling] = []
    failures: dict[str, str] = {}
    for probe, taken in zip(made.probes, zip(*rounds, strict=True), strict=True):
        good = [each for each in taken if not isinstance(each, str)]
        if good:
            ceilings.append(_ceiling(probe, good))
        else:
            name = " ".join(filter(None, (probe.kind, probe.of, probe.by)))
            failures[name] = next(each for each in taken if isinstance(each, str))
    return Ceilings(
        device=device,
        identity=identity,
        conditions=conditions_of(device, environment),
        levels=made.levels,
        units=made.units,
        near_bytes=made.near_bytes,
        measured=measured,
        rounds=len(rounds),
        disturbed=sum(map(_was_disturbed, rounds)),
        ceilings=tuple(ceilings),
        failures=failures,
    )


def _was_disturbed(taken: Sequence[Mapping[str, Sequence[float]] | str]) -> bool:
    shares = [s for each in taken if not isinstance(each, str) for s in each["cpu_shares"]]
    return bool(shares) and median(shares) < UNDISTURBED


def _ceiling(probe: ProbeMade, taken: Sequence[Mapping[str, Sequence[float]]]) -> Ceiling:
    medians = [median(each["samples"]) for each in taken]
    _, low, high = mean_interval([math.log(value) for value in medians])
    known = math.isfinite(low)
    return Ceiling(
        **asdict(probe),
        value=median(medians),
        low=math.exp(low) if known else None,
        high=math.exp(high) if known else None,
        best=_best(taken, more_is_faster=UNITS[probe.unit]),
        samples=tuple(tuple(each["samples"]) for each in taken),
        cpu_shares=tuple(tuple(each["cpu_shares"]) for each in taken),
    )


def _best(taken: Sequence[Mapping[str, Sequence[float]]], more_is_faster: bool) -> float:
    """The fastest sample, not counting time in which others had the CPU."""
    alone = []
    for each in taken:
        shares = each["cpu_shares"] or [1.0] * len(each["samples"])
        for sample, share in zip(each["samples"], shares, strict=True):
            alone.append(sample / share if more_is_faster else sample * share)
    return max(alone) if more_is_faster else min(alone)
