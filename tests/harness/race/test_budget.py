import pytest
from hypothesis import given
from hypothesis import strategies as st
from lstm_harness.race.budget import FOR_SAMPLES, Budget

from lstm_harness.model.plan import DEFAULT_SHARE_S


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
