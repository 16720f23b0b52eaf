"""Numbers, names and sentences of a comparison, as every form of it says them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lstm_harness.judge.by_backend import BackendVerdicts
from lstm_harness.judge.comparison import Comparison, tells_no_time
from lstm_harness.judge.resolution import MOST_BLOCKS, POWER, Resolution
from lstm_harness.judge.verdict import Kind, Verdict
from lstm_harness.model import text
from lstm_harness.model.errors import Exit
from lstm_harness.model.record import FAILED_MEASURING

MEASURES = {"time": "time", "peak_bytes": "peak memory", "saved_bytes": "saved for backward"}
COUNTED = {
    Kind.INCORRECT: "incorrect",
    Kind.MISSING: "missing",
    Kind.REGRESSION: "slower or larger",
    Kind.INCOMPARABLE: "not comparable",
    Kind.INCONCLUSIVE: "inconclusive",
    Kind.IMPROVEMENT: "faster or smaller",
    Kind.NEW: "new",
    Kind.SKIPPED: "skipped",
    Kind.SAME: "the same",
}
_HEADLINES = {
    Exit.INCORRECT: "A result is wrong",
    Exit.MEASURING_FAILED: "Measuring failed",
    Exit.NOT_COMPARABLE: "Not comparable",
    Exit.INCONCLUSIVE: "Inconclusive",
}
# Kinds whose cases are listed one by one; of the others how many there are says enough.
LISTED = frozenset(
    {Kind.INCORRECT, Kind.MISSING, Kind.REGRESSION, Kind.INCOMPARABLE, Kind.IMPROVEMENT}
)
_FAILED = {
    Kind.REGRESSION: "Regression",
    Kind.MISSING: "Cases are missing",
    Kind.IMPROVEMENT: "Improvement",
}


def headline(comparison: Comparison) -> str:
    """The outcome in a few words."""
    counts, code = comparison.counts(), comparison.exit_code
    if code == Exit.INCONCLUSIVE and tells_no_time(comparison.verdicts):
        return "Nothing could be told"
    if code in _HEADLINES:
        return _HEADLINES[code]
    for kind, said in _FAILED.items():
        if counts[kind] and code == Exit.REGRESSION and kind in comparison.fail_on:
            return said
    if counts[Kind.REGRESSION]:
        return "Regression, and not asked to fail on it"
    return "No regression proven" if counts[Kind.INCONCLUSIVE] else "No regression"


def advice(comparison: Comparison, backends: Sequence[BackendVerdicts]) -> str:
    """What to do about a gate that could tell no time; empty where it told one."""
    if comparison.exit_code != Exit.INCONCLUSIVE or not tells_no_time(comparison.verdicts):
        return ""
    seen = [each.resolution for each in backends if each.resolution]
    wanted = [one.wants for one in seen if one.wants]
    ways = [f"take {max(wanted)} blocks"] if wanted else [] if seen else ["take more blocks"]
    ways += [] if comparison.rules.paired else ["use lstm-bench ab"]
    *others, last = [*ways, "find a quieter machine"]
    said = f"{', '.join(others)} or {last}" if others else last
    return f"to see {percent(comparison.rules.margin)} here: {said}"


def counted(comparison: Comparison) -> str:
    """How many verdicts of each kind, worst first: `2 slower or larger, 98 the same`."""
    return counts_told(comparison.counts()) or "no case on either side"


def counts_told(counts: Mapping[Kind, int]) -> str:
    """The same of some counts; empty where there is nothing."""
    return ", ".join(f"{counts[kind]:,} {COUNTED[kind]}" for kind in Kind if counts[kind])


def sees(of: BackendVerdicts) -> str:
    """What this gate can see of a backend's inconclusive cases: `12% or more; 5% with 20 blocks`.

    Where nobody can tell, the reason that most of them have; empty where there are none.
    """
    if not of.undecided:
        return ""
    if of.resolution:
        return _seen(of.resolution)
    reasons = Counter(verdict.reason for verdict in of.undecided)
    return plain(reasons.most_common(1)[0][0], 160)


def _seen(seen: Resolution) -> str:
    margin = percent(seen.margin)
    said = [f"{_rough(seen.slowdown)} or more" if math.isfinite(seen.slowdown) else "nothing yet"]
    if seen.wants:
        said.append(f"{seen.wants} blocks would see {margin}")
    elif seen.blocks is None and not seen.machines:
        said.append(f"not {margin} in {MOST_BLOCKS} blocks")
    return "; ".join(said)


def _rough(share: float) -> str:
    return f"{100 * share:,.0f}%" if share >= _ROUND else percent(share)


_ROUND = 0.1
SEES = f"this gate sees, with {100 * POWER:g}% power"


def together(verdict: Verdict) -> str:
    """The verdict on all cases of a backend: `SAME +0.3% (-1.2% to +1.9%)`."""
    return f"{verdict.kind} {change(verdict)}".rstrip()


def listed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts on single cases that a reader wants to see one by one."""
    return [
        verdict
        for verdict in verdicts
        if verdict.cases == 1 and (verdict.kind in LISTED or verdict.status in FAILED_MEASURING)
    ]


