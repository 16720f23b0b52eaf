"""What docs/seeds.md and docs/train.md tell a reader to type and to look for is there."""

import re
import shlex

import pytest
import typer
from places import ROOT
from synthetic_runs import blocks, run

from lstm_harness.analysis.summary import summarise
from lstm_harness.cli.app import app
from lstm_harness.model.spec import build, named_suite, suite_names
from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import FIRST, FURTHER

TEXT = "".join((ROOT / "docs" / name).read_text() for name in ("seeds.md", "train.md"))
# Indented lines, a comment after them left out, and what stands within a sentence or a table.
COMMANDS = sorted(
    {
        *re.findall(r"^    lstm-bench (.*?)(?:\s+#.*)?$", TEXT, flags=re.MULTILINE),
        *re.findall(r"`lstm-bench ([^`]+)`", TEXT),
    }
)
KNOWN = typer.main.get_command(app).commands
QUESTIONS = (
    "Is backward the heavy part?",
    "How much faster than per_gate, rung by rung?",
    "Who saves what padding wastes?",
    "What do variants, depth and a second direction cost?",
)


def test_there_are_commands():
    names = {shlex.split(command)[0] for command in COMMANDS}
    assert {"run", "plan", "verify", "gradients", "train"} <= names


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command):
    name, *words = shlex.split(command)
    # Parsed, and not run: a mistaken option or value raises.
    context = KNOWN[name].make_context(name, words)
    suite = context.params.get("suite")
    assert suite is None or suite in suite_names()
    workload = context.params.get("workload")
    assert workload is None or workload in WORKLOADS


def test_the_figures_that_the_page_names_are_those_of_the_suite():
    cases = build(named_suite("seeds"), {}, {}).cases("cpu")
    # Each backend takes as long as its products do, padding left out.
    records = [
        record
        for backend, cost in (("per_gate", 30), ("numba_cpu", 10))
        for case in cases
        for record in blocks(
            backend, [cost * case.problem.flops(case.pass_name) // 1000] * 3, of=case
        )
    ]
    subject = Subject(summarise(records), ["per_gate", "numba_cpu"], {"seeds": run(records)})
    panels = {panel.question: panel for panel in (make(subject) for make in (*FIRST, *FURTHER))}
    for question in QUESTIONS:
        assert question in TEXT.replace("`", "")
        assert panels[question].figures, panels[question].absent
    padding, costs = (panels[question] for question in QUESTIONS[2:])
    assert "numba_cpu" in padding.answer
    shown = {plot.title.split(",")[0] for figure in costs.figures for plot in figure.plots}
    assert shown == {"Variants", "Layers", "Time a layer", "Directions"}
