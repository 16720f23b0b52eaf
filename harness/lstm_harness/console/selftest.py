"""What `selftest` prints: a case's noise, and from which slowdown on it can be told."""

from collections.abc import Sequence

from rich.text import Text

from lstm_harness.ab.selftest import CaseNoise
from lstm_harness.console import output
from lstm_harness.judge.verdict import Verdict


def noise(cases: Sequence[CaseNoise], alarms: Sequence[Verdict]) -> None:
    """How much A differs from A, case by case, and the change that would be seen."""
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
    output.out.print(table)
    for verdict in alarms:
        what = f"{verdict.kind} of {verdict.measure}"
        output.out.print(
            Text(f"FALSE ALARM: {verdict.backend} on {verdict.label}: {what}"), soft_wrap=True
        )
    output.out.print(f"{len(alarms)} false alarms in {len(cases)} cases")
