"""What `selftest` prints: a case's noise, and the slowdown that can be seen above it."""

from collections.abc import Sequence

from rich.text import Text

from lstm_harness.ab.selftest import CaseNoise
from lstm_harness.console import output
from lstm_harness.judge.verdict import Verdict
from lstm_harness.model import text


def noise(cases: Sequence[CaseNoise], alarms: Sequence[Verdict]) -> None:
    """How much A differs from A, case by case, and the slowdown that is found with 95% power."""
    table = output.empty_table("backend", "case", "A against A", "blocks", "sees, 95% power")
    for case in cases:
        verdict = case.verdict
        ratio = f"{verdict.ratio:.3f} ({verdict.low:.3f} to {verdict.high:.3f})"
        least = f"{case.resolvable:.1%} or more"
        table.add_row(
            Text(verdict.backend), Text(verdict.label), ratio, str(verdict.new_blocks), least
        )
    output.print_table(table)
    for verdict in alarms:
        what = f"{verdict.kind} of {verdict.measure}"
        output.line(f"FALSE ALARM: {verdict.backend} on {verdict.label}: {what}")
    output.line(f"{text.count(len(alarms), 'false alarm')} in {text.count(len(cases), 'case')}")
