"""A comparison as Markdown: a pull-request comment, or a job's summary; never more than a page.

Every name and reason is hostile until escaped: it stays in its cell, makes no link, no tag and no
mention.
"""

import string
from collections.abc import Sequence

from lstm_harness.judge.by_backend import BackendVerdicts, by_backend
from lstm_harness.judge.comparison import Comparison
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import Verdict

MOST_LINES = 58
MOST_BACKENDS = 12
MOST_ROWS = 30
MOST_NOTES = 6
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
# A word joiner after it, and nobody is called.
_MENTION = {"@": "\\@\u2060"}
_ESCAPED = {char: f"\\{char}" for char in string.punctuation} | _HTML | _MENTION


def text(comparison: Comparison) -> str:
    """The comment, under 60 lines whatever was compared: backends first, then cases."""
    backends = by_backend(comparison)
    base, new = (_code(side.name) for side in (comparison.base, comparison.new))
    above = [
        f"### lstm-bench: {words.headline(comparison)}",
        "",
        f"{new} against {base}: {_escape(words.counted(comparison), 400)}.",
    ]
    advice = words.advice(comparison, backends)
    above += ["", f"{_escape(advice[0].upper() + advice[1:], 400)}."] if advice else []
    above += _listed("Not comparable", comparison.differences)
    above += _backends(backends, comparison.rules.paired)
    below = _listed("Notes", comparison.notes)
    below += ["", f"<sub>{_escape(words.rule(comparison), 400)}</sub>"]
    cases = words.gathered(words.listed(comparison.verdicts))
    return "\n".join([*above, *_cases(cases, MOST_LINES - len(above) - len(below)), *below]) + "\n"


def _backends(backends: Sequence[BackendVerdicts], paired: bool) -> list[str]:
    titles = ["backend", "all cases together"] if paired else ["backend"]
    undecided = any(each.undecided for each in backends)
    titles += ["cases", words.SEES] if undecided else ["cases"]
    rows = []
    for each in backends:
        cells = [_code(each.backend)]
        if paired:
            cells.append(words.together(each.together) if each.together else "")
        cells.append(words.counts_told(each.counts))
        if undecided:
            cells.append(_escape(words.sees(each), 160) if each.undecided else "")
        rows.append(cells)
    return _table(titles, rows, MOST_BACKENDS)


def _cases(gathered: Sequence[tuple[Verdict, str]], most_lines: int) -> list[str]:
    # A blank line, the titles, the rule under them, and what says that there are more.
    most = min(MOST_ROWS, most_lines - 5)
    rows = [
        [
            f"**{verdict.kind}**",
            _code(verdict.backend),
            _code(label),
            words.MEASURES[verdict.measure],
            words.figure(verdict, verdict.base),
            words.figure(verdict, verdict.new),
            words.change(verdict),
            _escape(verdict.reason, 160) if verdict.reason else "",
        ]
        for verdict, label in gathered
    ]
    return _table(["verdict", "backend", "case", "", "base", "new", "change", "why"], rows, most)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> list[str]:
    if not rows:
        return []
    lines = ["", *map(_row, (titles, ["---"] * len(titles), *rows[:most]))]
    return [*lines, "", f"and {len(rows) - most:,} more."] if len(rows) > most else lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
