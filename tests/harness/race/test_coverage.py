from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from lstm_harness.race.coverage import coarse_first

from lstm_harness.model.case import Case
from lstm_kernels import Problem

STEPS, BATCHES, SIZES = (8, 16, 32, 64, 128), (1, 2, 4), (16, 32, 64, 128, 256, 512, 1024)


def case(steps, batch, hidden, pass_name="forward"):
    return Case(Problem("lstm", steps, batch, hidden, hidden), pass_name)


GRID = tuple(case(*point) for point in product(STEPS, BATCHES, SIZES))


def place(of):
    return of.problem.seq_len, of.problem.batch, of.problem.hidden_size


@given(seed=st.integers(0, 2**63))
def test_every_case_comes_once(seed):
    found = coarse_first(GRID, seed)
    assert sorted(found, key=GRID.index) == list(GRID)


@given(seed=st.integers(0, 2**63))
def test_corners_come_first_then_the_middles(seed):
    order = [place(each) for each in coarse_first(GRID, seed)]
    assert set(order[:8]) == set(product((8, 128), (1, 4), (16, 1024)))
    assert set(order[8:27]) == set(product((8, 32, 128), BATCHES, (16, 128, 1024))) - set(order[:8])


def test_any_prefix_reaches_over_the_whole_grid():
    for seed in range(20):
        for axis, values in enumerate((STEPS, BATCHES, SIZES)):
            met = {place(each)[axis] for each in coarse_first(GRID, seed)[:8]}
            assert {min(values), max(values)} <= met


def test_order_does_not_depend_on_how_the_cases_were_listed_but_for_ties():
    seen = [place(each) for each in coarse_first(GRID[::-1], 3)]
    assert set(seen[:8]) == {place(each) for each in coarse_first(GRID, 3)[:8]}


def test_the_same_seed_gives_the_same_order_and_another_another():
    assert coarse_first(GRID, 1) == coarse_first(GRID, 1)
    assert coarse_first(GRID, 1) != coarse_first(GRID, 2)


def test_passes_and_dtypes_are_axes_too():
    cases = [case(8, 1, hidden, name) for hidden, name in product(SIZES, ("inference", "backward"))]
    assert {each.pass_name for each in coarse_first(cases, 0)[:4]} == {"inference", "backward"}


def test_one_case_and_none_are_no_special_case():
    assert coarse_first(GRID[:1], 0) == list(GRID[:1])
    assert coarse_first((), 0) == []
