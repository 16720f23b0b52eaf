"""Was it made slower, or wrong? One pure function from two Summaries to verdicts.

docs/method.md, A verdict. The unit is the block: d = log(new/base) of a block's medians, paired
where both sides were measured in the same blocks, else two independent samples (Welch). A time is
a `REGRESSION` where H0: d <= log(1 + margin) is rejected, one-sided, after Benjamini and Hochberg
over the whole grid; an `IMPROVEMENT` is the mirror; it is the `SAME` where d's 95% interval lies
inside the margin; and `INCONCLUSIVE`, with the reason, where the data do not tell. Where blocks are
paired, a backend's cases are judged together too: the noise of single cases averages out there.
Memory has a margin of its own.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from lstm_harness.analysis.log_ratio import MOST_MORE_BLOCKS, exp
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows
from lstm_harness.judge.machines import are_several
from lstm_harness.judge.pairing import Key as Key  # who calls `judge` needs both
from lstm_harness.judge.pairing import Pair, all_together, pair_up
from lstm_harness.judge.pairing import Rules as Rules
from lstm_harness.model.record import FAILED_MEASURING


class Kind(StrEnum):
    """What a comparison says of one figure of one (backend, case)."""

    INCORRECT = "INCORRECT"
    MISSING = "MISSING"
    REGRESSION = "REGRESSION"
    INCOMPARABLE = "INCOMPARABLE"
    INCONCLUSIVE = "INCONCLUSIVE"
    IMPROVEMENT = "IMPROVEMENT"
    NEW = "NEW"
    SKIPPED = "SKIPPED"
    SAME = "SAME"


@dataclass(frozen=True)
class Verdict:
    """One verdict and the numbers behind it.

    `measure` is time, peak_bytes or saved_bytes; `base` and `new` are in ns or bytes: the geometric
    mean of the compared blocks' medians, where they could be compared. `ratio` is new/base with its
    95% interval, `se` the standard error of its logarithm and `df` that one's degrees of freedom;
    `effort_low` to `effort_high` is the interval of the second estimator's ratio. `margin` is the
    one that was applied, `margin_from` one of `MARGINS`; `p` and `q` the one-sided test's before
    and after correction, of those alone that were tested. `status` is the new side's, empty
    where the cell is gone; of a base that was measured in the same go, its own where that failed.
    `more_blocks` is how many further blocks on each side would settle it, None where nobody can
    tell. `cases` is above 1 if the verdict is for this many cases together: of `case` it then has
    what they share, and None for what they do not. `machines` is how many machines' changes were
    compared; 0 where blocks were. What is not known is NaN.
    """

    backend: str
    label: str
    case: Mapping[str, Any]
    kind: Kind
    measure: str = "time"
    base: float = math.nan
    new: float = math.nan
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan
    df: float = math.nan
    effort_low: float = math.nan
    effort_high: float = math.nan
    margin: float = math.nan
    margin_from: str = ""
    p: float = math.nan
    q: float = math.nan
    base_blocks: int = 0
    new_blocks: int = 0
    reason: str = ""
    status: str = ""
    more_blocks: int | None = None
    cases: int = 1
    machines: int = 0

    @property
    def lacks_blocks(self) -> bool:
        """Whether there are too few blocks to compare anything."""
        return math.isnan(self.ratio) and self.more_blocks is not None


# Of the same backend, cases that differ in this alone are the same work at another precision.
PRECISION = ("dtype", "precision", "autocast")
# What a margin may come from, and how that is told.
MARGINS = {
    "asked": "as asked for",
    "noise": "this machine's own noise for the case",
    "floor": "the absolute floor",
    "memory": "as asked for memory",
}


def judge(
    base: pd.DataFrame,
    new: pd.DataFrame,
    rules: Rules,
    noise: Mapping[Key, float] | None = None,
    differences: Iterable[str] = (),
) -> list[Verdict]:
    """A verdict for every (backend, case) of either Summary, worst first.

    Args:
        noise: this machine's own noise, a ratio less one, by (backend, *case); see `selftest`.
        differences: what differs between the two machines or their settings; with any, no time
            or memory is compared.
    """
    base_rows, new_rows = rows_by_key(base), rows_by_key(new)
    several = are_several(base_rows) or are_several(new_rows)
    apart, precisions = "; ".join(differences), _other_precisions(base_rows, new_rows)
    verdicts: list[Verdict] = []
    pairs: list[Pair] = []
    for key in dict.fromkeys([*base_rows, *new_rows]):
        old, now = base_rows.get(key), new_rows.get(key)
        standing = _standing(key, old, now, apart or precisions.get(key, ""), rules)
        if standing:
            verdicts.append(standing)
        elif old is not None and now is not None:
            pairs.append(pair_up(key, old, now, rules, (noise or {}).get(key, 0.0), several))
            verdicts += _memory(key, old, now, rules)
    together = all_together(pairs, rules, noise or {}, several) if rules.paired else []
    # Few questions, and others than the grid's: each backend's is not paid for by every case.
    verdicts += _judge_times(pairs, rules) + _judge_times(together, rules)
    return sorted(verdicts, key=_badness)


def key_of(verdict: Verdict) -> Key:
    """The (backend, *case) by which `judge` takes noise and finds a row."""
    return (verdict.backend, *(verdict.case[name] for name in CASE_COLUMNS))


def rows_by_key(summary: pd.DataFrame) -> dict[Key, dict[str, Any]]:
    """What a verdict needs of a Summary's rows, by (backend, *case)."""
    rows = plain_rows(summary[list(_NEEDED)])
    return {(row["backend"], *(row[name] for name in CASE_COLUMNS)): row for row in rows}


