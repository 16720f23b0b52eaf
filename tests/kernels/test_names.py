"""Refusing an unknown name."""

import pytest

from lstm_kernels.names import check_name


def test_a_known_name_comes_back() -> None:
    assert check_name("suite", "quick", ["quick", "full"]) == "quick"


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(
        ValueError, match=r"unknown suite 'qiuck'; did you mean 'quick'\? known: full, quick"
    ):
        check_name("suite", "qiuck", ["quick", "full"])


def test_nothing_near_is_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"^unknown suite 42; known: quick$"):
        check_name("suite", 42, ["quick"])
