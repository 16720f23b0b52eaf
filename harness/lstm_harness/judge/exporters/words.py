"""Numbers, names and sentences of a comparison, as every form of it says them."""

import math
from collections.abc import Iterable
from typing import Any

from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.verdict import Kind, Verdict
from lstm_harness.model import text
from lstm_harness.model.errors import Exit

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
_FAILED = {
    Kind.REGRESSION: "Regression",
    Kind.MISSING: "Cases are missing",
    Kind.IMPROVEMENT: "Improvement",
}


def headline(comparison: Comparison) -> str:
    """The outcome in a few words."""
    counts, code = comparison.counts(), comparison.exit_code
    if code in _HEADLINES:
        return _HEADLINES[code]
    for kind, said in _FAILED.items():
        if counts[kind] and code == Exit.REGRESSION and kind in comparison.fail_on:
            return said
    if counts[Kind.REGRESSION]:
        return "Regression, and not asked to fail on it"
    if not counts[Kind.INCONCLUSIVE]:
        return "No regression"
    told = counts[Kind.SAME] + counts[Kind.IMPROVEMENT]
    return "No regression proven" if told else "Nothing could be told"


def counted(comparison: Comparison) -> str:
    """How many verdicts of each kind, worst first: `2 slower or larger, 98 the same`."""
    parts = [f"{n:,} {COUNTED[kind]}" for kind, n in comparison.counts().items() if n]
    return ", ".join(parts) or "no case on either side"


def rule(comparison: Comparison) -> str:
    """What was asked of a difference."""
    rules = comparison.rules
    how = "paired blocks" if rules.paired else "blocks of two runs"
    return (
        f"margin {percent(rules.margin)} or this machine's own noise, and {rules.floor_ns:g} ns at "
        f"least; {how}, one-sided t-test, false discovery rate {percent(rules.q)}; a time is the "
        "geometric mean over blocks, and its change has a 95% interval"
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


def more(ratio: float) -> str:
    """A ratio as a signed percentage; as a factor from 3 on."""
    if not math.isfinite(ratio):
        return "beyond all bounds"
    return f"{ratio:.3g}x" if ratio >= _FACTOR else f"{100 * (ratio - 1):+.1f}%"


_FACTOR = 3.0


def case(verdict: Verdict, limit: int = 80) -> str:
    """What a verdict is of."""
    together = f"all {verdict.cases:,} cases together"
    return plain(verdict.label, limit) if verdict.cases == 1 else together


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
