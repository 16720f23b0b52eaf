"""Energy a sequence, from data whose answer is known."""

from panel_checks import check, lines
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks
from lstm_harness.report.panel import Subject
from lstm_harness.report.panels import energy

X = "\N{MULTIPLICATION SIGN}"


def of(backend, energy_mj, pass_name="inference", **problem):
    """One backend on one case of 4 sequences, with the energy of an execution."""
    return blocks(backend, [1000] * 3, of=case(pass_name, **problem), energy_mj=energy_mj)


def shown(records):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return check(energy.panel(Subject(summary, backends))), backends


def test_energy_is_of_one_sequence_against_t():
    records = [
        *of("triton", 8.0, seq_len=8),
        *of("triton", 16.0, seq_len=16),
        *of("cudnn", 16.0, seq_len=8),
        *of("cudnn", 64.0, seq_len=16),
    ]
    panel, backends = shown(records)
    (figure,) = panel.figures
    drawn = lines(figure.plots[0], backends)
    assert (drawn["triton"]["x"], drawn["triton"]["y"]) == ([8, 16], [2, 4])
    assert figure.answer == (
        f"At T = 16, triton takes the least, 4.00 mJ a sequence; cudnn is next, 4.00{X} that."
    )
    assert panel.answer == (
        f"triton takes the least energy in 2 of 2 cases; the next takes 2.83{X} that "
        "(geometric mean of 2)."
    )


def test_against_b_where_t_is_fixed():
    panel, backends = shown([*of("cudnn", 8.0, batch=4), *of("cudnn", 8.0, batch=8)])
    drawn = lines(panel.figures[0].plots[0], backends)
    assert (drawn["cudnn"]["x"], drawn["cudnn"]["y"]) == ([4, 8], [2, 1])
    assert panel.figures[0].answer == "At B = 8, cudnn is the only one: 1.00 mJ a sequence."
    assert "nothing to compare" in panel.answer


def test_figures_within_the_counters_error_are_no_win():
    panel, _ = shown([*of("triton", 8.0), *of("cudnn", 9.0)])
    assert panel.figures[0].answer == (
        "At T = 32, triton and cudnn tie: 2.00 mJ a sequence and 2.25 mJ."
    )
    assert panel.answer == "The two that take the least tie in all of 1 case."


def test_energy_not_measured_is_said_to_be():
    for records in ([], blocks("aten", [1000] * 3), [record(status="error", energy_mj=3.0)]):
        panel, _ = shown(records)
        assert panel.absent.startswith("Energy was not measured: ")
    # A counter that did not move tells nothing.
    assert shown(of("aten", 0.0))[0].absent
