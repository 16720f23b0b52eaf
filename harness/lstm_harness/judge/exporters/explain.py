"""The numbers behind a verdict, as one would check them by hand."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lstm_harness.judge.comparison import Comparison, name_of
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import MARGINS, Verdict, key_of, rows_by_key
from lstm_harness.model.errors import UserError

Row = Mapping[str, Any]


def lines(comparison: Comparison, text: str) -> Iterator[str]:
    """Every verdict of whose name each word of a text is one, explained.

    Raises:
        UserError: there is none.
    """
    wanted = [v for v in comparison.verdicts if _words(text) <= _words(name_of(v))]
    if not wanted:
        names = [words.plain(name) for name in dict.fromkeys(map(name_of, comparison.verdicts))]
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise UserError(f"--explain {text[:60]!r} is in no case's name; cases: {some or 'none'}")
    old, now = rows_by_key(comparison.base.summary), rows_by_key(comparison.new.summary)
    for verdict in wanted:
        key = key_of(verdict)
        yield from _explain(comparison, verdict, old.get(key), now.get(key))


def _words(name: str) -> set[str]:
    """A backend's name, a case's sizes, as in `aten/lstm T128 B1 H64 float32 forward`."""
    return set(name.lower().replace("/", " ").split())


def _explain(
    comparison: Comparison, verdict: Verdict, old: Row | None, now: Row | None
) -> Iterator[str]:
    measure = words.MEASURES[verdict.measure]
    yield f"{words.plain(name_of(verdict), 160)}, {measure}: {verdict.kind}"
    if verdict.reason:
        yield f"  because: {words.plain(verdict.reason, 400)}"
    for side, row in (("base", old), ("new", now)) if verdict.cases == 1 else ():
        yield from (f"  {side}: {said}" for said in _side(row))
    if verdict.cases == 1 and all(row and any(row["block_turns_ns"]) for row in (old, now)):
        yield "  sampled in turn: a block's ratio is of the samples of each turn, not of medians"
    if verdict.cases > 1:
        yield f"  the geometric mean of {verdict.cases:,} cases in each block"
    if math.isnan(verdict.ratio):
        return
    yield f"  {measure}: {words.figure(verdict, verdict.base)} to " + (
        f"{words.figure(verdict, verdict.new)}, {words.change(verdict)}"
    )
    if verdict.measure == "time":
        yield from (f"  {said}" for said in _test(comparison, verdict))


def _side(row: Row | None) -> Iterator[str]:
    if row is None:
        yield "not there"
        return
    if row["status"] != "ok":
        yield f"{row['status']}: {words.plain(row['reason'], 400)}"
        return
    times = [words.duration(time) for time in row["block_medians_ns"]]
    yield f"{len(times)} blocks: {', '.join(times)}"
    efforts = [words.duration(effort) for effort in row["block_efforts"] if effort > 0]
    if efforts:
        yield f"CPU time, or clock cycles, of each: {', '.join(efforts)}"
    peak, saved = (_bytes(row[name]) for name in ("peak_bytes", "saved_bytes"))
    share = row["marked_share"]
    marked = "unknown" if math.isnan(share) else words.percent(share)
    yield f"peak {peak}, saved {saved}, samples disturbed or throttled: {marked}"


def _bytes(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:,.0f} B"


def _test(comparison: Comparison, verdict: Verdict) -> Iterator[str]:
    rules = comparison.rules
    d, low, high = (math.log(value) for value in (verdict.ratio, verdict.low, verdict.high))
    how = "paired by block" if rules.paired else "two independent samples"
    how = f"over {verdict.machines} machines, {how}" if verdict.machines else how
    yield f"d = log(new/base) = {d:+.4f}, 95% interval {low:+.4f} to {high:+.4f}, {how}"
    edge = math.log1p(verdict.margin)
    where = MARGINS[verdict.margin_from]
    yield f"margin {words.percent(verdict.margin)}, {where}: |d| up to {edge:.4f} counts as none"
    alike = [v for v in comparison.verdicts if (v.cases > 1) == (verdict.cases > 1)]
    tested = sum(not math.isnan(each.p) for each in alike)
    what = "cases" if verdict.cases == 1 else "backends"
    yield (
        f"one-sided p = {verdict.p:.2g}; over {tested} tested {what} q = {verdict.q:.2g}, "
        f"proven at {rules.q:g} or less"
    )
    if not math.isnan(verdict.effort_low):
        between = f"{words.more(verdict.effort_low)} to {words.more(verdict.effort_high)}"
        yield f"by CPU time, or clock cycles: {between}"
    if verdict.more_blocks is not None:
        yield f"about {verdict.more_blocks} more blocks on each side would tell"