_NEEDED = (
    *("backend", "label", *CASE_COLUMNS, "status", "reason", "marked_share", "median_ns"),
    *("block_ids", "block_medians_ns", "block_efforts", "block_turns_ns", "block_machines"),
    *("peak_bytes", "peak_bytes_low", "saved_bytes", "saved_bytes_low"),
)


def _badness(verdict: Verdict) -> tuple[int, float, str, str]:
    size = 1.0 if math.isnan(verdict.ratio) else verdict.ratio
    place = list(Kind).index(verdict.kind)
    return place, -size, verdict.backend, verdict.label


def _named(key: Key, row: Mapping[str, Any], kind: Kind, **fields: Any) -> Verdict:
    case = dict(zip(CASE_COLUMNS, key[1:], strict=True))
    return Verdict(key[0], row["label"], case, kind, **fields)


def _standing(
    key: Key,
    old: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
    apart: str,
    rules: Rules,
) -> Verdict | None:
    """The verdict of a cell whose times cannot or need not be compared.

    `apart` is why the two sides are not comparable here, empty where they are.
    """
    if now is None:
        assert old is not None
        if apart:
            return _named(key, old, Kind.INCOMPARABLE, reason=apart)
        return _named(key, old, Kind.MISSING, reason="in the baseline, and gone now")
    status, why = now["status"], f"{now['status']}: {now['reason']}"
    if status == "incorrect":
        return _named(key, now, Kind.INCORRECT, reason=now["reason"], status=status)
    if apart:
        return _named(key, now, Kind.INCOMPARABLE, reason=apart, status=status)
    if old is None:
        return _named(key, now, Kind.NEW, reason="not in the baseline", status=status)
    if status != "ok":
        if old["status"] == "ok":
            return _named(key, now, Kind.MISSING, reason=f"now {why}", status=status)
        return _named(key, now, Kind.SKIPPED, reason=why, status=status)
    if old["status"] != "ok":
        reason = f"in the baseline {old['status']}: {old['reason']}"
        if rules.paired and old["status"] in FAILED_MEASURING:
            return _named(key, now, Kind.INCONCLUSIVE, reason=reason, status=old["status"])
        return _named(key, now, Kind.NEW, reason=reason, status=status)
    return None


def _other_precisions(base_keys: Collection[Key], new_keys: Collection[Key]) -> dict[Key, str]:
    """What differs, for each cell that either side has at one precision, and not at the same one.

    With more precisions on a side, what was dropped is missing, and what was added is new.
    """
    there, here = _by_work(base_keys), _by_work(new_keys)
    differing: dict[Key, str] = {}
    for work in there.keys() & here.keys():
        if len(there[work]) != 1 or len(here[work]) != 1 or there[work] == here[work]:
            continue
        (gone,), (came,) = there[work], here[work]
        old, now = (dict(zip(CASE_COLUMNS, key[1:], strict=True)) for key in (gone, came))
        differ = [name for name in PRECISION if old[name] != now[name]]
        text = ", ".join(
            f"{name} {old[name]} in the base, {now[name]} in the new" for name in differ
        )
        differing |= {gone: text, came: text}
    return differing


def _by_work(keys: Iterable[Key]) -> dict[Key, list[Key]]:
    """Cells by what they are less their precision."""
    by_work: dict[Key, list[Key]] = {}
    for key in keys:
        by_work.setdefault(_work(key), []).append(key)
    return by_work


def _work(key: Key) -> Key:
    fields = zip(CASE_COLUMNS, key[1:], strict=True)
    return (key[0], *(value for name, value in fields if name not in PRECISION))


def _memory(
    key: Key, old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules
) -> list[Verdict]:
    """Verdicts of the memory that is known on both sides; none where it is the same.

    It differs where all blocks of one side are beyond all of the other's by more than the margin.
    A CPU's peak depends on when threads free memory, and so gets the margin of times where that is
    the larger one.
    """
    verdicts = []
    for measure in ("peak_bytes", "saved_bytes"):
        before, after = _range(old, measure), _range(now, measure)
        if math.isnan(before[1]) or math.isnan(after[1]):
            continue
        margin, source = rules.memory_margin, "memory"
        if measure == "peak_bytes" and old["device"] == "cpu" and rules.margin > margin:
            margin, source = rules.margin, "asked"
        larger = after[0] > before[1] + _room(before[1], margin, rules)
        smaller = before[0] > after[1] + _room(after[1], margin, rules)
        if not larger and not smaller:
            continue
        figures: dict[str, Any] = {"base": before[1], "new": after[1], "measure": measure}
        figures |= {"ratio": _over(after[1], before[1]), "low": _over(after[0], before[1])}
        figures |= {"high": _over(after[1], before[0]), "margin": margin}
        figures |= {"margin_from": source, "status": now["status"]}
        kind = Kind.REGRESSION if larger else Kind.IMPROVEMENT
        verdicts.append(_named(key, now, kind, **figures))
    return verdicts


