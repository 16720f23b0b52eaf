"""The page of a device class: what is fastest there, what was submitted, what was refused."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.model import text
from lstm_harness.report import assets
from lstm_harness.report.templating import fill
from lstm_harness.report.winner_map import map_answer
from lstm_harness.site.board.classes import DeviceClass
from lstm_harness.site.board.places import (
    MARGIN,
    Contestant,
    Entry,
    Group,
    Place,
    contestant_of,
    groups,
)
from lstm_harness.site.board.told import Told
from lstm_harness.site.catalogue import Listed
from lstm_harness.store.run_folder import REPORT

# Newest first; further ones are counted, and are in the reports of their runs.
MOST_REFUSED = 200
MOST_RUNS = 50
# This many digits of a digest distinguish the versions of a plugin in a table of cases.
_DIGITS = 12


def render(which: DeviceClass, runs: Sequence[Listed], told: Mapping[str, Told]) -> str:
    """The HTML of a device class's page.

    Args:
        runs: those of the class, newest first.
        told: what each tells, by its name.
    """
    made = groups(runs, told)
    places = list(chain.from_iterable(group.places for group in made))
    refused = list(_refused(runs, told))
    return fill(
        "board.html",
        assets=assets.of_page("list", "list", at=f"../{assets.FOLDER}"),
        title=which.name,
        answer=_answer(places),
        facts=_facts(runs),
        margin=f"{MARGIN:.0%}",
        groups=[_group(group, made) for group in made],
        contestants=_contestants(runs, told, places),
        refused=refused[:MOST_REFUSED],
        more_refused=max(0, len(refused) - MOST_REFUSED),
        runs=[_run(one) | {"headline": one.card.headline} for one in runs[:MOST_RUNS]],
        more_runs=max(0, len(runs) - MOST_RUNS),
    )


def _answer(places: Sequence[Place]) -> str:
    """The first sentence: who is fastest in how many cases."""
    if not places:
        return "No time of a correct backend is here yet."
    return map_answer(
        [
            {
                "backend": place.first.contestant.backend,
                "contenders": place.entries,
                "runner_up": place.second.contestant.backend if place.second else None,
                "margin": place.ratio.value if place.ratio else None,
                "tie": {"tie": True, "win": False}.get(place.state),
            }
            for place in places
        ]
    )


def _facts(runs: Sequence[Listed]) -> str:
    """How much was measured, where and when last."""
    hosts = {one.card.host for one in runs}
    said = f"{text.count(len(runs), 'run')} on {text.count(len(hosts), 'host')}"
    newest = runs[0].card.start
    return f"{said}, most recently {text.moment(newest)}." if newest else f"{said}."


def _group(group: Group, all_groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "title": _conditions(group, all_groups),
        "rows": [_row(place) for place in group.places],
    }


def _conditions(group: Group, all_groups: Sequence[Group]) -> str:
    """What distinguishes the runs of one table from those of the others; empty if it is alone."""
    names = sorted({name for one in all_groups for name in one.conditions})
    differing = [n for n in names if len({one.conditions.get(n) for one in all_groups}) > 1]
    told = {name: group.conditions.get(name, "not recorded") for name in differing}
    return ", ".join(f"{text.shorten(name)} {text.shorten(fact)}" for name, fact in told.items())


def _row(place: Place) -> dict[str, Any]:
    """A line of the table: the fastest, its time, how sure that is, and where it is from."""
    row = place.first.row
    known = row["low_ns"] is not None and row["high_ns"] is not None
    interval = f"{text.duration(row['low_ns'])} to {text.duration(row['high_ns'])}" if known else ""
    return {
        "label": text.shorten(place.label, 120),
        "state": place.state,
        "backend": _named(place.first.contestant),
        "ties": [_named(entry.contestant) for entry in place.ties],
        "time": text.duration(row["median_ns"]),
        "interval": interval or "unknown below 3 blocks",
        "lead": _lead(place),
        **_run(place.first.run),
    }


def _lead(place: Place) -> str:
    """How the fastest compares to the next, in words."""
    if place.second is None or place.ratio is None:
        return "the only one with a time"
    told = f"{_named(place.second.contestant)} takes {_ratio(place.ratio)} its time"
    return told if _same_run(place.first, place.second) else f"{told}, measured in another run"


def _same_run(one: Entry, other: Entry) -> bool:
    return one.run.name == other.run.name


def _ratio(ratio: Ratio) -> str:
    if math.isnan(ratio.low):
        return text.ratio(ratio.value)
    return f"{text.ratio(ratio.value)} ({text.ratio(ratio.low)} to {text.ratio(ratio.high)})"


def _named(contestant: Contestant) -> str:
    """A contestant's name; of a plugin its digest, too, which distinguishes its versions."""
    name = text.shorten(contestant.backend)
    if not contestant.sha256:
        return name
    return f"{name} {text.shorten(contestant.sha256, 64)[:_DIGITS]}"


def _run(one: Listed) -> dict[str, str]:
    return {
        "run": text.shorten(one.card.label, 60),
        "start": text.moment(one.card.start) if one.card.start else "start not known",
        "report": f"../runs/{one.name}/{REPORT}",
    }


def _contestants(
    runs: Iterable[Listed], told: Mapping[str, Told], places: Iterable[Place]
) -> list[dict[str, Any]]:
    """Every backend with a time here, plugins first: its source, its newest run, its results."""
    newest: dict[Contestant, Listed] = {}
    for run in runs:
        for row in told[run.name].rows:
            newest.setdefault(contestant_of(row["backend"], told[run.name]), run)
    won, tied = Counter[Contestant](), Counter[Contestant]()
    for place in places:
        (tied if place.ties else won)[place.first.contestant] += 1
        tied.update(entry.contestant for entry in place.ties)
    ordered = sorted(newest, key=lambda one: (not one.sha256, one.backend, one.file, one.sha256))
    return [
        {
            "backend": text.shorten(one.backend),
            "source": _source(one),
            "source_digest": text.shorten(one.sha256 or told[newest[one].name].kernels_digest, 64),
            "records_digest": text.shorten(told[newest[one].name].records_sha256, 64),
            "won": won[one],
            "tied": tied[one],
            **_run(newest[one]),
        }
        for one in ordered
    ]


def _source(contestant: Contestant) -> str:
    if not contestant.sha256:
        return "built in"
    return text.shorten(contestant.file, 60) if contestant.file else "kernels and plugins together"


def _refused(runs: Iterable[Listed], told: Mapping[str, Told]) -> Iterable[dict[str, Any]]:
    """What is not on the board though it was measured, newest first, and why."""
    for run in runs:
        said = told[run.name]
        if said.refused:
            whole = {"backend": "the whole run", "cases": "", "why": "refused"}
            yield {**whole, "reason": text.shorten(said.refused, 400), **_run(run)}
        for each in said.refusals:
            more = f" and {each['cases'] - 1:,} more" if each["cases"] > 1 else ""
            yield {
                "backend": text.shorten(each["backend"]),
                "cases": f"{text.shorten(each['label'], 120)}{more}",
                "why": each["status"].replace("_", " "),
                "reason": text.shorten(each["reason"], 400),
                **_run(run),
            }
