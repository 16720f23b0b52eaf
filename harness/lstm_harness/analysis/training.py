"""Which backend learns a workload fastest, and whether all learn the same, from several seeds.

A contestant is a backend with a cell. Backends are compared with each other if they run the same
cell from the same seed: then data, parameters and batches are the same, and only rounding differs.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from scipy.stats import studentized_range

from lstm_harness.analysis import log_ratio
from lstm_harness.analysis.openings import Parting, parting
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.statistics import geometric_mean
from lstm_harness.model.training import Learnt, Point
from lstm_harness.model.workloads import Goal, Workload

# How often the means of backends that learn the same lie within what seeds explain.
EXPLAINED = 0.99


@dataclass(frozen=True)
class Range:
    """The median, the least and the most of some values."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Contestant:
    """A backend with a cell, and its result from each seed.

    Attributes:
        asked: from how many seeds it should train.
        curves: those that trained, in the order of seeds: they have points, and did not fail.
        reached: by seed, the first point at the goal.
        values: by seed, the goal's metric at the last point; None if it is not finite.
        parting: the difference of its first losses, for the seed where it is largest; None if there
            is no backend to compare it with.
        rank: from 1 among the contestants of its cell; None if it did not reach the goal, or
            learns differently.
    """

    backend: str
    cell: str
    asked: int
    curves: tuple[Learnt, ...]
    reached: Mapping[int, Point]
    values: Mapping[int, float | None]
    parting: Parting | None
    rank: int | None = None

    @property
    def learns_otherwise(self) -> bool:
        """Whether it differs from the others by more than rounding explains."""
        return self.parting is not None and self.parting.share > 1

    @property
    def done(self) -> int:
        """How many of its curves have ended."""
        return sum(each.end is not None for each in self.curves)

    @property
    def came_to_an_end(self) -> bool:
        """Whether all its curves reached their goal or their last step."""
        return all(each.end is not None and each.end.status == "ok" for each in self.curves)

    @property
    def seconds_to_goal(self) -> Range | None:
        """The training time, over the seeds that reached the goal."""
        return _range(point.seconds for point in self.reached.values())

    @property
    def steps_to_goal(self) -> Range | None:
        """The steps to the goal, over the seeds that reached it."""
        return _range(point.step for point in self.reached.values())

    @property
    def value(self) -> tuple[float, float | None] | None:
        """The mean of the last values and their standard deviation over seeds, None of one seed.

        None if a value is not finite.
        """
        values = list(self.values.values())
        known = [each for each in values if each is not None]
        if not known or len(known) < len(values):
            return None
        return statistics.fmean(known), _deviation(known)

    @property
    def loss(self) -> float | None:
        """The training loss at the last point, the median over seeds; None if not finite."""
        losses = [each.points[-1].loss for each in self.curves]
        known = [each for each in losses if each is not None]
        return statistics.median(known) if known and len(known) == len(losses) else None

    @property
    def predictions_per_second(self) -> float:
        """Predictions a second in training, the median over seeds."""
        last = [each.points[-1] for each in self.curves]
        return statistics.median(each.predictions / each.seconds for each in last)


@dataclass(frozen=True)
class Agreement:
    """The metrics of some backends with a cell at the last step that all of them reached.

    Attributes:
        seeds: those from which all trained.
        means: of the goal's metric over these seeds, by backend; None where it is not finite.
        spread: its standard deviation over seeds, pooled over the backends; None of one seed.
    """

    cell: str
    step: int
    seeds: tuple[int, ...]
    means: Mapping[str, float | None]
    spread: float | None

    @property
    def gap(self) -> float | None:
        """The largest difference of the means; None if one is not finite."""
        known = [mean for mean in self.means.values() if mean is not None]
        return max(known) - min(known) if len(known) == len(self.means) else None

    @property
    def explained(self) -> float | None:
        """How far apart the means of this many samples of this many seeds may lie by chance.

        Tukey's studentized range. Once rounding has grown, two backends' curves of one seed are as
        good as curves of two seeds.
        """
        if self.spread is None:
            return None
        return _explained(len(self.means), len(self.seeds)) * self.spread

    @property
    def holds(self) -> bool | None:
        """Whether the spread of seeds explains the gap; None if that is not known."""
        if self.gap is None:
            return False
        return None if self.explained is None else self.gap <= self.explained


@cache
def _explained(backends: int, seeds: int) -> float:
    """How many standard deviations; cached, because it takes tenths of a second."""
    limit = studentized_range.ppf(EXPLAINED, backends, backends * (seeds - 1))
    return float(limit) / math.sqrt(seeds)


def contestants(curves: Sequence[Learnt], workload: Workload) -> list[Contestant]:
    """All contestants that trained, cell by cell, the ranked ones of a cell first."""
    trained = [each for each in curves if _trained(each)]
    asked: dict[tuple[str, str], list[Learnt]] = {}
    for each in sorted(curves, key=lambda each: each.curve.seed):
        asked.setdefault((each.curve.cell, each.curve.backend), []).append(each)
    names = dict.fromkeys((each.curve.cell, each.curve.backend) for each in curves)
    all_of = [_contestant(name, asked[name], trained, workload.goal) for name in names]
    with_curves = [one for one in all_of if one.curves]
    cells = dict.fromkeys(one.cell for one in with_curves)
    return [
        one
        for cell in cells
        for one in _ranked([each for each in with_curves if each.cell == cell])
    ]


