"""Times that several machines measured: their interval, and which blocks are pairs."""

import math

import numpy as np
import pytest
from synthetic_runs import case, record

from lstm_harness.analysis.machines import intervals, may_be_one, of_blocks
from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.ratios import of_times
from lstm_harness.analysis.statistics import geometric_means
from lstm_harness.analysis.summary import plain_rows, summarise


def grid(cells, blocks, machines, spread, level=0.05, seed=0):
    """Blocks of cells, dealt to machines in turn: groups, logarithms and names."""
    rng = np.random.default_rng(seed)
    levels = rng.normal(0, level, machines)
    groups = np.repeat(np.arange(cells), blocks)
    numbers = np.arange(cells * blocks) % machines
    logs = rng.normal(0, 1, cells)[groups] + levels[numbers] + rng.normal(0, spread, len(groups))
    return groups, logs, [f"m{number}" for number in numbers], levels[numbers]


def halves(low, high):
    return np.log(high / low) / 2


def test_one_machine_changes_nothing():
    groups, logs, _, _ = grid(3, 5, 1, 0.01)
    for names in ([""] * 15, ["one"] * 15, ["one"] * 5 + ["two"] * 10):
        for found, known in zip(
            intervals(groups, logs, names, 3), geometric_means(groups, logs, 3), strict=True
        ):
            assert found.tolist() == known.tolist()


def test_what_machines_differ_by_is_taken_out():
    """As if the levels were known, within a few percent: 40 cells tell them well."""
    groups, logs, names, levels = grid(40, 8, 8, 0.01, level=0.1)
    mean, low, high = intervals(groups, logs, names, 40)
    raw, *_ = geometric_means(groups, logs, 40)
    assert mean.tolist() == raw.tolist()
    _, *known = geometric_means(groups, logs - levels, 40)
    assert np.median(halves(low, high) / halves(*known)) == pytest.approx(1, abs=0.05)
    _, *pooled = geometric_means(groups, logs, 40)
    assert np.median(halves(*pooled) / halves(low, high)) > 5


@pytest.mark.parametrize(("cells", "blocks"), [(1, 9), (2, 6), (20, 4)])
def test_95_of_100_intervals_have_the_truth(cells, blocks):
    """The truth is the level of the cell on the machines that measured it."""
    inside = total = 0
    for seed in range(300):
        groups, logs, names, levels = grid(cells, blocks, 3, 0.01, seed=seed)
        _, low, high = intervals(groups, logs, names, cells)
        rng = np.random.default_rng(seed)
        rng.normal(0, 0.05, 3)
        centre = rng.normal(0, 1, cells)
        where = np.bincount(groups, levels) / blocks
        truth = np.exp(centre + where)
        inside += int(((low <= truth) & (truth <= high)).sum())
        total += cells
    assert inside / total == pytest.approx(0.95, abs=0.04)


def test_noise_and_machines_that_cannot_be_separated_give_no_interval():
    groups, logs, names, _ = grid(1, 4, 4, 0.01)
    _, low, high = intervals(groups, logs, names, 1)
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_a_cell_that_one_machine_measured_keeps_its_own_interval():
    groups, logs, names, _ = grid(2, 6, 3, 0.01)
    names[6:] = ["m0"] * 6
    found, known = intervals(groups, logs, names, 2), geometric_means(groups, logs, 2)
    assert found[1][1] == known[1][1]
    assert found[1][0] != known[1][0]


def test_machines_of_a_row_are_in_step_with_its_blocks():
    (row,) = plain_rows(summarise([record(block=b, machine=m) for b, m in enumerate("ab")]))
    assert of_blocks(row) == row["block_machines"] == ("a", "b")
    (row,) = plain_rows(summarise([record(block=b) for b in range(2)]))
    assert (row["block_machines"], of_blocks(row)) == ((), ("", ""))
    assert may_be_one("", "a")
    assert may_be_one("a", "a")
    assert not may_be_one("a", "b")


def test_two_backends_are_compared_in_blocks_of_one_machine():
    """The block that two machines share between them would make the ratio wild."""
    slow, fast = 2_000_000, 1_000_000
    records = [
        *(record("naive", (slow,) * 3, block=b, machine=m) for b, m in enumerate("aab")),
        *(record("aten", (fast,) * 3, block=b, machine=m) for b, m in enumerate("aab")),
        record("naive", (slow * 9,) * 3, block=3, machine="a"),
        record("aten", (fast,) * 3, block=3, machine="b"),
    ]
    summary = summarise(records)
    naive, aten = plain_rows(summary)
    (ratio,) = of_times([(naive, aten)])
    assert (ratio.value, ratio.low) == (pytest.approx(2), pytest.approx(2))
    places = {row["backend"]: row for row in plain_rows(ranked(summary))}
    assert places["naive"]["ratio"] == pytest.approx(2)
    assert "machine" not in places["naive"]


def test_the_summary_of_two_cases_uses_both_for_the_level():
    level = {"a": 1.0, "b": 1.3}
    records = [
        record(
            samples_ns=(int(1e7 * level[m] * (1 + 1e-3 * (block % 3))),),
            block=block,
            machine=m,
            of=case(seq_len=steps),
        )
        for steps in (8, 16)
        for block, m in enumerate("ababab")
    ]
    for row in plain_rows(summarise(records)):
        assert math.log(row["high_ns"] / row["low_ns"]) < 0.01
