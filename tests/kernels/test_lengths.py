"""Named distributions of sequence lengths."""

from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_kernels.lengths import check_lengths, sequence_lengths


def test_full() -> None:
    assert sequence_lengths("full", 5, 3) == (5, 5, 5)


@given(st.integers(1, 60), st.integers(1, 200), st.data())
def test_uniform_is_inside_its_bounds_and_repeats(
    steps: int, batch: int, data: st.DataObject
) -> None:
    high = data.draw(st.integers(0, steps))
    low = data.draw(st.integers(0, high))
    name = f"uniform:{low}:{high}"
    lengths = sequence_lengths(name, steps, batch)
    assert len(lengths) == batch
    assert low <= min(lengths) <= max(lengths) <= high
    assert sequence_lengths(name, steps, batch) == lengths


def test_uniform_is_uniform_and_unsorted() -> None:
    lengths = sequence_lengths("uniform:1:20", 20, 200)
    assert sorted(lengths) == [length for length in range(1, 21) for _ in range(10)]
    assert mean(lengths) == 10.5
    assert list(lengths) not in (sorted(lengths), sorted(lengths, reverse=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uniform:1:9", r"expected LOW <= HIGH <= T, and T is 8"),
        ("uniform:5:4", r"expected LOW <= HIGH <= T"),
        ("uniform:1", "unknown lengths"),
        ("uniform:a:b", "unknown lengths"),
        ("uniform:-1:4", "unknown lengths"),
        ("zipf", "unknown lengths 'zipf'; known: full, uniform:LOW:HIGH"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_lengths(name, 8)
