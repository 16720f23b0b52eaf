"""A comparison for a terminal: worst first, then what it comes to."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstm_harness.console import output
from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Kind, Verdict

# With more verdicts than a screen holds, those that say that nothing changed are only counted.
ALL_UP_TO = 30
# A line a case where there is no terminal to fit.
_WIDE = 160
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
    out = output.out if output.out.is_terminal else Console(width=_WIDE)
    base, new = (words.plain(side.name) for side in (comparison.base, comparison.new))
    for difference in comparison.differences:
        output.warning(words.plain(f"not comparable: {difference}", 200))
    for note in comparison.notes:
        output.warning(words.plain(note, 200))
    listed = _listed(comparison)
    if listed:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("verdict", "backend", "case", "measure", "base", "new", "change", "why"):
            table.add_column(column, overflow="fold")
        for verdict, label in words.gathered(listed):
            table.add_row(*_row(verdict, label))
        out.print(table)
    left = len(comparison.verdicts) - len(listed)
    unlisted = f" ({left:,} of them not listed)" if left else ""
    out.print(Text(f"{new} against {base}: {words.counted(comparison)}{unlisted}"), soft_wrap=True)
    out.print(Text(words.rule(comparison), style="dim"), soft_wrap=True)
    out.print(Text(words.headline(comparison), style="bold"), soft_wrap=True)


def _listed(comparison: Comparison) -> list[Verdict]:
    if len(comparison.verdicts) <= ALL_UP_TO:
        return list(comparison.verdicts)
    return [verdict for verdict in comparison.verdicts if verdict.kind != Kind.SAME]


def _row(verdict: Verdict, label: str) -> list[Text]:
    return [
        Text(verdict.kind, style=_STYLES.get(verdict.kind, "")),
        *(
            Text(text)
            for text in (
                words.plain(verdict.backend),
                words.plain(label),
                words.MEASURES[verdict.measure],
                words.figure(verdict, verdict.base),
                words.figure(verdict, verdict.new),
                words.change(verdict),
                words.plain(verdict.reason, 160) if verdict.reason else "",
            )
        ),
    ]
