"""What `train` prints: who is first at the goal, whether all learn the same, a row a contestant."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from lstm_harness.analysis.openings import GROWTH, ROUNDING, Parting
from lstm_harness.analysis.training import (
    Agreement,
    Contestant,
    Range,
    agreements,
    baseline,
    contestants,
    ratio,
)
from lstm_harness.console import output
from lstm_harness.model import text
from lstm_harness.model.training import SCHEMA, Learnt
from lstm_harness.model.workloads import Goal, Workload


def write(workload: Workload, curves: Sequence[Learnt]) -> None:
    """The answer, a row a contestant, then which curves did not come to their end, and why."""
    standing = contestants(curves, workload)
    output.line(sentence(workload, curves))
    if standing:
        table = output.empty_table(*columns(workload))
        for one in standing:
            table.add_row(*map(Text, cells(one)))
        output.print_table(table)
    for said in refusals(curves):
        output.line(said)


def sentence(workload: Workload, curves: Sequence[Learnt]) -> str:
    """Who is first at the goal and by how much, who learns otherwise, whether the rest agree."""
    return " ".join(sentences(workload, curves))


def sentences(workload: Workload, curves: Sequence[Learnt]) -> list[str]:
    """The same, one by one."""
    standing = contestants(curves, workload)
    if not standing:
        return ["Nothing could be trained."]
    said = [_race(mine, workload.goal) for mine in _by_cell(standing)]
    said += [each for one in standing for each in _otherwise(one)]
    if len({one.backend for one in standing}) == 1:
        return [*said, f"Only {_name(standing[0])} trained: nobody to hold it against."]
    known = agreements(standing, workload.goal)
    for mine in _by_cell(standing):
        found = [each for each in known if each.cell == mine[0].cell]
        said += [_agrees(each) for each in found] or _alone(mine)
    return said


def columns(workload: Workload) -> list[str]:
    """The heads of a table of contestants."""
    return [
        *("rank", "backend", "cell", "seeds", "at the goal", "seconds to it", "steps to it"),
        *(f"last {workload.goal.metric}", "last loss", "predictions/s", "first losses part by"),
    ]


def cells(one: Contestant) -> list[str]:
    """A contestant's row."""
    told, loss = one.value, one.loss
    value = "not finite" if told is None else _with_spread(*told)
    return [
        str(one.rank or ""),
        text.shorten(one.backend),
        text.shorten(one.cell),
        _of(one.done, one.asked),
        _of(len(one.reached), one.asked),
        _range(one.seconds_to_goal),
        _range(one.steps_to_goal),
        value,
        "not finite" if loss is None else text.significant(loss),
        text.large(one.predictions_per_second),
        _parting(one),
    ]


def refusals(curves: Sequence[Learnt]) -> list[str]:
    """A line for each end that has a reason, with the seeds that it befell."""
    seeds: dict[tuple[str, str, str, str], list[int]] = {}
    for each in curves:
        if each.end is not None and each.end.reason:
            curve, end = each.curve, each.end
            key = (curve.backend, curve.cell, end.status, end.reason)
            seeds.setdefault(key, []).append(curve.seed)
    return [
        f"{backend}, {cell}, {_seeds(befell)}: {status}: {reason}"
        for (backend, cell, status, reason), befell in seeds.items()
    ]


def command(manifest: Mapping[str, Any]) -> str:
    """The command that trained them, as one would type it."""
    return shlex.join(manifest["command"])


