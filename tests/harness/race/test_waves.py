"""Time shared out between cells, and the order in which a grid that is too large is measured."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_harness.model.case import Case
from lstm_harness.model.plan import DEFAULT_SHARE_S
from lstm_harness.race.waves import FOR_SAMPLES, Budget, coarse_first
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


class SimulatedTime:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def spend(total_s, costs):
    """Run cells that take what `costs` gives for their share; return the time at the end."""
    time = SimulatedTime()
    budget = Budget(total_s, len(costs), now=time)
    for cost in costs:
        time.now_s += cost(budget.next_share_s())
    return time.now_s


@given(cells=st.integers(1, 200), total_s=st.floats(1, 1000))
def test_cells_that_take_their_share_stay_within_the_total(cells, total_s):
    assert spend(total_s, [lambda share: share] * cells) <= total_s * (1 + 1e-9)


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=100))
def test_what_preparing_costs_is_taken_from_the_cells_after(overheads):
    costs = [lambda share, more=more: share + more for more in overheads]
    assert spend(100.0, costs) <= max(100.0, sum(overheads)) + max(overheads)


def test_what_is_left_over_goes_to_the_cells_after():
    shares = []
    spend(10.0, [lambda share: shares.append(share) or 0.0] * 5)
    assert shares == sorted(shares)
    assert shares[-1] > 3 * shares[0]


def test_shares_never_fall_below_nothing():
    shares = []
    spend(1.0, [lambda share: shares.append(share) or 5.0] * 3)
    assert shares[1:] == [0.0, 0.0]


def test_without_a_total_every_cell_gets_the_same():
    shares = []
    spend(None, [lambda share: shares.append(share) or 50.0] * 3)
    assert shares == [DEFAULT_SHARE_S] * 3


def test_equal_cells_get_equal_shares_within_a_factor():
    time, shares = SimulatedTime(), []
    budget = Budget(60.0, 30, now=time)
    for _ in range(30):
        shares.append(budget.next_share_s())
        time.now_s += shares[-1] / FOR_SAMPLES
    assert max(shares) == pytest.approx(min(shares), rel=0.01)
