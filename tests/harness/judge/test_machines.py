"""Sides that several machines measured: who is paired with whom, and what is the unit."""

import math

import pytest
from synthetic_runs import record, run

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.comparison import compare_sides, side_of_run
from lstm_harness.judge.exporters.document import document
from lstm_harness.judge.verdict import Kind, Rules, judge

US = 1_000_000


def records(times, backend="naive"):
    """Blocks of one case: by machine, the time of each of its blocks in us."""
    flat = [(machine, time) for machine, blocks in times.items() for time in blocks]
    return [
        record(backend, (int(time * US),) * 3, block=block, machine=machine)
        for block, (machine, time) in enumerate(flat)
    ]


def judged(base, new, paired=True, margin=0.02):
    rules = Rules(margin=margin, paired=paired)
    (verdict,) = judge(summarise(records(base)), summarise(records(new)), rules)
    return verdict


def scaled(times, factors):
    return {name: [time * factors[name] for time in blocks] for name, blocks in times.items()}


BASE = {"a": [1.0, 1.002, 0.998], "b": [1.03, 1.028, 1.031], "c": [1.2, 1.203, 1.198]}


@pytest.mark.parametrize("paired", [True, False])
def test_a_change_that_every_machine_shows_is_found(paired):
    found = judged(BASE, scaled(BASE, dict.fromkeys("abc", 1.05)), paired)
    assert (found.kind, found.machines) == (Kind.REGRESSION, 3)
    assert found.ratio == pytest.approx(1.05)
    assert (found.base_blocks, found.new_blocks, found.df) == (9, 9, 2.0)


@pytest.mark.parametrize("paired", [True, False])
def test_a_change_of_one_machine_is_nobodys(paired):
    new = scaled(BASE, {"a": 1.0, "b": 1.0, "c": 1.3})
    found = judged(BASE, new, paired)
    assert found.kind == Kind.INCONCLUSIVE
    assert found.reason == "too noisy for 3 machines of 9 blocks"
    assert found.more_blocks is None
    assert found.ratio == pytest.approx(1.3 ** (1 / 3))


@pytest.mark.parametrize("paired", [True, False])
def test_each_machine_counts_once_however_many_blocks_it_has(paired):
    base = {"a": [1.0] * 20, "b": [1.0, 1.0], "c": [1.0]}
    found = judged(base, scaled(base, {"a": 1.0, "b": 1.06, "c": 1.09}), paired)
    assert found.ratio == pytest.approx(math.exp((math.log(1.06) + math.log(1.09)) / 3))


@pytest.mark.parametrize("paired", [True, False])
def test_two_machines_are_too_few(paired):
    two = {name: BASE[name] for name in "ab"}
    found = judged(two, scaled(two, dict.fromkeys("ab", 2.0)), paired)
    assert found.kind == Kind.INCONCLUSIVE
    assert found.reason == "too few machines: 2 of at least 3 measured both sides"
    assert (found.more_blocks, found.lacks_blocks) == (None, False)


def test_machines_that_measured_one_side_alone_are_left_out_where_enough_are_left():
    new = scaled(BASE, dict.fromkeys("abc", 1.05)) | {"d": [9.0]}
    found = judged(BASE, new, paired=False)
    assert found.ratio == pytest.approx(1.05)
    assert (found.machines, found.base_blocks, found.new_blocks) == (3, 9, 9)


def test_other_machines_of_the_class_are_samples_of_it():
    other = {name.upper(): [time * 1.5 for time in blocks] for name, blocks in BASE.items()}
    found = judged(BASE, other, paired=False, margin=0.01)
    assert (found.machines, found.base_blocks) == (6, 9)
    assert found.ratio == pytest.approx(1.5)
    assert found.df < 5
    few = judged(BASE, {"A": [1.0] * 9}, paired=False)
    assert few.reason == "too few machines: 0 of at least 3 measured both sides"


def test_a_block_whose_sides_two_machines_measured_is_no_pair():
    base = {"a": [1.0] * 3, "b": [1.0] * 3, "c": [1.0] * 3, "d": [1.0]}
    new = {"a": [1.0] * 3, "b": [1.0] * 3, "c": [1.0] * 3, "e": [5.0]}
    found = judged(base, new)
    assert found.ratio == pytest.approx(1.0)
    assert (found.kind, found.base_blocks) == (Kind.SAME, 9)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("names", [("one", "one"), ("", "one"), ("one", ""), ("", "")])
def test_one_machine_is_judged_by_its_blocks_as_before(names, paired):
    blocks = [1.0, 1.002, 0.999, 1.001]
    slower = [1.1, 1.102, 1.101, 1.099]
    found = judged({names[0]: blocks}, {names[1]: slower}, paired)
    assert (found.kind, found.machines) == (Kind.REGRESSION, 0)
    assert found.df == pytest.approx(3.0 if paired else 6.0, rel=0.2)


def test_a_case_that_one_machine_measured_is_judged_by_its_blocks_next_to_others():
    blocks = {"a": [1.0, 1.001, 0.999]}
    others = [
        record("aten", (US,) * 3, block=block, machine=machine)
        for block, machine in enumerate("bbb")
    ]
    base, new = (
        summarise([*records(scaled(blocks, {"a": factor})), *others]) for factor in (1.0, 1.2)
    )
    kinds = {v.backend: (v.kind, v.machines) for v in judge(base, new, Rules())}
    assert kinds == {"naive": (Kind.REGRESSION, 0), "aten": (Kind.SAME, 0)}
    moved = summarise([*records({"b": blocks["a"]}), *others])
    (found,) = [v for v in judge(base, moved, Rules()) if v.backend == "naive"]
    assert found.reason == "too few machines: 0 of at least 3 measured both sides"


def test_the_second_estimator_is_compared_over_machines_too():
    """CPU time is the same on each machine, and the machines were disturbed."""
    base, new = (
        summarise(
            [
                record(
                    "naive",
                    (int(time * factor * US),) * 3,
                    block=block,
                    machine=machine,
                    cpu_ns=(int(time * US),) * 3,
                    marked=(0,),
                )
                for block, (machine, time) in enumerate(
                    (machine, time) for machine, blocks in BASE.items() for time in blocks
                )
            ]
        )
        for factor in (1.0, 1.2)
    )
    for paired in (True, False):
        (found,) = judge(base, new, Rules(paired=paired))
        assert found.kind == Kind.INCONCLUSIVE
        assert found.reason.startswith("estimators disagree")


def test_the_document_says_how_many_machines_there_were():
    sides = [
        side_of_run(run(records(times)))
        for times in (BASE, scaled(BASE, dict.fromkeys("abc", 1.1)))
    ]
    comparison = compare_sides(*sides, Rules())
    told = document(comparison)
    assert told["verdicts"][0]["machines"] == 3
    assert "quick was measured on 3 machines" in told["notes"]
    assert told["backends"][0]["blocks"] is None