def ratio(over: Contestant, under: Contestant) -> Ratio | None:
    """One contestant's seconds to the goal over the other's, paired by seed.

    The geometric mean, its interval unknown below 3 seeds; None if both reached the goal from no
    seed.
    """
    above, below = ({s: p.seconds for s, p in one.reached.items()} for one in (over, under))
    shared = [seed for seed in above if seed in below]
    if not shared:
        return None
    sure = log_ratio.of_blocks(below, above, paired=True)
    if sure is None:
        return Ratio(geometric_mean(above[seed] / below[seed] for seed in shared))
    return Ratio(*map(log_ratio.exp, (sure.d, *sure.interval())))


def agreements(standing: Sequence[Contestant], goal: Goal) -> list[Agreement]:
    """For each cell that two or more backends learn alike from the first steps on.

    If some ran out of time, those that finished form a first group of their own: at a step
    that the slowest reached, little may be learnt.
    """
    found = []
    for cell in dict.fromkeys(one.cell for one in standing):
        alike = [one for one in standing if one.cell == cell and not one.learns_otherwise]
        ended = [one for one in alike if one.came_to_an_end]
        groups = [ended, alike] if len(ended) < len(alike) else [alike]
        found += [_agreement(cell, group, goal) for group in groups if len(group) > 1]
    return [each for each in found if each is not None]


def shared_steps(curves: Sequence[Learnt]) -> list[int]:
    """The steps at which all of some curves have a point."""
    steps = [{point.step for point in each.points} for each in curves]
    return sorted(set.intersection(*steps)) if steps else []


def baseline(curves: Sequence[Learnt]) -> float | None:
    """The baseline without learning on the same data, the median over all that report it."""
    told = [each.end.baseline for each in curves if each.end is not None]
    known = [each for each in told if each is not None]
    return statistics.median(known) if known else None


def _trained(one: Learnt) -> bool:
    failed = one.end is not None and one.end.status not in ("ok", "out_of_time")
    return bool(one.points) and not failed


def _contestant(
    name: tuple[str, str], own: Sequence[Learnt], trained: Sequence[Learnt], goal: Goal
) -> Contestant:
    curves = tuple(each for each in own if _trained(each))
    reached = {each.curve.seed: _first_at(goal, each.points) for each in curves}
    partings = [found for found in (parting(each, trained) for each in curves) if found]
    cell, backend = name
    return Contestant(
        backend,
        cell,
        len(own),
        curves,
        {seed: point for seed, point in reached.items() if point is not None},
        {each.curve.seed: each.points[-1].held_out.get(goal.metric) for each in curves},
        max(partings, key=lambda found: found.share, default=None),
    )


def _first_at(goal: Goal, points: Iterable[Point]) -> Point | None:
    for point in points:
        value = point.held_out.get(goal.metric)
        if value is not None and goal.is_reached(value):
            return point
    return None


def _ranked(of_a_cell: list[Contestant]) -> list[Contestant]:
    """Order: the most seeds at the goal, then the fewest seconds; those without a rank last."""
    timed = [
        (-len(one.reached), one.seconds_to_goal.median, place)
        for place, one in enumerate(of_a_cell)
        if one.seconds_to_goal is not None and not one.learns_otherwise
    ]
    order = [place for _, _, place in sorted(timed)]
    first = [replace(of_a_cell[place], rank=rank) for rank, place in enumerate(order, start=1)]
    return [*first, *(one for place, one in enumerate(of_a_cell) if place not in order)]


def _agreement(cell: str, alike: Sequence[Contestant], goal: Goal) -> Agreement | None:
    """The median at the last shared step: at the same second, a slower one would only be behind."""
    seeds = sorted(set.intersection(*(set(one.values) for one in alike)))
    curves = [[each for each in one.curves if each.curve.seed in seeds] for one in alike]
    steps = shared_steps([each for own in curves for each in own])
    if not steps:
        return None
    values = {
        one.backend: [_at(steps[-1], each, goal) for each in own]
        for one, own in zip(alike, curves, strict=True)
    }
    finite = {name: [v for v in own if v is not None] for name, own in values.items()}
    means = {
        name: statistics.fmean(own) if len(own) == len(seeds) else None
        for name, own in finite.items()
    }
    deviations = [_deviation(own) for own in finite.values()]
    known = [each for each in deviations if each is not None]
    pooled = math.sqrt(statistics.fmean(each**2 for each in known)) if known else None
    return Agreement(cell, steps[-1], tuple(seeds), means, pooled)


def _at(step: int, one: Learnt, goal: Goal) -> float | None:
    return next(p.held_out.get(goal.metric) for p in one.points if p.step == step)


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _range(values: Iterable[float]) -> Range | None:
    known = list(values)
    return Range(statistics.median(known), min(known), max(known)) if known else None
