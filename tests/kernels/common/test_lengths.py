"""Named distributions of sequence lengths."""

from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_kernels.common.lengths import check_lengths, sequence_lengths


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


# name: shortest, longest, true mean, and the sum of the weights.
TABLES = {
    "japanese-vowels": (7, 29, 9961 / 640, 640),
    "cmudict": (1, 28, 935345 / 126052, 126052),
    "translation": (2, 100, 24.697, 14968),
}


@pytest.mark.parametrize("name", TABLES)
def test_as_many_rows_as_weights_give_the_table_itself(name: str) -> None:
    shortest, longest, true_mean, count = TABLES[name]
    lengths = sequence_lengths(name, 512, count)
    assert (min(lengths), max(lengths)) == (shortest, longest)
    assert mean(lengths) == pytest.approx(true_mean, abs=1e-3)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("batch", [16, 64, 256])
def test_a_batch_has_nearly_the_true_mean(name: str, batch: int) -> None:
    drawn = mean(sequence_lengths(name, 512, batch))
    assert drawn == pytest.approx(TABLES[name][2], rel=0.02)


def test_rows_are_the_quantiles() -> None:
    # Of 640 utterances 134, 198, 265, 344, 472 and 519 have at most 12, 13, 14, 15, 17 and 18
    # frames; one row stands at the 320th, two at the 160th and the 480th.
    assert sequence_lengths("japanese-vowels", 29, 1) == (15,)
    assert sorted(sequence_lengths("japanese-vowels", 29, 2)) == [13, 18]


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("japanese-vowels", (17, 11, 19, 16, 12, 22, 14, 15)),
        ("cmudict", (8, 4, 9, 7, 5, 11, 6, 7)),
        ("translation", (28, 8, 35, 23, 12, 50, 16, 19)),
        ("uniform:1:20", (14, 2, 17, 12, 4, 19, 7, 9)),
    ],
)
def test_every_machine_draws_these(name: str, lengths: tuple[int, ...]) -> None:
    assert sequence_lengths(name, 50, 8) == lengths


@pytest.mark.parametrize("name", TABLES)
def test_longer_than_t_is_cut_to_t(name: str) -> None:
    whole = sequence_lengths(name, 512, 200)
    assert sequence_lengths(name, 12, 200) == tuple(min(length, 12) for length in whole)
    assert max(whole) > 12


@pytest.mark.parametrize("name", TABLES)
def test_t_beyond_the_longest_changes_nothing(name: str) -> None:
    longest = TABLES[name][1]
    assert sequence_lengths(name, longest, 100) == sequence_lengths(name, 4 * longest, 100)


@pytest.mark.parametrize("name", TABLES)
def test_one_step_is_enough_for_every_name(name: str) -> None:
    check_lengths(name, 1)
    assert sequence_lengths(name, 1, 4) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("uniform:1:9", r"expected LOW <= HIGH <= T, and T is 8"),
        ("uniform:5:4", r"expected LOW <= HIGH <= T"),
        ("uniform:1", "unknown lengths"),
        ("uniform:a:b", "unknown lengths"),
        ("uniform:-1:4", "unknown lengths"),
        ("uniform:LOW:HIGH", "write two numbers for LOW and HIGH, like uniform:8:64"),
        (
            "zipf",
            "unknown lengths 'zipf'; "
            "known: cmudict, full, japanese-vowels, translation, uniform:LOW:HIGH",
        ),
        ("japanese-vowel", "unknown lengths 'japanese-vowel'; did you mean 'japanese-vowels'?"),
        ("cmudict:3", "unknown lengths 'cmudict:3'; did you mean 'cmudict'?"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_lengths(name, 8)
