from pathlib import Path

import pytest

from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.recommendation import OWN_MIXED, Advice, Standing
from lstm_harness.console.recommendation import came_of, sentence
from lstm_harness.interop.captured_suite import Captured
from lstm_harness.interop.watched_program import Notes


def advice(backend, own="aten", ratio=None, fastest=None, own_ns=2e9, advised_ns=1e9):
    ranked = (Standing(fastest or backend, advised_ns, ratio),) if backend else ()
    return Advice(backend, own, own_ns, advised_ns, ranked, (), {}, ())


SAVING = Ratio(2.0, 1.9, 2.1)
TIE = Ratio(1.02, 0.97, 1.07)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            advice("fast", ratio=SAVING),
            "Use fast: all calls take 1 s instead of 2 s with torch.nn's own choice (aten), "
            "1 s (50%) saved, beyond noise: torch.nn takes 2.00x as long (1.90 to 2.10).",
        ),
        (
            advice("fast", ratio=Ratio(2.0)),
            "not known to be beyond noise: torch.nn takes 2.00x as long (an interval takes 3 "
            "blocks).",
        ),
        (
            advice("aten", ratio=TIE, fastest="near", own_ns=1e9),
            "Stay with torch.nn's own choice (aten): near is the fastest, and ties with "
            "it: torch.nn takes 1.02x as long (0.97 to 1.07).",
        ),
        (
            advice("aten", ratio=Ratio(1.0, 1.0, 1.0)),
            "Stay with torch.nn's own choice (aten): no other backend that ran every case is "
            "faster.",
        ),
        (
            advice(OWN_MIXED, own=OWN_MIXED, ratio=Ratio(0.5, 0.4, 0.6), fastest="aten"),
            "Stay with torch.nn's own: no other backend that ran every case is faster.",
        ),
        (
            advice("other", own=None, own_ns=None),
            "Use other, the fastest: all calls take 1 s; torch.nn's own choice did not run every "
            "case, so what is saved is not known.",
        ),
        (
            advice(None, own=None),
            "No backend ran every case, so there is none to recommend for all of them.",
        ),
    ],
    ids=["saves", "too few blocks", "tie", "own", "own by case", "no own", "nobody"],
)
def test_the_sentence(told, says):
    assert sentence(told).endswith(says)
    assert sentence(told).count(". ") == 0


NOTHING = Captured("", 0, 0, 0, ())


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (Notes(), "-E, -I and -S forbid"),
        (Notes(python=True), "it imported no torch.nn"),
        (Notes(python=True, torch=True), "no call of a torch.nn.LSTM, GRU or RNN"),
    ],
)
def test_why_there_is_no_suite(notes, says):
    line = came_of(NOTHING, notes, Path("mine.toml"))
    assert line.startswith("mine.toml was not written: ")
    assert says in line


def test_a_suite_names_the_next_command():
    line = came_of(Captured("...", 1, 2, 3000, ()), Notes(), Path("my suite.toml"))
    assert line == (
        "my suite.toml: 1 layer, 2 cases, 3,000 calls; "
        "race them with: lstm-bench recommend 'my suite.toml'"
    )
