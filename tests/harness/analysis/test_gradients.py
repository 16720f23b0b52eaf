"""What is left of a gradient, from norms that are made up."""

import pytest

from lstm_harness.analysis.gradients import Followed, fadings, names, steps_told
from lstm_kernels import Problem


def followed(*norms, backend="naive", **fields):
    T = len(norms[0]) - 1 if norms else 1
    sizes = {"cell": "lstm", "seq_len": T, "batch": 1, "input_size": 4, "hidden_size": 4} | fields
    return Followed(backend, Problem(**sizes), norms=norms)


def fading(*norms):
    (one,) = fadings([followed(*norms)])
    return one


def test_shares_are_of_each_seeds_own_last_step_and_then_over_the_seeds():
    one = fading((2.0, 1.0), (10.0, 1.0), (4.0, 8.0))
    assert one.median == (1, 0.5)
    assert one.low == (1, 0.1)
    assert one.high == (1, 2)


def test_half_life_of_what_halves_in_so_many_steps():
    assert fading((8.0, 4.0, 2.0, 1.0)).half_life_steps == pytest.approx(1)
    slow = tuple(3 * 0.5 ** (step / 7) for step in range(40))
    assert fading(slow).half_life_steps == pytest.approx(7)


@pytest.mark.parametrize("norms", [(1.0, 2.0, 4.0), (1.0, 1.0), (5.0, None), (5.0, 0.0, 0.0)])
def test_no_half_life_where_nothing_falls_or_nothing_is_known(norms):
    assert fading(norms).half_life_steps is None


def test_what_is_gone_is_0_and_does_not_count_in_the_half_life():
    one = fading((4.0, 2.0, 1.0, 0.0, 0.0))
    assert one.gone_at == 3
    assert one.half_life_steps == pytest.approx(1)
    assert fading((4.0, 2.0)).gone_at is None


def test_a_seed_that_is_not_finite_leaves_the_step_unknown():
    one = fading((1.0, 3.0, None), (1.0, 3.0, 9.0))
    assert one.median == one.low == one.high == (1, 3, None)


def test_only_what_was_followed_fades_under_the_name_it_has_among_all():
    refused = Followed("naive", Problem("gru", 1, 1, 4, 4), "unsupported", "no")
    (one,) = fadings([refused, followed((1.0, 0.5))])
    assert one.name == "lstm"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([{}], ["lstm"]),
        ([{"cell": "gru"}, {"cell": "lstm"}], ["gru", "lstm"]),
        ([{"hidden_size": 4}, {"hidden_size": 8, "input_size": 8}], ["lstm H4", "lstm H8"]),
        ([{"dtype": "float64"}, {"bias": False}], ["lstm float64", "lstm no-bias float32"]),
        ([{"backend": "aten"}, {"backend": "naive"}], ["lstm aten", "lstm naive"]),
    ],
)
def test_names_tell_what_is_not_the_same_in_all(rows, expected):
    assert names([followed(**row) for row in rows]) == expected


@pytest.mark.parametrize(
    ("longest", "steps"),
    [
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (100, [0, 1, 2, 5, 10, 20, 50, 100]),
        (130, [0, 1, 2, 5, 10, 20, 50, 100, 130]),
    ],
)
def test_a_table_has_round_steps_and_the_whole_way(longest, steps):
    assert steps_told(longest) == steps
