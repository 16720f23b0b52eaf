"""Was it made slower, or wrong? One pure function from two Summaries to verdicts.

MEASUREMENT.md, section 4. The unit is the block: d = log(new/base) of a block's medians, paired
where both sides were measured in the same blocks, else two independent samples (Welch). A time is
a `REGRESSION` where H0: d <= log(1 + margin) is rejected, one-sided, after Benjamini and Hochberg
over the whole grid; an `IMPROVEMENT` is the mirror; it is the `SAME` where d's 95% interval lies
inside the margin; and `INCONCLUSIVE`, with the reason, where the data do not tell. Memory has no
noise, and is judged exactly.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit
from scipy.stats import false_discovery_control

from lstm_harness.analyse import BLOCKS_FOR_INTERVAL, CASE_COLUMNS, CONFIDENCE, plain_rows


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
class Rules:
    """How to judge.

    `margin` is how much slower is not worth a word, as a share; `floor_ns` is the least difference
    that is; `q` the false discovery rate; `paired` whether block k of one side belongs to block k
    of the other. A side of which more than `most_marked` samples were taken while disturbed or
    throttled proves nothing.
    """

    margin: float = 0.05
    floor_ns: float = 1000.0
    q: float = 0.05
    paired: bool = False
    most_marked: float = 0.5


@dataclass(frozen=True)
class Verdict:
    """One verdict and the numbers behind it.

    `measure` is time, peak_bytes or saved_bytes; `base` and `new` are in ns or bytes. `ratio` is
    new/base with its 95% interval, `margin` the one that was applied, `p` and `q` the one-sided
    test's before and after correction. `more_blocks` is how many further blocks would settle it,
    None where nobody can tell. What is not known is NaN.
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
    margin: float = math.nan
    p: float = math.nan
    q: float = math.nan
    base_blocks: int = 0
    new_blocks: int = 0
    reason: str = ""
    more_blocks: int | None = None


Key = tuple[Any, ...]
# Of the same backend, cases that differ in this alone are the same work at another precision.
PRECISION = ("dtype", "precision")


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
    base_rows, new_rows = _by_key(base), _by_key(new)
    apart = "; ".join(differences)
    found: list[Verdict] = []
    pairs: list[_Pair] = []
    for key in dict.fromkeys([*base_rows, *new_rows]):
        old, now = base_rows.get(key), new_rows.get(key)
        standing = _standing(key, old, now, base_rows, new_rows, apart)
        if standing:
            found.append(standing)
        elif old is not None and now is not None:
            pairs.append(_pair(key, old, now, rules, (noise or {}).get(key, 0.0)))
            found += _memory(key, old, now)
    found += _judge_times(pairs, rules)
    return sorted(found, key=_badness)


def _badness(verdict: Verdict) -> tuple[int, float, str, str]:
    size = verdict.ratio if math.isfinite(verdict.ratio) else 0.0
    place = list(Kind).index(verdict.kind)
    return place, -size, verdict.backend, verdict.label


def _by_key(summary: pd.DataFrame) -> dict[Key, dict[str, Any]]:
    rows = plain_rows(summary)
    return {(row["backend"], *(row[name] for name in CASE_COLUMNS)): row for row in rows}


def _named(key: Key, row: Mapping[str, Any], kind: Kind, **fields: Any) -> Verdict:
    case = dict(zip(CASE_COLUMNS, key[1:], strict=True))
    return Verdict(key[0], row["label"], case, kind, **fields)


def _standing(
    key: Key,
    old: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
    base_rows: Mapping[Key, Any],
    new_rows: Mapping[Key, Any],
    apart: str,
) -> Verdict | None:
    """The verdict of a cell whose times cannot or need not be compared."""
    row = now or old
    assert row is not None
    if now is not None and now["status"] == "incorrect":
        return _named(key, now, Kind.INCORRECT, reason=now["reason"])
    if old is None or now is None:
        elsewhere = _at_another_precision(key, new_rows if now is None else base_rows)
        if elsewhere:
            return _named(key, row, Kind.INCOMPARABLE, reason=elsewhere)
        if now is None:
            return _named(key, row, Kind.MISSING, reason="in the baseline, and gone now")
        return _named(key, row, Kind.NEW, reason="not in the baseline")
    if apart:
        return _named(key, row, Kind.INCOMPARABLE, reason=apart)
    if now["status"] != "ok":
        if old["status"] == "ok":
            return _named(key, row, Kind.MISSING, reason=f"now {now['status']}: {now['reason']}")
        return _named(key, row, Kind.SKIPPED, reason=f"{now['status']}: {now['reason']}")
    if old["status"] != "ok":
        reason = f"in the baseline {old['status']}: {old['reason']}"
        return _named(key, row, Kind.NEW, reason=reason)
    return None


