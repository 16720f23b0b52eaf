"""Two sides compared: what is read, how they differ, the verdicts, and the code that follows.

    sides -> differences, notes -> verdicts -> exit code

`compare` and `check` read their sides from disk; a command that measures both makes each `Side`
from a Summary, and also calls `compare_sides`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge import baseline, comparability, noise
from lstm_harness.judge.verdict import Key, Kind, Rules, Verdict, judge
from lstm_harness.model.case import Case
from lstm_harness.model.errors import Exit, UserError
from lstm_harness.model.record import FAILED_MEASURING
from lstm_harness.store import run_folder

# Kinds that say that two figures were compared.
COMPARED = frozenset({Kind.REGRESSION, Kind.IMPROVEMENT, Kind.SAME, Kind.INCONCLUSIVE})
# Those of a time that was told.
TOLD = COMPARED - {Kind.INCONCLUSIVE}
# What `--fail-on` may name, and what fails where it names nothing.
MAY_FAIL = (
    Kind.REGRESSION,
    Kind.MISSING,
    Kind.INCONCLUSIVE,
    Kind.INCOMPARABLE,
    Kind.IMPROVEMENT,
)
FAILS = frozenset({Kind.REGRESSION, Kind.MISSING})
# From this many backends on, and by this much (a log ratio), a change of all is the machine's.
FEWEST_TO_CHANGE_ALIKE = 2
CHANGED_ALIKE = 0.02


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its name, the manifest or baseline header, its Summary.

    `notes` is what a reader must know of it, `absent` says why a backend did not run.
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
        revision = self.environment("git")
        return revision if isinstance(revision, Mapping) else None


@dataclass(frozen=True)
class Comparison:
    """Everything that is reported about two sides.

    `fail_on` is what the exit code follows from. `spreads` are what selftest kept of this machine:
    see `noise.MachineNoise`.
    """

    base: Side
    new: Side
    rules: Rules
    verdicts: tuple[Verdict, ...]
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fail_on: frozenset[Kind] = field(default=FAILS)
    spreads: Mapping[Key, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> Exit:
        """What `check` ends with."""
        return exit_code(self.verdicts, self.fail_on)

    def counts(self) -> dict[Kind, int]:
        """How many verdicts of each kind there are, worst kind first, none left out."""
        counts = Counter(verdict.kind for verdict in self.verdicts)
        return {kind: counts[kind] for kind in Kind}


def compare_sides(
    base: Side,
    new: Side,
    rules: Rules,
    noise: Mapping[Key, float] | None = None,
    fail_on: frozenset[Kind] = FAILS,
    spreads: Mapping[Key, float] | None = None,
) -> Comparison:
    """Judge one side against the other.

    Args:
        noise, spreads: this machine's own, by (backend, *case); what `noise.kept` gives.
    """
    differ = comparability.differences(base.manifest, new.manifest)
    verdicts = judge(base.summary, new.summary, rules, noise, differ)
    planned = _planned(new)
    verdicts = [_as_planned(verdict, planned) for verdict in verdicts]
    comparison = told(base, new, rules, verdicts, differ, fail_on)
    return replace(comparison, spreads=spreads or {})


def compared(
    base: Side,
    new: Side,
    margin: float,
    fail_on: frozenset[Kind] = FAILS,
    memory_margin: float = Rules.memory_margin,
) -> Comparison:
    """Judge one side against the other by what is kept of this machine's noise.

    Args:
        margin: the change of a time that counts as none: 0.05 is 5%.
        memory_margin: the same of memory.
    Raises:
        UserError: that noise cannot be read.
    """
    kept = noise.kept(new.manifest["environment"])
    rules = Rules(margin=margin, memory_margin=memory_margin, paired=is_paired(base, new))
    return compare_sides(base, new, rules, kept.margins, fail_on, kept.spreads)


def told(
    base: Side,
    new: Side,
    rules: Rules,
    verdicts: Sequence[Verdict],
    differences: Sequence[str],
    fail_on: frozenset[Kind],
    also: Sequence[str] = (),
) -> Comparison:
    """A comparison of two sides that were judged, with all that a reader must hear of them."""
    notes = (
        *(*base.notes, *new.notes, *also),
        *(*_absent(base, new), *_absent(new, base)),
        *comparability.notes(base.manifest, new.manifest),
        *_on_margins(verdicts),
        *([] if rules.paired else _on_the_machine(verdicts)),
    )
    return Comparison(base, new, rules, tuple(verdicts), tuple(differences), notes, fail_on)


def is_paired(base: Side, new: Side) -> bool:
    """Whether both were measured in turn, block by block, as `ab` does."""
    pair = base.manifest.get("pair")
    return pair is not None and pair == new.manifest.get("pair")


def compare_runs(base: run_folder.Run, new: run_folder.Run) -> Comparison:
    """Judge one run against another, by the rules that `compare` has where nothing is asked.

    Raises:
        UserError: the noise that is kept of this machine cannot be read.
    """
    kept = noise.kept(new.manifest["environment"])
    sides = side_of_run(base), side_of_run(new)
    return compare_sides(*sides, Rules(), kept.margins, spreads=kept.spreads)


def side_of(place: Path) -> Side:
    """A run's folder, a baseline's file or a baseline's name, read.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    named = baseline.FOLDER / f"{place.name}{baseline.SUFFIX}"
    is_name = str(place) == place.name and named.is_file()
    if (place / run_folder.MANIFEST).exists() or (place.is_dir() and not is_name):
        return side_of_run(run_folder.load(place))
    if not is_name and not place.exists():
        kept = ", ".join(baseline.names()) or "none"
        raise UserError(
            f"{place} is neither a run's folder nor a baseline; in {baseline.FOLDER}: {kept}"
        )
    saved = baseline.read(named if is_name else place)
    return Side(saved.name, saved.header, saved.summary)


