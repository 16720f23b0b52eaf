import math

import pytest
from synthetic_runs import blocks, case, grid, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.report import marks, winner_map

TIMES = "\N{MULTIPLICATION SIGN}"


def slice_of(records, number=0):
    summary = summarise(records)
    backends = marks.ordered(summary["backend"])
    return winner_map.slices(summary, backends)[number]["map"], backends


def test_the_map_shows_winner_margin_and_certainty():
    found, backends = slice_of([*blocks("naive", [300] * 3), *blocks("aten", [100] * 3)])
    assert (found["t"], found["b"]) == ([32], [4])
    square = found["cells"][0][0]
    assert backends[square["backend"]] == "aten"
    assert (square["state"], square["margin"]) == ("win", f"3.00{TIMES}")
    assert square["strength"] == pytest.approx(math.log(3) / math.log(4), abs=1e-3)
    assert [backends[one["backend"]] for one in square["ranks"]] == ["aten", "naive"]
    assert found["answer"] == (
        f"aten is fastest in 1 of 1 case; the runner-up takes 3.00{TIMES} its time."
    )
    assert f"naive takes 3.00{TIMES} its time" in square["says"]


def test_a_tie_names_who_ties_and_has_neither_a_number_nor_a_lead():
    tied = [*blocks("a", [1000, 1050, 990]), *blocks("b", [1010, 1000, 1040])]
    found, backends = slice_of([*tied, *blocks("slow", [9000, 9010, 8990])])
    square = found["cells"][0][0]
    assert square["state"] == "tie"
    assert [backends[index] for index in square["tied"]] == ["a", "b"]
    assert not {"margin", "strength"} & set(square)
    assert square["says"].startswith("tie: a and b cannot be told apart, ")
    assert TIMES not in square["says"]
    assert [(one["ratio"] != "", one["tie"]) for one in square["ranks"]] == [
        *((False, False), (False, True), (True, False))
    ]
    assert found["answer"] == "The two fastest backends tie in every case."


def test_ties_are_counted_beside_wins():
    far = case(seq_len=64)
    found, _ = slice_of(
        [
            *blocks("a", [1000, 1050, 990]),
            *blocks("b", [1010, 1000, 1040]),
            *blocks("a", [1000, 1001, 999], of=far),
            *blocks("b", [2000, 2001, 1999], of=far),
        ]
    )
    assert found["answer"] == (
        f"a is fastest in 1 of 2 cases; the runner-up takes 2.00{TIMES} its time; "
        "in 1 case the two fastest tie."
    )


def test_below_three_blocks_a_lead_is_not_called_a_win():
    found, _ = slice_of([*blocks("a", [1000]), *blocks("b", [2000])])
    assert found["cells"][0][0]["state"] == "unknown"
    assert "fewer than 3 blocks" in found["answer"]


def test_a_backend_alone_wins_nothing():
    found, _ = slice_of(blocks("a", [1000] * 3))
    square = found["cells"][0][0]
    assert (square["state"], "margin" in square) == ("alone", False)
    assert square["says"].startswith("a is the only one, ")
    assert found["answer"] == (
        "Only one backend is correct in each case (a): there is nothing to compare."
    )


def test_a_wrong_backend_is_listed_under_the_map_and_not_in_it():
    found, backends = slice_of([*blocks("a", [1000] * 3), record("cheat", status="incorrect")])
    square = found["cells"][0][0]
    assert [backends[one["backend"]] for one in square["ranks"]] == ["a"]
    assert [backends[one["backend"]] for one in square["failed"]] == ["cheat"]


def test_a_shape_nobody_was_asked_for_is_a_gap_and_one_nobody_solved_is_not():
    records = [
        *blocks("a", [10] * 3, of=case(seq_len=8, batch=1)),
        record("a", of=case(seq_len=16, batch=2), status="crashed"),
    ]
    cells = slice_of(records)[0]["cells"]
    assert cells[0][1] is None
    assert cells[1][0] is None
    assert cells[1][1]["state"] == "none"


def test_switches_are_the_axes_that_vary_with_passes_in_order():
    summary = summarise(grid(block_count=1, dtype=("float16", "float32")))
    switches = {axis.name: axis.values for axis in winner_map.axes(summary)}
    assert switches == {
        "pass": ("forward", "backward"),
        "dtype": ("float32", "float16"),
        "hidden_size": (128, 256),
    }
    assert len(winner_map.slices(summary, marks.ordered(summary["backend"]))) == 8


def test_a_reader_begins_at_the_lstm():
    cells = ("gru", "of one's own", "lstm")
    records = [record(of=case()), record(of=case(cell="gru"))]
    summary = summarise(records).iloc[[0, 1, 1]].assign(cell=cells)
    assert winner_map.axes(summary)[0].values == ("lstm", "gru", "of one's own")


def test_input_size_is_a_switch_only_where_it_is_its_own():
    records = [record(of=case(input_size=i, hidden_size=64)) for i in (32, 64)]
    assert [axis.name for axis in winner_map.axes(summarise(records))] == ["input_size"]
