"""What docs/seeds.md tells a reader to look for is there."""

from places import ROOT
from synthetic_runs import blocks, run

from lstm_harness.analysis.summary import summarise
from lstm_harness.model.spec import build, named_suite
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import FIRST, FURTHER

TEXT = (ROOT / "docs" / "seeds.md").read_text()
QUESTIONS = (
    "Is backward the heavy part?",
    "How much faster than per_gate, rung by rung?",
    "Who saves what padding wastes?",
    "What do variants, depth and a second direction cost?",
)


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
