"""A comparison as Markdown: a pull-request comment, or a job's summary; never more than a page.

Every name and reason is hostile until escaped: it stays in its cell, makes no link, no tag and no
mention.
"""

import string

from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Kind, Verdict

MOST_ROWS = 30
MOST_NOTES = 8
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
# A word joiner after it, and nobody is called.
_MENTION = {"@": "\\@\u2060"}
_ESCAPED = {char: f"\\{char}" for char in string.punctuation} | _HTML | _MENTION
_PAINLESS = {Kind.SAME, Kind.SKIPPED}


def text(comparison: Comparison) -> str:
    """The comment, under 60 lines whatever was compared."""
    base, new = (_code(side.name) for side in (comparison.base, comparison.new))
    parts = [
        f"### lstm-bench: {words.headline(comparison)}",
        "",
        f"{new} against {base}: {_escape(words.counted(comparison), 400)}.",
    ]
    parts += _listed("Not comparable", comparison.differences)
    parts += _table([v for v in comparison.verdicts if v.kind not in _PAINLESS])
    parts += _listed("Notes", comparison.notes)
    parts += ["", f"<sub>{_escape(words.rule(comparison), 400)}</sub>"]
    return "\n".join(parts) + "\n"


def _table(verdicts: list[Verdict]) -> list[str]:
    if not verdicts:
        return []
    gathered = words.gathered(verdicts)
    shown = gathered[:MOST_ROWS]
    rows = [
        "",
        "| verdict | backend | case | | base | new | change | why |",
        "|---|---|---|---|---:|---:|---|---|",
    ]
    rows += ["| " + " | ".join(_cells(*each)) + " |" for each in shown]
    if len(gathered) > len(shown):
        rows += ["", f"and {len(gathered) - len(shown):,} more."]
    return rows


def _cells(verdict: Verdict, label: str) -> list[str]:
    return [
        f"**{verdict.kind}**",
        _code(verdict.backend),
        _code(label),
        words.MEASURES[verdict.measure],
        words.figure(verdict, verdict.base),
        words.figure(verdict, verdict.new),
        words.change(verdict),
        _escape(verdict.reason, 160) if verdict.reason else "",
    ]


def _listed(title: str, lines: tuple[str, ...]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {_escape(line, 200)}" for line in lines[:MOST_NOTES]]
    left = [f"- and {len(lines) - MOST_NOTES:,} more"] if len(lines) > MOST_NOTES else []
    return ["", f"{title}:", "", *shown, *left]


def _code(name: str) -> str:
    return f"<code>{_escape(name, 60)}</code>"


def _escape(text: str, limit: int) -> str:
    return "".join(_ESCAPED.get(char, char) for char in words.plain(text, limit))
