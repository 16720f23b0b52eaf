"""What a comparison says: a section of the report of two runs, and a page that needs no script."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lstm_harness.analysis.summary import CASE_COLUMNS
from lstm_harness.judge.by_backend import by_backend
from lstm_harness.judge.comparison import COMPARED, Comparison, Side
from lstm_harness.judge.exporters import words
from lstm_harness.judge.verdict import MARGINS, Kind, Verdict
from lstm_harness.model import text
from lstm_harness.report import assets
from lstm_harness.report.chart import LABELS
from lstm_harness.report.marks import ordered
from lstm_harness.report.templating import fill

# A report shows this many verdicts, worst first; the page of a comparison has them all.
MOST_ROWS = 200
# Further maps are counted and not drawn: a page of hundreds is not read.
MOST_MAPS = 24
# A ratio of this or its inverse fills its square.
FULL_RATIO = 2.0
SHORT = {
    Kind.INCORRECT: "wrong",
    Kind.MISSING: "missing",
    Kind.REGRESSION: "slower",
    Kind.INCOMPARABLE: "not comparable",
    Kind.INCONCLUSIVE: "unclear",
    Kind.IMPROVEMENT: "faster",
    Kind.NEW: "new",
    Kind.SKIPPED: "skipped",
    Kind.SAME: "same",
}
_PLACE = ("seq_len", "batch")


def render(comparison: Comparison, links: Sequence[tuple[str, str]] = (), shared: str = "") -> str:
    """The HTML of a comparison.

    Args:
        links: pages next to this one, by their names and paths.
        shared: where the files are that it shares with other pages; empty for a page of its own.
    """
    return fill(
        "verdicts.html",
        assets=assets.of_page(at=shared),
        links=links,
        **_told(comparison),
        **_listed(comparison, len(comparison.verdicts)),
    )


def section(comparison: Comparison) -> Markup:
    """The section of a report of two runs, base and new, that says what changed."""
    return fill("verdict_section.html", **_told(comparison), **_listed(comparison, MOST_ROWS))


def _told(comparison: Comparison) -> dict[str, Any]:
    """What both forms say in addition to the verdicts."""
    return {
        "headline": words.headline(comparison),
        "counted": words.counted(comparison),
        "rule": words.rule(comparison),
        "sides": [_side("New", comparison.new), _side("Base", comparison.base)],
        "differences": [words.plain(line, 400) for line in comparison.differences],
        "nothing_shared": not any(verdict.kind in COMPARED for verdict in comparison.verdicts),
        "notes": [words.plain(line, 400) for line in comparison.notes],
        "by_backend": _by_backend(comparison),
    }


def _by_backend(comparison: Comparison) -> dict[str, Any]:
    """Every backend in a line, the one with the worst verdict first, as a terminal shows it."""
    backends = by_backend(comparison)
    is_paired = comparison.rules.paired
    undecided = any(each.undecided for each in backends)
    sees = [words.SEES[0].upper() + words.SEES[1:]] if undecided else []
    together = ["All cases together"] if is_paired else []
    rows = [
        (
            words.plain(each.backend),
            [
                *([words.together(each.together) if each.together else ""] if is_paired else []),
                words.counts_told(each.counts),
                *([words.sees(each)] if undecided else []),
            ],
        )
        for each in backends
    ]
    return {"columns": ["Backend", *together, "Cases", *sees], "rows": rows}


def _listed(comparison: Comparison, most: int) -> dict[str, Any]:
    """The table and the maps."""
    verdicts = comparison.verdicts
    drawn = maps(verdicts)
    return {
        "rows": [_row(verdict) for verdict in verdicts[:most]],
        "more_rows": max(0, len(verdicts) - most),
        "maps": drawn[:MOST_MAPS],
        "more_maps": max(0, len(drawn) - MOST_MAPS),
    }


def maps(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Where a backend's times changed: a map over T and B, the one with the worst square first.

    Returns:
        Dicts with `title`, `t` and `b` (the sizes), `rows` [len(t)][len(b)] of squares (None where
        nothing was asked) and `answer`, a sentence. One a backend and combination of what else
        varies; none of cases where no two times were compared.
    """
    timed = [one for one in verdicts if one.measure == "time" and one.cases == 1]
    split = [n for n in CASE_COLUMNS if n not in (*_PLACE, "pass") and _varies(timed, n)]
    groups: dict[tuple[Any, ...], list[Verdict]] = {}
    for one in timed:
        key = one.backend, *(one.case[name] for name in ("pass", *split))
        groups.setdefault(key, []).append(one)
    ladder = ordered(one.backend for one in timed)
    made = [
        (_worst(group), ladder.index(group[0].backend), _map(group, split))
        for group in groups.values()
        if any(one.kind in COMPARED for one in group)
    ]
    return [one for _, _, one in sorted(made, key=lambda each: each[:2])]


