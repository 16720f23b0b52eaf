import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_harness.model.axes import AXES, MOST
from lstm_harness.model.errors import UserError

SIZES = AXES["hidden"]
WRITTEN_WRONG = """
    , 0 -1 1.5 1e3 abc ² 8;16 : :: 16:64 16:64:2 64:16:x2 1:8:x1 1:8:+0 1:8:x-2 0:8:x2 1:8:+1.5
    1:2:3:4 1000000000000 1000000000000000000000000000000
"""


@given(low=st.integers(1, 500), more=st.integers(0, 500), step=st.integers(1, 50))
def test_adding_ranges_are_inclusive(low, more, step):
    assert SIZES.values(f"{low}:{low + more}:+{step}") == tuple(range(low, low + more + 1, step))


@given(low=st.integers(1, 500), doublings=st.integers(0, 8), by=st.integers(2, 5))
def test_multiplying_ranges_are_inclusive(low, doublings, by):
    expected = tuple(low * by**power for power in range(doublings + 1))
    assert SIZES.values(f"{low}:{expected[-1]}:x{by}") == expected


def test_range_stops_at_or_below_its_end():
    assert SIZES.values("3:10:x2") == (3, 6)
    assert SIZES.values("3:10:+3") == (3, 6, 9)


def test_list_keeps_its_order_and_each_value_once():
    assert SIZES.values("32, 8,16:64:x2,8") == (32, 8, 16, 64)
    assert SIZES.values([8, "16:32:x2"]) == (8, 16, 32)


@pytest.mark.parametrize(
    "text",
    [*WRITTEN_WRONG.split(), "", "1, 0", "9" * 5000, f"1:8:x{'9' * 5000}", f"1:{MOST}:+1"],
)
def test_size_that_cannot_be_is_refused_in_one_line(text):
    with pytest.raises(UserError) as refusal:
        SIZES.values(text)
    assert "--hidden" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("value", [True, 1.5, None, {}, [[1]]])
def test_toml_value_of_another_kind_is_no_size(value):
    with pytest.raises(UserError, match="hidden"):
        SIZES.values(value)


def test_more_layers_than_anybody_stacks_are_refused():
    with pytest.raises(UserError, match="at most 1000"):
        AXES["layers"].values("1001")


@pytest.mark.parametrize(
    ("axis", "text", "nearest"),
    [
        ("dtype", "float23", "float32"),
        ("precision", "tf23", "tf32"),
        ("pass", "foward", "forward"),
        ("launch", "grpah", "graph"),
        ("cache", "wram", "warm"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(axis, text, nearest):
    with pytest.raises(UserError, match=f"{text}.*did you mean '{nearest}'"):
        AXES[axis].values(text)


def test_input_is_a_size_or_the_hidden_size():
    assert AXES["input"].values("hidden,8") == (None, 8)


def test_booleans_are_words():
    assert AXES["bidirectional"].values("true,no") == (True, False)
    with pytest.raises(UserError, match="maybe"):
        AXES["bidirectional"].values("maybe")


def test_every_default_is_a_value_its_axis_reads():
    for axis in AXES.values():
        for value in axis.default:
            assert axis.values("hidden" if value is None else value) == (value,)
