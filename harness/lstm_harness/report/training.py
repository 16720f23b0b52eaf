"""The page of `lstm-bench train`: who learns fastest, the curves, and what each makes of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from lstm_harness.analysis.training import Contestant, baseline, contestants
from lstm_harness.console import training as told
from lstm_harness.console import workloads
from lstm_harness.model import text
from lstm_harness.model.training import OPENING, Learnt
from lstm_harness.model.workloads import Workload
from lstm_harness.report import assets
from lstm_harness.report.curves import Look, figures, looks
from lstm_harness.report.facts import computed
from lstm_harness.report.payload import json_for_script
from lstm_harness.report.templating import fill

_MOST_EXAMPLES, _EXAMPLE_CHARS = 8, 240


def render(
    workload: Workload, curves: Sequence[Learnt], manifest: Mapping[str, Any], shared: str = ""
) -> str:
    """The HTML of a training, whether or not its curves ended well.

    Args:
        manifest: of the training, its command and its machine.
        shared: where the files are that it shares with other pages; empty for a page of its own.
    """
    standing = contestants(curves, workload)
    as_drawn = looks(standing)
    drawn = figures(workload.goal, standing, as_drawn, baseline(curves))
    first, *further = told.sentences(workload, curves)
    return fill(
        "training.html",
        assets=assets.of_page("lines", at=shared),
        workload=workload.name,
        answer=first,
        further=further,
        figures=[(figure.title, figure.caption) for figure in drawn],
        opening=OPENING,
        columns=told.columns(workload),
        rows=[told.cells(one) for one in standing],
        examples=_examples(standing, as_drawn),
        refusals=[text.shorten(said, 400) for said in told.refusals(curves)],
        command=told.command(manifest),
        learnt=workloads.facts(workload),
        facts=_facts(curves, manifest),
        payload=json_for_script([figure.plot for figure in drawn]),
    )


def _examples(standing: Sequence[Contestant], as_drawn: Sequence[Look]) -> list[dict[str, Any]]:
    """What contestants predict for held-out data after their first seed; equal ones once.

    Only of curves that have ended.
    """
    by_lines: dict[tuple[str, ...], list[str]] = {}
    for one, look in zip(standing, as_drawn, strict=True):
        first = one.curves[0]
        if first.end is not None and first.end.examples:
            name = f"{text.shorten(look.name)}, seed {first.curve.seed}"
            by_lines.setdefault(first.end.examples, []).append(name)
    return [
        {
            "names": "; ".join(names),
            "lines": [text.shorten(each, _EXAMPLE_CHARS) for each in said[:_MOST_EXAMPLES]],
            "more": max(0, len(said) - _MOST_EXAMPLES),
        }
        for said, names in by_lines.items()
    ]


def _facts(curves: Sequence[Learnt], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    seeds = dict.fromkeys(each.curve.seed for each in curves)
    parameters = {
        each.curve.cell: each.end.parameters
        for each in curves
        if each.end is not None and each.end.parameters is not None
    }
    threads = manifest["spec"].get("threads")
    return [
        ("seeds", ", ".join(map(str, seeds))),
        ("time", f"at most {manifest['spec']['seconds']:g} s of training a curve"),
        *([("threads", str(threads))] if threads else []),
        *(
            [("parameters", ", ".join(f"{cell} {n:,}" for cell, n in parameters.items()))]
            if parameters
            else []
        ),
        *computed(
            manifest["environment"], manifest["device"], manifest["lstm_bench"], manifest["start"]
        ),
    ]
