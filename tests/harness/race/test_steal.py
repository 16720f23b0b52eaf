import os

import pytest

from lstm_harness.race import steal


@pytest.mark.parametrize(
    ("content", "stolen_ms"),
    [
        ("cpu  9 8 7 6 5 4 3 25 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n", 250.0),
        ("cpu  9 8 7 6\n", 0.0),
        ("", 0.0),
    ],
)
def test_what_the_first_line_says_of_all_cores_counts(monkeypatch, tmp_path, content, stolen_ms):
    (tmp_path / "stat").write_text(content)
    file = os.open(tmp_path / "stat", os.O_RDONLY)
    monkeypatch.setattr(steal, "_file", lambda: file)
    assert steal.steal_ms() == steal.steal_ms() == stolen_ms
    os.close(file)


def test_a_system_that_does_not_say_it_stole_nothing(monkeypatch):
    monkeypatch.setattr(steal, "_file", lambda: None)
    assert steal.steal_ms() == 0.0