def _at_another_precision(key: Key, others: Mapping[Key, Any]) -> str:
    """What differs from the same work on the other side, where only the precision does."""
    fields = dict(zip(CASE_COLUMNS, key[1:], strict=True))
    rest = {name: value for name, value in fields.items() if name not in PRECISION}
    for other in others:
        theirs = dict(zip(CASE_COLUMNS, other[1:], strict=True))
        if other[0] == key[0] and all(theirs[name] == value for name, value in rest.items()):
            differ = [name for name in PRECISION if theirs[name] != fields[name]]
            return ", ".join(f"{name} {theirs[name]} there, {fields[name]} here" for name in differ)
    return ""


def _memory(key: Key, old: Mapping[str, Any], now: Mapping[str, Any]) -> list[Verdict]:
    """Verdicts of the memory that is known on both sides, exact; none where it is the same."""
    found = []
    for measure in ("peak_bytes", "saved_bytes"):
        before, after = old[measure], now[measure]
        if math.isnan(before) or math.isnan(after) or before == after:
            continue
        kind = Kind.REGRESSION if after > before else Kind.IMPROVEMENT
        ratio = after / before if before else math.inf
        figures = {"base": before, "new": after, "ratio": ratio, "low": ratio, "high": ratio}
        found.append(_named(key, now, kind, measure=measure, margin=0.0, **figures))
    return found


@dataclass(frozen=True)
class _Pair:
    """One cell's two sides. `d` is the mean log ratio, `se` its error; NaN where unknown."""

    key: Key
    old: Mapping[str, Any]
    now: Mapping[str, Any]
    margin: float
    d: float = math.nan
    se: float = math.nan
    df: float = math.nan
    doubt: str = ""
    blocks: tuple[int, int] = (0, 0)
    spread: float = math.nan
    effort: tuple[float, float] | None = field(default=None)


def _pair(
    key: Key, old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules, noise: float
) -> _Pair:
    margin = max(rules.margin, noise, rules.floor_ns / old["median_ns"])
    before = dict(zip(old["block_ids"], old["block_medians_ns"], strict=True))
    after = dict(zip(now["block_ids"], now["block_medians_ns"], strict=True))
    for side, times in (("base", before), ("new", after)):
        wrong = [time for time in times.values() if not (math.isfinite(time) and time > 0)]
        if wrong:
            doubt = f"{wrong[0]} ns is not a time ({side})"
            return _Pair(key, old, now, margin, doubt=doubt)
    compared = _compare(before, after, rules.paired)
    if compared is None:
        shared = "shared " if rules.paired else ""
        least = min(len(before), len(after), *_shared(before, after, rules.paired))
        doubt = f"too few blocks: {least} {shared}of at least {BLOCKS_FOR_INTERVAL}"
        return _Pair(key, old, now, margin, doubt=doubt, blocks=(len(before), len(after)))
    d, se, df, blocks = compared
    spread = se * math.sqrt(min(blocks))
    effort = _effort(old, now, rules)
    doubt = _disturbed(old, now, rules)
    return _Pair(key, old, now, margin, d, se, df, doubt, blocks, spread, effort)


def _shared(before: Mapping[int, float], after: Mapping[int, float], paired: bool) -> tuple[int]:
    return (len(before.keys() & after.keys()) if paired else len(before),)


def _compare(
    before: Mapping[int, float], after: Mapping[int, float], paired: bool
) -> tuple[float, float, float, tuple[int, int]] | None:
    """Mean log ratio, its standard error, degrees of freedom, blocks; None with too few blocks."""
    if paired:
        both = sorted(before.keys() & after.keys())
        if len(both) < BLOCKS_FOR_INTERVAL:
            return None
        logs = np.log([after[b] / before[b] for b in both])
        count = len(both)
        se = float(logs.std(ddof=1)) / math.sqrt(count)
        return float(logs.mean()), se, count - 1.0, (count, count)
    sides = [np.log(list(times.values())) for times in (before, after)]
    if min(map(len, sides)) < BLOCKS_FOR_INTERVAL:
        return None
    of_means = [float(logs.var(ddof=1)) / len(logs) for logs in sides]
    total = sum(of_means)
    parts = sum(v**2 / (len(logs) - 1) for v, logs in zip(of_means, sides, strict=True))
    df = total**2 / parts if parts else float(min(map(len, sides)) - 1)
    d = float(sides[1].mean() - sides[0].mean())
    return d, math.sqrt(total), df, (len(sides[0]), len(sides[1]))


