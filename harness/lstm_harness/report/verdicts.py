"""The page of a comparison: the verdict table first, worst first; it needs no script."""

from typing import Any

import jinja2

from lstm_harness.comparison import Comparison, Side
from lstm_harness.exporters import words
from lstm_harness.report import page, text
from lstm_harness.verdict import MARGINS, Verdict


def render(comparison: Comparison) -> str:
    """The HTML of a comparison."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lstm_harness.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = environment.get_template("verdicts.html").render(
        style=page.style(),
        headline=words.headline(comparison),
        counted=words.counted(comparison),
        rule=words.rule(comparison),
        sides=[_side("New", comparison.new), _side("Base", comparison.base)],
        differences=[words.plain(line, 400) for line in comparison.differences],
        notes=[words.plain(line, 400) for line in comparison.notes],
        rows=[_row(verdict) for verdict in comparison.verdicts],
    )
    # A lone surrogate in a name has no UTF-8.
    return content.encode("utf-8", "replace").decode()


def _side(role: str, side: Side) -> dict[str, str]:
    environment = side.manifest.get("environment") or {}
    git = environment.get("git") or {}
    facts = {
        "host": environment.get("host"),
        "torch": environment.get("torch"),
        "commit": git.get("commit"),
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
        "label": words.plain(verdict.label, 160),
        "measure": words.MEASURES[verdict.measure],
        "base": words.figure(verdict, verdict.base),
        "new": words.figure(verdict, verdict.new),
        "change": words.change(verdict),
        "margin": margin,
        "blocks": f"{verdict.base_blocks}, {verdict.new_blocks}" if verdict.base_blocks else "",
        "reason": words.plain(verdict.reason, 400) if verdict.reason else "",
    }
