"""A comparison for a terminal: backend by backend, then the cases that matter, then the outcome."""

from rich.table import Table
from rich.text import Text

from lstm_harness.console import output
from lstm_harness.judge.by_backend import BackendVerdicts, by_backend
from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Kind, Verdict

# As many cases as a screen holds.
MOST_CASES = 30
_STYLES = {
    Kind.INCORRECT: "bold red",
    Kind.MISSING: "red",
    Kind.REGRESSION: "red",
    Kind.INCOMPARABLE: "yellow",
    Kind.INCONCLUSIVE: "yellow",
    Kind.IMPROVEMENT: "green",
}


def write(comparison: Comparison) -> None:
    """Print the verdicts on stdout, and on stderr what a reader must know of the two sides."""
    for difference in comparison.differences:
        output.warning(words.plain(f"not comparable: {difference}", 200))
    for note in comparison.notes:
        output.warning(words.plain(note, 200))
    backends = by_backend(comparison)
    if backends:
        output.print_table(_backends(backends, comparison.rules.paired))
    _write_cases(words.gathered(words.listed(comparison.verdicts)))
    base, new = (words.plain(side.name) for side in (comparison.base, comparison.new))
    output.line(f"{new} against {base}: {words.counted(comparison)}")
    advice = words.advice(comparison, backends)
    output.line(advice or words.rule(comparison), style="" if advice else "dim")
    output.line(words.headline(comparison), style="bold")


def _backends(backends: list[BackendVerdicts], paired: bool) -> Table:
    """Every backend in a line, the one with the worst verdict first."""
    undecided = any(each.undecided for each in backends)
    table = output.empty_table(
        "backend",
        *(["all cases together"] if paired else []),
        "cases",
        *([words.SEES] if undecided else []),
    )
    for each in backends:
        table.add_row(
            Text(words.plain(each.backend)),
            *([_together(each.together)] if paired else []),
            Text(words.counts_told(each.counts)),
            *([Text(words.sees(each))] if undecided else []),
        )
    return table


def _together(verdict: Verdict | None) -> Text:
    if verdict is None:
        return Text("")
    return Text(words.together(verdict), style=_STYLES.get(verdict.kind, ""))


def _write_cases(gathered: list[tuple[Verdict, str]]) -> None:
    if not gathered:
        return
    table = output.empty_table("verdict", "backend", "case", "change")
    for verdict, label in gathered[:MOST_CASES]:
        kind = Text(verdict.kind, style=_STYLES.get(verdict.kind, ""))
        table.add_row(kind, *map(Text, _cells(verdict, label)))
    output.line("")
    output.print_table(table)
    more = len(gathered) - MOST_CASES
    if more > 0:
        output.line(f"and {more:,} more; --json lists all")


def _cells(verdict: Verdict, label: str) -> tuple[str, str, str]:
    measure = "" if verdict.measure == "time" else f", {words.MEASURES[verdict.measure]}"
    return words.plain(verdict.backend), words.plain(label) + measure, words.told(verdict)