def rule(comparison: Comparison) -> str:
    """What was asked of a difference."""
    rules = comparison.rules
    how = "paired blocks" if rules.paired else "blocks of two runs"
    memory = f"{percent(rules.memory_margin)}, at least {rules.memory_floor_bytes / 1024:g} KiB"
    return (
        f"margin {percent(rules.margin)} or this machine's own noise, at least "
        f"{duration(rules.floor_ns)}; memory {memory if rules.memory_margin else 'exact'}; {how}, "
        f"one-sided t-test, false discovery rate {percent(rules.q)}; 95% intervals"
    )


def percent(share: float) -> str:
    """A share, with a decimal only where it has one."""
    return f"{100 * share:.3g}%"


def figure(verdict: Verdict, value: float) -> str:
    """A time, or memory to the byte; empty where it is not known."""
    if not math.isfinite(value):
        return ""
    if verdict.measure != "time":
        return f"{value:,.0f} B"
    return duration(value)


def duration(time_ns: float) -> str:
    """A time with enough digits to see a percent."""
    return text.duration(time_ns, digits=4, zeros=False)


def change(verdict: Verdict) -> str:
    """How much more than the base: `+10.2% (+8.9% to +11.6%)`; empty where it is not known."""
    if math.isnan(verdict.ratio):
        return ""
    if verdict.measure != "time":
        return f"{more(verdict.ratio)} ({verdict.new - verdict.base:+,.0f} B)"
    return f"{more(verdict.ratio)} ({more(verdict.low)} to {more(verdict.high)})"


def told(verdict: Verdict) -> str:
    """All there is to say of a verdict: `1 ms to 1.1 ms, +10.2% (+8.9% to +11.6%)`, the reason."""
    figures = [figure(verdict, value) for value in (verdict.base, verdict.new)]
    said = f"{' to '.join(figures)}, {change(verdict)}".rstrip(" ,") if all(figures) else ""
    reason = plain(verdict.reason, 160) if verdict.reason else ""
    return "; ".join(part for part in (said, reason) if part)


def more(ratio: float) -> str:
    """A ratio as a signed percentage; as a factor from 3 on."""
    if not math.isfinite(ratio):
        return "beyond all bounds"
    return f"{ratio:.3g}x" if ratio >= _FACTOR else f"{100 * (ratio - 1):+.1f}%"


_FACTOR = 3.0


def case(verdict: Verdict, limit: int = 80) -> str:
    """What a verdict is of."""
    if verdict.cases > 1:
        return f"all {verdict.cases:,} cases together"
    return plain(verdict.label, limit)


def gathered(verdicts: Iterable[Verdict]) -> list[tuple[Verdict, str]]:
    """Verdicts and the case each is of; those of one backend with one reason and no figures as one.

    A backend that vanished must not hide, behind a row for each of its cases, what else is wrong.
    """
    groups: dict[tuple[Any, ...], list[Verdict]] = {}
    for place, verdict in enumerate(verdicts):
        known = not all(map(math.isnan, (verdict.ratio, verdict.base, verdict.new)))
        own = place if known else (verdict.kind, verdict.backend, verdict.measure, verdict.reason)
        groups.setdefault((own,), []).append(verdict)
    return [
        (group[0], case(group[0]) if len(group) == 1 else f"{len(group):,} cases")
        for group in groups.values()
    ]


def plain(name: str, limit: int = 80) -> str:
    """A name or reason on one line, short, and unable to turn the text around it."""
    return text.shorten(name, limit)
