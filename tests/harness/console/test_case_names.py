"""Words that every case has are told once."""

import pytest

from lstm_harness.console.case_names import shared_words


@pytest.mark.parametrize(
    ("labels", "common", "short"),
    [
        (["lstm T1 forward", "lstm T2 forward"], "lstm forward", ["T1", "T2"]),
        (["lstm T1 forward"], "", ["lstm T1 forward"]),
        (["lstm T1", "lstm T1 L2"], "", ["lstm T1", "lstm T1 L2"]),
        ([], "", []),
    ],
)
def test_what_is_left_of_a_name(labels, common, short):
    found = shared_words(labels)
    assert found == (common, dict(zip(labels, short, strict=True)))