def side_of_run(run: run_folder.Run) -> Side:
    """A run as one side of a comparison."""
    name = str(run.manifest.get("label") or run.manifest["id"])
    plan = run.manifest["plan"]
    planned, measured = plan["planned_records"], len(run.records)
    notes = (
        [f"{name} is incomplete: {measured:,} of {planned:,} records"] if measured < planned else []
    )
    if len(run.machines) > 1:
        notes.append(f"{name} was measured on {len(run.machines)} machines")
    if run.torn:
        notes.append(f"{name}: the last record is torn and was left out")
    if run.edited:
        notes.append(f"{name}: the records are not those that the run wrote")
    absent = {entry["backend"]: entry["reason"] for entry in plan["absent"]}
    return Side(name, run.manifest, summarise(run.records), tuple(notes), absent)


def _planned(side: Side) -> set[tuple[str, str]]:
    """Every (backend, label) that a run was to measure; a baseline does not know."""
    plan = side.manifest.get("plan") or {}
    labels = [Case.from_dict(case).label() for case in plan.get("cases", ())]
    return set(itertools.product(plan.get("backends", ()), labels))


def _as_planned(verdict: Verdict, planned: Collection[tuple[str, str]]) -> Verdict:
    """A verdict on a cell that is gone, where the run had planned it and was cut before."""
    gone = verdict.kind == Kind.MISSING and not verdict.status
    if not gone or (verdict.backend, verdict.label) not in planned:
        return verdict
    return replace(verdict, reason="planned, and not measured: the run is not whole")


def _on_margins(verdicts: Sequence[Verdict]) -> list[str]:
    """What this machine's own noise let pass, in one sentence."""
    wider = [v.margin for v in verdicts if v.margin_from == "noise"]
    if not wider:
        return []
    return [
        f"{len(wider)} of {len(verdicts)} figures are judged with this machine's own noise as "
        f"their margin, up to {max(wider):.1%}, as lstm-bench selftest kept it"
    ]


def _on_the_machine(verdicts: Sequence[Verdict]) -> list[str]:
    """A doubt if every backend changed alike between two runs: that is rarely their own change."""
    logs: dict[str, list[float]] = {}
    for v in verdicts:
        if v.measure == "time" and v.cases == 1 and math.isfinite(v.ratio):
            logs.setdefault(v.backend, []).append(math.log(v.ratio))
    middles = [median(ratios) for ratios in logs.values()]
    if len(middles) < FEWEST_TO_CHANGE_ALIKE:
        return []
    least = min(middles, key=abs)
    if abs(least) < CHANGED_ALIKE or any(middle * least < 0 for middle in middles):
        return []
    return [
        f"every backend is {'slower' if least > 0 else 'faster'}, by a median of "
        f"{abs(math.expm1(least)):.1%} or more: the machine may have changed; lstm-bench ab "
        "measures both sides in turn"
    ]


def _absent(side: Side, other: Side) -> tuple[str, ...]:
    """Why a backend of the other side did not run on this one."""
    theirs = set(other.summary["backend"])
    return tuple(
        f"{side.name}: {backend} does not run: {reason}"
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
    """What verdicts come to: the first that applies of 4, 6, 5, 1, 3, 0.

    A wrong answer comes first: it is a fact, whatever was timed. A measurement that failed means
    that the run is not whole, and a comparison of nothing is not a judgement: after either, no
    regression was found only because nobody looked. Then come the times, those that were told
    before those that could not be. A gate that could tell no time did not find that all is well.
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
    return Exit.INCONCLUSIVE if failing or tells_no_time(verdicts) else Exit.DONE


def tells_no_time(verdicts: Iterable[Verdict]) -> bool:
    """Whether times were compared and each is `INCONCLUSIVE`: every case's, and every backend's.

    Such a gate can see nothing of the margin that it was asked for.
    """
    kinds = {verdict.kind for verdict in verdicts if verdict.measure == "time"}
    return Kind.INCONCLUSIVE in kinds and not kinds & TOLD


def name_of(verdict: Verdict) -> str:
    """What a case is found by: `backend/label`."""
    return f"{verdict.backend}/{verdict.label}"
