"""A report's page: what the template shows, put together."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from lstm_harness.analysis.ranking import fastest_by_case
from lstm_harness.analysis.summary import CASE_COLUMNS, plain_rows, summarise
from lstm_harness.model import text
from lstm_harness.model.case import PASS_MEANING
from lstm_harness.model.part import part_of
from lstm_harness.report import assets, ceilings, noise, points, samples, tables, winner_map
from lstm_harness.report.chart import LABELS, Rows
from lstm_harness.report.marks import mark, ordered
from lstm_harness.report.panel import Panel, Subject
from lstm_harness.report.panels import FIRST, FURTHER
from lstm_harness.report.payload import json_for_script, packed
from lstm_harness.report.templating import fill
from lstm_harness.store.run_folder import Run


def render(runs: Sequence[Run], verdicts: Markup | None = None, shared: str = "") -> str:
    """The HTML of one run's report, or of several side by side.

    Args:
        verdicts: what stands first, above the map: how two runs differ.
        shared: where the files are that it shares with other pages; empty for a page of its own.
    """
    labels = run_labels(runs)
    summaries = [_for_readers(summarise(run.records)) for run in runs]
    together = _together(summaries, labels)
    return fill(
        "page.html",
        assets=assets.of_page("report", at=shared),
        **_content(runs, labels, summaries, together),
        verdicts=verdicts,
    )


def run_labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run, its id added where two share a label, a number where that fails."""
    names = [str(run.manifest.get("label") or run.manifest.get("id") or "run") for run in runs]
    ids = [str(run.manifest.get("id", "")) for run in runs]
    names = [
        f"{name} {own}" if names.count(name) > 1 and own != name else name
        for name, own in zip(names, ids, strict=True)
    ]
    twice = len(set(names)) < len(names)
    return [f"{n} #{i}" if twice else n for i, n in enumerate(names, start=1)]


def _for_readers(summary: pd.DataFrame) -> pd.DataFrame:
    """A Summary by shape and then by ladder, whatever random order it was measured in."""
    ladder = {name: place for place, name in enumerate(ordered(summary["backend"]))}
    places = summary.assign(backend=summary["backend"].map(ladder))
    return summary.loc[places.sort_values([*CASE_COLUMNS, "backend"]).index]


def _together(summaries: Sequence[pd.DataFrame], labels: Sequence[str]) -> pd.DataFrame:
    """All summaries in one frame; `run` tells them apart where there are several."""
    if len(summaries) == 1:
        return summaries[0]
    tagged = [s.assign(run=label) for s, label in zip(summaries, labels, strict=True)]
    return pd.concat(tagged, ignore_index=True)


def _content(
    runs: Sequence[Run],
    labels: Sequence[str],
    summaries: Sequence[pd.DataFrame],
    together: pd.DataFrame,
) -> dict[str, Any]:
    backends = ordered(together["backend"])
    switches = winner_map.axes(together)
    rows = tables.all_rows(together)
    subject = Subject(together, backends, dict(zip(labels, runs, strict=True)))
    first, further = ([panel(subject) for panel in panels] for panels in (FIRST, FURTHER))
    plain = plain_rows(together)
    payload = {
        "backends": [
            {"name": name, "short": text.shorten(name, 28), **vars(mark(name))} for name in backends
        ],
        "labels": LABELS,
        "axes": [{"name": axis.name, "values": axis.values} for axis in switches],
        "slices": winner_map.slices(together, backends),
        "panels": [_drawn(panel, plain) for panel in (*first, *further) if panel.figures],
        "table": rows,
    }
    return {
        "title": ", ".join(text.shorten(label) for label in labels),
        "several": len(runs) > 1,
        "heads": [_head(*one) for one in zip(runs, labels, summaries, strict=True)],
        "axes": [(a.name, a.label, [_shown(v) for v in a.values]) for a in switches],
        "payload": packed(json_for_script(payload)),
        "samples": json_for_script(samples.encode(together, runs, labels)),
        "measured": bool((together["status"] == "ok").any()),
        "first": first,
        "further": further,
        "ceilings": ceilings.of_runs(runs, labels),
        "trust": tables.correctness(together),
        "noise": noise.answer(plain) if plain else "Nothing was timed.",
        "refusals": tables.refusals(runs, labels, summaries),
        "facts": tables.environments(runs),
        "plans": [tables.plan_facts(run, label) for run, label in zip(runs, labels, strict=True)],
        "labels": labels,
        "fixed": rows["fixed"],
        "passes": [(p, m) for p, m in PASS_MEANING.items() if (together["pass"] == p).any()],
    }