def document(
    workload: Workload, curves: Sequence[Learnt], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """What `train --json` prints; its schema is train.schema.json."""
    standing = contestants(curves, workload)
    goal = workload.goal
    first = {one.cell: one for one in standing if one.rank == 1}
    kept = ("spec", "device", "command", "lstm_bench", "start", "end", "environment")
    return {
        "schema": SCHEMA,
        "sentence": sentence(workload, curves),
        "workload": workload.name,
        "goal": asdict(goal),
        "baseline": baseline(curves),
        "rounding": {"first_step": ROUNDING, "growth": GROWTH},
        "contestants": [_contestant(one, first.get(one.cell)) for one in standing],
        "agreements": [
            {**asdict(each), "gap": each.gap, "explained": each.explained, "holds": each.holds}
            for each in agreements(standing, goal)
        ],
        "curves": [
            {
                **asdict(each.curve),
                "points": [asdict(point) for point in each.points],
                "end": None if each.end is None else asdict(each.end),
            }
            for each in curves
        ],
        **{name: manifest[name] for name in kept},
    }


def _by_cell(standing: Sequence[Contestant]) -> list[list[Contestant]]:
    found: dict[str, list[Contestant]] = {}
    for one in standing:
        found.setdefault(one.cell, []).append(one)
    return list(found.values())


def _race(mine: Sequence[Contestant], goal: Goal) -> str:
    """Who of a cell is first at the goal, and how much longer the others take."""
    alike = [one for one in mine if not one.learns_otherwise]
    cell = text.shorten(mine[0].cell)
    if not alike or alike[0].seconds_to_goal is None:
        return f"With {cell}, nobody comes to the goal, {goal}{_best(alike, goal)}."
    first, *rest = alike
    time = text.duration(alike[0].seconds_to_goal.median * 1e9)
    verb = "is first at" if rest else "comes to"
    said = f"With {cell}, {_name(first)} {verb} the goal, {goal}, after {time} of training"
    said += f" ({_from_seeds(first)})"
    return "; ".join([said, *(_behind(one, first) for one in rest)]) + "."


def _best(alike: Sequence[Contestant], goal: Goal) -> str:
    ends = [(one.value[0], one) for one in alike if one.value is not None]
    if not ends:
        return ""
    better = max if goal.higher_is_better else min
    value, one = better(ends, key=lambda end: end[0])
    return f": the best end is {_name(one)}'s, {text.significant(value)}"


def _behind(one: Contestant, first: Contestant) -> str:
    if one.rank is None:
        return f"{_name(one)} does not come there"
    times = ratio(one, first)
    if times is None:
        return f"{_name(one)} comes there from other seeds"
    short = f", {_from_seeds(one)}" if len(one.reached) < one.asked else ""
    if times.tie:
        return f"{_name(one)} ties with it ({text.ratio(times.value)}{short})"
    return f"{_name(one)} takes {text.ratio(times.value)} as long{short}"


def _from_seeds(one: Contestant) -> str:
    if len(one.reached) < one.asked:
        return f"from {len(one.reached)} of {text.count(one.asked, 'seed')}"
    return f"median of {one.asked} seeds" if one.asked > 1 else "1 seed"


def _otherwise(one: Contestant) -> list[str]:
    """What is said of one that learns otherwise; nothing of who does not."""
    found = one.parting
    if found is None or not one.learns_otherwise:
        return []
    end = "" if one.value is None else f"; it ends at {text.significant(one.value[0])}"
    return [
        f"{_name(one)} learns otherwise with {text.shorten(one.cell)}, and has no rank: at step "
        f"{found.step} its loss parts from {found.held_against}'s by {text.error(found.apart)}, "
        f"where rounding explains {text.error(found.explained)}{end}."
    ]


def _alone(mine: Sequence[Contestant]) -> list[str]:
    """Why of a cell's backends nobody knows whether they agree."""
    alike = [_name(one) for one in mine if not one.learns_otherwise]
    why = "have no step of one seed in common" if len(alike) > 1 else "has nobody to agree with"
    return [f"With {text.shorten(mine[0].cell)}, {_and(alike)} {why}."] if alike else []


def _agrees(found: Agreement) -> str:
    """Whether backends stand alike, with the numbers that tell it."""
    said = f"With {text.shorten(found.cell)}, {_and(list(map(text.shorten, found.means)))}"
    where = f"at step {found.step:,}, the last that they all came to,"
    if found.gap is None:
        return f"{said} do not agree: {where} not every mean is finite."
    gap = f"{where} their means lie {text.significant(found.gap, 2)} apart"
    if found.explained is None:
        return f"{said} have one seed, which tells no spread: {gap}."
    verb = "agree" if found.holds else "do not agree"
    spread = f"seeds explain {text.significant(found.explained, 2)}"
    return f"{said} {verb} within the spread of seeds: {gap}, and {spread}."


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _contestant(one: Contestant, first: Contestant | None) -> dict[str, Any]:
    mean, spread = one.value or (None, None)
    times = ratio(one, first) if first is not None and one.rank else None
    known = times is not None and not math.isnan(times.low)
    return {
        "backend": one.backend,
        "cell": one.cell,
        "rank": one.rank,
        "seeds": one.asked,
        "done": one.done,
        "reached": len(one.reached),
        "seconds_to_goal": _or_none(one.seconds_to_goal),
        "steps_to_goal": _or_none(one.steps_to_goal),
        "ratio_to_first": times.value if times is not None else None,
        "ratio_interval": [times.low, times.high] if times is not None and known else None,
        "last_value": mean,
        "last_value_spread": spread,
        "last_loss": one.loss,
        "predictions_per_second": one.predictions_per_second,
        "parting": None if one.parting is None else _parting_kept(one.parting),
        "learns_otherwise": one.learns_otherwise,
    }


def _or_none(values: Range | None) -> dict[str, float] | None:
    return None if values is None else asdict(values)


def _name(one: Contestant) -> str:
    return text.shorten(one.backend)


def _of(some: int, of: int) -> str:
    return str(of) if some == of else f"{some} of {of}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _range(values: Range | None) -> str:
    """The median, and from the least to the most where they differ."""
    if values is None:
        return ""
    least, median, most = map(_plain, (values.least, values.median, values.most))
    return median if least == most else f"{median} ({least} to {most})"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else text.significant(value)


def _with_spread(mean: float, spread: float | None) -> str:
    told = text.significant(mean)
    return told if spread is None else f"{told} ± {text.significant(spread, 2)}"


def _parting(one: Contestant) -> str:
    """The text about losses; empty for a backend that is compared with none."""
    found = one.parting
    if found is None:
        return ""
    apart = text.error(found.apart) if found.apart else "0"
    return f"{apart} of {text.error(found.explained)}"


def _parting_kept(found: Parting) -> dict[str, Any]:
    return {**asdict(found), "apart": found.apart if math.isfinite(found.apart) else None}