def _disturbed(old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules) -> str:
    for side, row in (("base", old), ("new", now)):
        if row["marked_share"] > rules.most_marked:
            return f"{row['marked_share']:.0%} of the samples disturbed or throttled ({side})"
    return ""


def _effort(
    old: Mapping[str, Any], now: Mapping[str, Any], rules: Rules
) -> tuple[float, float] | None:
    """95% interval of the log ratio of the second estimator; None where it is not known."""
    before = dict(zip(old["block_ids"], old["block_efforts"], strict=True))
    after = dict(zip(now["block_ids"], now["block_efforts"], strict=True))
    known = [{b: v for b, v in side.items() if v > 0} for side in (before, after)]
    compared = _compare(known[0], known[1], rules.paired)
    if compared is None:
        return None
    d, se, df, _ = compared
    half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * se
    return d - half, d + half


def _judge_times(pairs: list[_Pair], rules: Rules) -> list[Verdict]:
    tested = [pair for pair in pairs if not math.isnan(pair.d)]
    slower = [_p_above(pair.d - math.log1p(pair.margin), pair) for pair in tested]
    faster = [_p_above(-pair.d - math.log1p(pair.margin), pair) for pair in tested]
    judged = {
        id(pair): (p_slow, q_slow, p_fast, q_fast)
        for pair, p_slow, q_slow, p_fast, q_fast in zip(
            tested, slower, _adjusted(slower), faster, _adjusted(faster), strict=True
        )
    }
    return [_time_verdict(pair, judged.get(id(pair)), rules) for pair in pairs]


def _p_above(distance: float, pair: _Pair) -> float:
    """One-sided p of H0: the true distance is at most 0."""
    if pair.se == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(pair.df, -distance / pair.se))


def _adjusted(p_values: list[float]) -> list[float]:
    return [float(q) for q in false_discovery_control(p_values)] if p_values else []


def _time_verdict(
    pair: _Pair, tests: tuple[float, float, float, float] | None, rules: Rules
) -> Verdict:
    figures: dict[str, Any] = {
        "base": pair.old["median_ns"],
        "new": pair.now["median_ns"],
        "margin": pair.margin,
        "base_blocks": pair.blocks[0],
        "new_blocks": pair.blocks[1],
    }
    if tests is None:
        return _named(pair.key, pair.now, Kind.INCONCLUSIVE, reason=pair.doubt, **figures)
    half = float(stdtrit(pair.df, (1 + CONFIDENCE) / 2)) * pair.se
    low, high = pair.d - half, pair.d + half
    slower = pair.d > 0
    p, q = tests[:2] if slower else tests[2:]
    edge = math.log1p(pair.margin)
    figures |= {"ratio": math.exp(pair.d), "low": math.exp(low), "high": math.exp(high)}
    figures |= {"p": p, "q": q}
    flagged = q <= rules.q and abs(pair.d) > edge
    doubt = pair.doubt
    if flagged and not doubt and pair.effort and _inside(pair.effort, edge):
        doubt = "estimators disagree: CPU time or clock cycles are the same"
    if flagged and not doubt:
        return _named(pair.key, pair.now, _direction(slower), **figures)
    if _inside((low, high), edge) and not doubt:
        return _named(pair.key, pair.now, Kind.SAME, **figures)
    more = _more_blocks(pair, edge)
    reason = doubt or _why_unclear(pair, low, high, more)
    return _named(pair.key, pair.now, Kind.INCONCLUSIVE, reason=reason, more_blocks=more, **figures)


def _direction(slower: bool) -> Kind:
    return Kind.REGRESSION if slower else Kind.IMPROVEMENT


def _inside(interval: tuple[float, float], edge: float) -> bool:
    return -edge < interval[0] and interval[1] < edge


def _why_unclear(pair: _Pair, low: float, high: float, more: int | None) -> str:
    noisy = f"too noisy: {math.exp(low):.2f} to {math.exp(high):.2f} with {min(pair.blocks)} blocks"
    if more is None:
        return f"{noisy}, at the margin of {pair.margin:.1%}"
    return f"{noisy}; about {more} more would tell"


# More than this nobody waits for.
MOST_MORE_BLOCKS = 200


def _more_blocks(pair: _Pair, edge: float) -> int | None:
    """Blocks to add until d's interval would clear the nearest margin, at the spread seen."""
    gap = min(abs(abs(pair.d) - edge), abs(abs(pair.d) + edge))
    if not gap or not pair.spread:
        return None
    have = min(pair.blocks)
    for needed in range(max(have, BLOCKS_FOR_INTERVAL), have + MOST_MORE_BLOCKS):
        t = float(stdtrit(needed - 1, (1 + CONFIDENCE) / 2))
        if t * pair.spread / math.sqrt(needed) < gap:
            return max(1, needed - have)
    return None
