"""Cells that are not built in, as a file keeps them."""

import pytest

from lstm_harness.model.case import Case
from lstm_harness.model.definitions import MOST, definitions_of, kept_with, learn
from lstm_harness.model.errors import UserError
from lstm_kernels import CELLS, Problem
from lstm_kernels.cells import to_data

MINE = to_data(CELLS["gru"]) | {"name": "mine"}
OTHER = to_data(CELLS["ugrnn"]) | {"name": "mine"}


def case(cell):
    return Case(Problem(cell, 2, 1, 3, 4), "forward")


def test_what_is_built_in_is_not_kept():
    assert definitions_of([case("lstm"), case("slstm")]) == ()
    assert kept_with([case("lstm")]) == {}


def test_what_is_kept_is_learnt_and_kept_again():
    learn([MINE], "a run")
    assert definitions_of([case("lstm"), case("mine"), case("mine")]) == (MINE,)
    assert kept_with([case("mine")]) == {"definitions": [MINE]}
    learn([MINE], "another run")
    learn(None, "a run with none")


def test_another_of_one_name_is_refused_and_says_where_both_are():
    learn([MINE], "runs/a/run.json")
    with pytest.raises(UserError, match=r"runs/b/run\.json defines cell 'mine', .* runs/a/run"):
        learn([OTHER], "runs/b/run.json")
    with pytest.raises(UserError, match=r"defines cell 'lstm', .* lstm_kernels\.cells\.lstm"):
        learn([MINE | {"name": "lstm"}], "runs/b/run.json")


@pytest.mark.parametrize("stored", [3, {}, "text", [None], [MINE] * (MOST + 1), [MINE, {}]])
def test_what_is_none_is_refused_whole(stored):
    with pytest.raises(ValueError, match=r"definitions are not a list|a cell's data is"):
        learn(stored, "a run")
    assert "mine" not in CELLS
