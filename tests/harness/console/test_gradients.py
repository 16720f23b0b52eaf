"""What is said of gradients that are made up."""

import pytest
from made_up_gradients import gradients, halving

from lstm_harness.analysis.gradients import fadings
from lstm_harness.console import gradients as told


def sentence(*lines):
    return told.sentence(fadings(gradients(*lines).followed))


def test_the_sentence_tells_half_way_back_who_has_most():
    assert sentence(("gru", halving(4, every=0.5)), ("lstm", halving(4))) == (
        "2 steps before the loss, lstm has 0.25 of its gradient left, gru 0.062."
    )


@pytest.mark.parametrize(
    ("norms", "says"),
    [
        ((1.0, 300.0), "1 step before the loss, lstm has 300 times its gradient."),
        ((1.0, 0.0), "1 step before the loss, lstm has 0 of its gradient left."),
        ((1.0, None), "1 step before the loss, no gradient is finite."),
    ],
)
def test_the_sentence_of_what_grows_is_gone_or_is_not_finite(norms, says):
    assert sentence(("lstm", norms)) == says


def test_a_line_that_is_shorter_ends_in_blanks(capsys):
    told.write(gradients(("lstm", (1.0, 0.5)), ("lstm", (1.0, 0.1, 1e-12))))
    out, _ = capsys.readouterr()
    header, short, long = (line.split() for line in out.splitlines()[2:])
    assert header == ["0", "1", "2", "half-life,", "steps"]
    assert short == ["lstm", "T1", "1.0", "0.50", "1.0"]
    assert long == ["lstm", "T2", "1.0", "0.10", "1.0e-12", "0.050"]


def test_what_was_refused_is_told_alone_where_nothing_was_followed(capsys):
    told.write(gradients(("gru", "not this one")))
    assert capsys.readouterr().out == "naive on gru T1 B1 H4 float32: unsupported: not this one\n"


def test_what_does_not_fall_has_no_half_life(capsys):
    told.write(gradients(("lstm", (1.0, 1.0, 2.0))))
    assert "does not fall" in capsys.readouterr().out


def test_the_document_has_every_norm_as_it_was():
    found = told.document(gradients(("lstm", (4.0, 2.0)), ("gru", "no")))
    lstm, gru = found["lines"]
    assert (lstm["norms"], lstm["median"]) == ([[4.0, 2.0]], [1.0, 0.5])
    assert (gru["norms"], gru["reason"]) == ([], "no")
    assert "median" not in gru
