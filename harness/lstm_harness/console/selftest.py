"""What `selftest` prints: a case's noise, and from which slowdown on it can be told."""

from collections.abc import Sequence

from rich.text import Text

from lstm_harness.ab.selftest import CaseNoise
from lstm_harness.console import output
from lstm_harness.judge.verdict import Verdict


def noise(cases: Sequence[CaseNoise], alarms: Sequence[Verdict]) -> None:
    """What A differs from A by, case by case, and what that lets one see."""
    table = output.empty_table(
        "backend", "case", "A against A", "blocks", "a slowdown is found from"
    )
    for case in cases:
        verdict = case.verdict
        ratio = f"{verdict.ratio:.3f} ({verdict.low:.3f} to {verdict.high:.3f})"
        least = f"{case.resolvable:.1%}"
        table.add_row(
            Text(verdict.backend), Text(verdict.label), ratio, str(verdict.new_blocks), least
        )
    output.print_table(table)
    for verdict in alarms:
        what = f"{verdict.kind} of {verdict.measure}"
        output.line(f"FALSE ALARM: {verdict.backend} on {verdict.label}: {what}")
    output.line(f"{len(alarms)} false alarms in {len(cases)} cases")