def _varies(verdicts: Sequence[Verdict], name: str) -> bool:
    square = name == "input_size" and all(
        one.case["input_size"] == one.case["hidden_size"] for one in verdicts
    )
    return not square and len({one.case[name] for one in verdicts}) > 1


def _worst(group: Sequence[Verdict]) -> tuple[int, float]:
    """Where a map stands: by its worst kind, then by the largest ratio of that kind."""
    kinds = list(Kind)
    return min((kinds.index(one.kind), -_size(one)) for one in group)


def _size(verdict: Verdict) -> float:
    return 0.0 if math.isnan(verdict.ratio) else verdict.ratio


def _map(group: Sequence[Verdict], split: Sequence[str]) -> dict[str, Any]:
    first = group[0]
    steps = sorted({one.case["seq_len"] for one in group})
    batches = sorted({one.case["batch"] for one in group})
    squares = {(one.case["seq_len"], one.case["batch"]): _square(one) for one in group}
    apart = [f"{LABELS[n]} {_shown(first.case[n])}" for n in split]
    return {
        "title": ", ".join([words.plain(first.backend, 40), first.case["pass"], *apart]),
        "t": steps,
        "b": batches,
        "rows": [[squares.get((t, b)) for b in batches] for t in steps],
        "answer": _map_answer(group),
    }


def _map_answer(group: Sequence[Verdict]) -> str:
    """Who changed most, and how many of the squares did."""
    counts = [(kind, sum(one.kind == kind for one in group)) for kind in Kind]
    told = ", ".join(f"{count:,} {SHORT[kind]}" for kind, count in counts if count)
    proven = [one for one in group if one.kind in (Kind.REGRESSION, Kind.IMPROVEMENT)]
    if not proven:
        return f"{told}."
    most = max(proven, key=lambda one: abs(math.log(one.ratio)))
    where = f"T = {most.case['seq_len']}, B = {most.case['batch']}"
    return f"{told}; the most at {where}: {words.change(most)}."


def _square(verdict: Verdict) -> dict[str, Any]:
    known = math.isfinite(verdict.ratio) and verdict.ratio > 0
    log = math.log(verdict.ratio) / math.log(FULL_RATIO) if known else 0.0
    said = f"{words.change(verdict)}: {SHORT[verdict.kind]}" if known else SHORT[verdict.kind]
    return {
        "ratio": text.ratio(verdict.ratio) if known else "",
        "word": SHORT[verdict.kind],
        "way": "slower" if log > 0 else "faster",
        "fill": f"{60 * min(1.0, abs(log)):.0f}%",
        "proven": verdict.kind in (Kind.REGRESSION, Kind.IMPROVEMENT),
        "said": said + (f"; {words.plain(verdict.reason, 160)}" if verdict.reason else ""),
    }


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return words.plain(str(value), 40)


def _side(role: str, side: Side) -> dict[str, str]:
    git: Mapping[str, Any] = side.git or {}
    facts = {
        "host": side.environment("host"),
        "torch": side.environment("torch"),
        "commit": str(git.get("commit") or "")[:12],
        "start": text.moment(str(side.manifest.get("start") or "")),
    }
    told = ", ".join(f"{name} {words.plain(str(fact))}" for name, fact in facts.items() if fact)
    return {"role": role, "name": words.plain(side.name), "facts": told}


def _row(verdict: Verdict) -> dict[str, Any]:
    known = bool(verdict.margin_from)
    margin = f"{words.percent(verdict.margin)}, {MARGINS[verdict.margin_from]}" if known else ""
    return {
        "kind": verdict.kind.value,
        "backend": words.plain(verdict.backend),
        "label": words.case(verdict, 160),
        "measure": words.MEASURES[verdict.measure],
        "base": words.figure(verdict, verdict.base),
        "new": words.figure(verdict, verdict.new),
        "change": words.change(verdict),
        "margin": margin,
        "blocks": f"{verdict.base_blocks}, {verdict.new_blocks}" if verdict.base_blocks else "",
        "reason": words.plain(verdict.reason, 400) if verdict.reason else "",
    }
