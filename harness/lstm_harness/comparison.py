"""Two sides compared: what is read, how they differ, the verdicts, and the code that follows.

    sides -> differences, notes -> verdicts -> exit code

`compare` and `check` read their sides from disk; whoever measures both itself makes each `Side`
from a Summary, and calls `compare_sides` likewise.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lstm_harness import analyse, baseline, comparable, noise, store
from lstm_harness.errors import Exit, UserError
from lstm_harness.verdict import Key, Kind, Rules, Verdict, judge

FAILED_MEASURING = ("crashed", "timed_out", "error")
# Kinds that say that two figures were held against each other.
COMPARED = frozenset({Kind.REGRESSION, Kind.IMPROVEMENT, Kind.SAME, Kind.INCONCLUSIVE})
# What `--fail-on` may name, and what fails where it names nothing.
MAY_FAIL = (
    Kind.REGRESSION,
    Kind.MISSING,
    Kind.INCONCLUSIVE,
    Kind.INCOMPARABLE,
    Kind.IMPROVEMENT,
)
FAILS = frozenset({Kind.REGRESSION, Kind.MISSING})


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its name, the manifest or baseline header, its Summary.

    `notes` is what a reader must know of it, `absent` why which backend took no part.
    """

    name: str
    manifest: Mapping[str, Any]
    summary: pd.DataFrame
    notes: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    def environment(self, fact: str) -> Any:
        """What the manifest knows of the machine and its software; None where it does not."""
        known = self.manifest.get("environment")
        return known.get(fact) if isinstance(known, Mapping) else None

    @property
    def git(self) -> Mapping[str, Any] | None:
        """The revision of the kernels: `commit` and `dirty`."""
        found = self.environment("git")
        return found if isinstance(found, Mapping) else None


@dataclass(frozen=True)
class Comparison:
    """Everything that is told of two sides. `fail_on` is what the exit code follows from."""

    base: Side
    new: Side
    rules: Rules
    verdicts: tuple[Verdict, ...]
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fail_on: frozenset[Kind] = field(default=FAILS)

    @property
    def exit_code(self) -> Exit:
        """What `check` ends with."""
        return exit_code(self.verdicts, self.fail_on)

    def counts(self) -> dict[Kind, int]:
        """How many verdicts of each kind there are, worst kind first, none left out."""
        found = Counter(verdict.kind for verdict in self.verdicts)
        return {kind: found[kind] for kind in Kind}


def compare_sides(
    base: Side,
    new: Side,
    rules: Rules,
    noise: Mapping[Key, float] | None = None,
    fail_on: frozenset[Kind] = FAILS,
) -> Comparison:
    """Judge one side against the other.

    Args:
        noise: this machine's own, by (backend, *case); what `noise.kept` gives.
    """
    differ = comparable.differences(base.manifest, new.manifest)
    told = (*base.notes, *new.notes, *_absent(base, new), *_absent(new, base))
    told += tuple(comparable.notes(base.manifest, new.manifest))
    verdicts = judge(base.summary, new.summary, rules, noise, differ)
    return Comparison(base, new, rules, tuple(verdicts), tuple(differ), told, fail_on)


def compare_runs(base: store.Run, new: store.Run) -> Comparison:
    """Judge one run against another, by the rules that `compare` has where nothing is asked.

    Raises:
        UserError: the noise that is kept of this machine cannot be read.
    """
    margins = noise.kept(new.manifest["environment"]).margins
    return compare_sides(side_of_run(base), side_of_run(new), Rules(), margins)


def side_of(place: Path) -> Side:
    """A run's folder, a baseline's file or a baseline's name, read.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    named = baseline.FOLDER / f"{place.name}{baseline.SUFFIX}"
    is_name = str(place) == place.name and named.is_file()
    if (place / store.MANIFEST).exists() or (place.is_dir() and not is_name):
        return side_of_run(store.load(place))
    if not is_name and not place.exists():
        kept = ", ".join(baseline.names()) or "none"
        raise UserError(f"{place} is neither a run's folder nor a baseline; baselines here: {kept}")
    found = baseline.read(named if is_name else place)
    return Side(found.name, found.header, found.summary)


def side_of_run(run: store.Run) -> Side:
    """A run as one side of a comparison."""
    name = str(run.manifest.get("label") or run.manifest["id"])
    plan = run.manifest["plan"]
    planned, found = plan["planned_records"], len(run.records)
    notes = [f"{name} is incomplete: {found:,} of {planned:,} records"] if found < planned else []
    if run.torn:
        notes.append(f"{name}: the last record is torn and was left out")
    absent = {entry["backend"]: entry["reason"] for entry in plan["absent"]}
    return Side(name, run.manifest, analyse.summarise(run.records), tuple(notes), absent)


def _absent(side: Side, other: Side) -> tuple[str, ...]:
    """Why a backend that the other side has took no part in this one."""
    theirs = set(other.summary["backend"])
    return tuple(
        f"{side.name}: {backend} takes no part: {reason}"
        for backend, reason in side.absent.items()
        if backend in theirs
    )


def kinds_named(text: str) -> frozenset[Kind]:
    """The kinds that a `--fail-on` lists.

    Raises:
        UserError: a name that is none of `MAY_FAIL`.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {kind.lower(): kind for kind in MAY_FAIL}
    for name in names:
        if name.lower() not in known:
            raise UserError(f"--fail-on {name[:60]!r}; expected a comma list of {', '.join(known)}")
    if not names:
        raise UserError(f"--fail-on is empty; expected a comma list of {', '.join(known)}")
    return frozenset(known[name.lower()] for name in names)


def exit_code(verdicts: Collection[Verdict], fail_on: Collection[Kind] = FAILS) -> Exit:
    """What verdicts come to: 4, then 6, 5, 1, 3, 0, the first that applies.

    A wrong answer outranks all: it is a fact, whatever was timed. A measurement that failed says
    that the run is not whole, and comparing nothing that there is no judgement; either would make
    the absence of a regression an accident. Only then speaks speed, what is proven first.
    """
    kinds = {verdict.kind for verdict in verdicts}
    failing = kinds & set(fail_on)
    if Kind.INCORRECT in kinds:
        return Exit.INCORRECT
    if any(verdict.status in FAILED_MEASURING for verdict in verdicts):
        return Exit.MEASURING_FAILED
    if Kind.INCOMPARABLE in failing or not (kinds & COMPARED or failing):
        return Exit.NOT_COMPARABLE
    if failing - {Kind.INCONCLUSIVE}:
        return Exit.REGRESSION
    return Exit.INCONCLUSIVE if failing else Exit.DONE


def name_of(verdict: Verdict) -> str:
    """What a case is found by: `backend/label`."""
    return f"{verdict.backend}/{verdict.label}"