def _drawn(panel: Panel, rows: Rows) -> dict[str, Any]:
    """What the page's script needs of a panel.

    Args:
        rows: of the Summary, which the panel's points count.
    """
    return {
        "id": panel.id,
        "by": panel.by,
        "figures": [
            {
                "key": one.key,
                "answer": one.answer,
                "points": points.of_figure(one, rows),
                "plots": [vars(plot) for plot in one.plots],
            }
            for one in panel.figures
        ],
    }


def _head(run: Run, label: str, summary: pd.DataFrame) -> dict[str, Any]:
    """What is said of one run at the top of the page."""
    environment = run.manifest.get("environment") or {}
    gpu, cpu = environment.get("gpu"), environment.get("cpu")
    device = next((d for d in (gpu, cpu) if isinstance(d, dict)), {})
    where = device.get("name") or device.get("model") or "unknown device"
    libraries = ("torch", "triton", "numba", "onnxruntime", "openvino", "jax")
    versions = [f"{n} {environment[n]}" for n in libraries if environment.get(n)]
    return {
        "label": label,
        "where": str(where),
        "host": str(environment.get("host") or ""),
        "versions": ", ".join(versions),
        "start": text.moment(str(run.manifest.get("start") or "")),
        "command": tables.command(run),
        "absent": tables.absent(run),
        "notes": notes(run),
        "answer": _overall(summary),
    }


def notes(run: Run) -> list[str]:
    """What a reader must know before believing a run."""
    plan = run.manifest.get("plan") or {}
    planned, kept = plan.get("planned_records"), len(run.records)
    said = []
    if isinstance(planned, int) and kept < planned:
        why = "; the time budget was spent" if run.manifest.get("end") else ""
        said.append(f"Incomplete: {kept:,} of {planned:,} planned records{why}.")
    elif not kept:
        said.append("No record in this run.")
    if part := part_of(run.manifest):
        cases = f"{len(part.cases):,} of {text.count(len(plan['cases']), 'case')}"
        said.append(f"A part of a run: {cases} in {text.count(len(part.blocks), 'block')}.")
    if len(run.machines) > 1:
        said.append(
            f"Measured on {len(run.machines)} machines of one class. A time's interval is without "
            "what they differ by."
        )
    if run.torn:
        said.append("The last record was cut off while it was written; it is left out.")
    if run.edited:
        said.append("The records were changed after the run wrote them.")
    git = (run.manifest.get("environment") or {}).get("git")
    if isinstance(git, dict) and git.get("dirty"):
        said.append("Measured on a working tree with uncommitted changes.")
    marked = sum(len(record.marked) for record in run.records)
    samples = sum(len(record.samples_ns) for record in run.records)
    if marked and samples:
        share = f"{marked / samples:.1%}"
        said.append(
            f"{share} of the samples were taken while the machine was disturbed; they are kept."
        )
    return said


def headline(summary: pd.DataFrame) -> str:
    """The first sentence of a run's report."""
    return _overall(_for_readers(summary))


def _overall(summary: pd.DataFrame) -> str:
    """A run's first sentence, over all of its cases."""
    won = fastest_by_case(summary)
    return winner_map.map_answer(plain_rows(won)) if len(won) else "Nothing was measured."


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