def _room(size: float, margin: float, rules: Rules) -> float:
    """How many bytes more than a size are the same; none where the margin is 0."""
    return max(margin * size, rules.memory_floor_bytes) if margin else 0.0


def _range(row: Mapping[str, Any], measure: str) -> tuple[float, float]:
    """The least and the most over the blocks that measured it."""
    low, high = row[f"{measure}_low"], row[measure]
    return (high if math.isnan(low) else low), high


def _over(after: float, before: float) -> float:
    return after / before if before else math.inf


def _judge_times(pairs: list[Pair], rules: Rules) -> list[Verdict]:
    """Both one-sided tests of every pair without a doubt, each corrected over the whole grid."""
    tested = [(pair, pair.compared) for pair in pairs if pair.compared and not pair.doubt]
    tests: dict[bool, dict[Key, tuple[float, float]]] = {}
    for slower in (True, False):
        p_values = [compared.p_beyond(pair.edge, slower) for pair, compared in tested]
        both = zip(tested, p_values, _adjusted(p_values), strict=True)
        tests[slower] = {pair.key: (p, q) for (pair, _), p, q in both}
    return [
        replace(_time_verdict(pair, tests, len(tested), rules), cases=pair.cases) for pair in pairs
    ]


def _adjusted(p_values: list[float]) -> list[float]:
    if not p_values:
        return []
    # Half a second, which a report without a comparison does without.
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(p_values)]


def _time_verdict(
    pair: Pair,
    tests: Mapping[bool, Mapping[Key, tuple[float, float]]],
    tested: int,
    rules: Rules,
) -> Verdict:
    figures: dict[str, Any] = {
        "base": pair.old["median_ns"],
        "new": pair.now["median_ns"],
        "margin": pair.margin,
        "margin_from": pair.margin_from,
        "base_blocks": pair.blocks[0],
        "new_blocks": pair.blocks[1],
        "status": pair.now["status"],
    }
    compared, edge = pair.compared, pair.edge
    if compared is None:
        figures |= {"reason": pair.doubt, "more_blocks": pair.lacks_blocks}
        return _named(pair.key, pair.now, Kind.INCONCLUSIVE, **figures)
    low, high = compared.interval()
    figures |= {"base": exp(compared.base), "new": exp(compared.base + compared.d)}
    figures |= {"ratio": exp(compared.d), "low": exp(low), "high": exp(high)}
    figures |= {"se": compared.se, "df": compared.df, "machines": compared.machines}
    if pair.effort:
        effort = pair.effort.interval()
        figures |= {"effort_low": exp(effort[0]), "effort_high": exp(effort[1])}
    if pair.doubt:
        return _named(pair.key, pair.now, Kind.INCONCLUSIVE, reason=pair.doubt, **figures)
    slower = compared.d > 0
    p, q = tests[slower][pair.key]
    figures |= {"p": p, "q": q}
    if q <= rules.q and abs(compared.d) > edge:
        return _named(
            pair.key, pair.now, Kind.REGRESSION if slower else Kind.IMPROVEMENT, **figures
        )
    if compared.inside(edge):
        if pair.margin_from == "noise" and not compared.inside(math.log1p(rules.margin)):
            figures["reason"] = f"this machine's own noise for the case is {pair.margin:.1%}"
        return _named(pair.key, pair.now, Kind.SAME, **figures)
    # The part of q that p is, which the correction over the grid takes.
    level = rules.q * (p / q if q else 1.0) / 2
    more = compared.more_blocks(edge, level)
    figures |= {"reason": _why_unclear(figures, edge, tested, more), "more_blocks": more}
    return _named(pair.key, pair.now, Kind.INCONCLUSIVE, **figures)


def _why_unclear(figures: Mapping[str, Any], edge: float, tested: int, more: int | None) -> str:
    low, high = figures["low"], figures["high"]
    blocks = min(figures["base_blocks"], figures["new_blocks"])
    if low > math.exp(edge) or high < math.exp(-edge):
        said = f"beyond the margin by itself, not proven among {tested} cases: q {figures['q']:.2g}"
    elif figures["machines"]:
        return f"too noisy for {figures['machines']} machines of {blocks} blocks"
    else:
        said = f"too noisy for {blocks} blocks"
    if figures["machines"]:
        return said
    if more is None:
        return f"{said}; {MOST_MORE_BLOCKS} more on each side would not tell either"
    return f"{said}; about {more} more on each side would tell"
