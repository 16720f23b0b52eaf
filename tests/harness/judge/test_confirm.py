"""What a second measurement makes of the first one's verdicts."""

import random

from synthetic_runs import blocks, case

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.confirm import confirmed, doubtful, in_doubt, pooled
from lstm_harness.judge.pairing import ALL_CASES
from lstm_harness.judge.verdict import Kind, Rules, Verdict, judge
from lstm_harness.model.plan import Plan

NS = 1_000_000
RULES = Rules(paired=True)
BLOCKS = 8


def measured(factor, seed, spread=0.01, of=None):
    rng = random.Random(seed)
    return blocks(
        "naive", [int(NS * factor * rng.lognormvariate(0, spread)) for _ in range(BLOCKS)], of=of
    )


def twice(first_factor, second_factor, spread=0.01):
    """The verdict after measuring twice; the base is the same throughout."""
    base = [measured(1, 10, spread), measured(1, 11, spread)]
    new = [measured(first_factor, 12, spread), measured(second_factor, 13, spread)]
    alone = [judge(summarise(b), summarise(n), RULES) for b, n in zip(base, new, strict=True)]
    together = judge(summarise(pooled(*base, BLOCKS)), summarise(pooled(*new, BLOCKS)), RULES)
    (found,) = confirmed(*alone, together)
    return found


def test_what_recurs_is_believed_on_all_blocks():
    found = twice(1.2, 1.2)
    assert found.kind == Kind.REGRESSION
    assert found.base_blocks == 2 * BLOCKS
    assert twice(0.8, 0.8).kind == Kind.IMPROVEMENT


def test_what_does_not_recur_is_not_believed():
    found = twice(1.3, 1.0)
    assert found.kind == Kind.INCONCLUSIVE
    assert found.reason.startswith("did not recur: 1.29 at first, then 1.00")
    assert twice(1.0, 1.3).kind == Kind.INCONCLUSIVE


def test_what_recurs_in_too_few_blocks_for_an_interval_is_believed():
    base, new = blocks("naive", [NS, NS]), blocks("naive", [3 * NS, 3 * NS])
    alone = judge(summarise(base), summarise(new), RULES)
    both = [summarise(pooled(side, side, 2)) for side in (base, new)]
    (found,) = confirmed(alone, alone, judge(*both, RULES))
    assert found.kind == Kind.REGRESSION


def test_what_goes_the_other_way_is_not_believed():
    assert twice(1.4, 0.8).kind == Kind.INCONCLUSIVE


def test_what_was_not_settled_may_be_with_twice_the_blocks():
    assert twice(1.0, 1.0, spread=0.035).kind == Kind.SAME


def test_what_was_flagged_or_not_settled_is_measured_again_and_nothing_else():
    steady, slower = case(seq_len=1), case(seq_len=2)
    base = [*measured(1, 1, of=steady), *measured(1, 2, of=slower)]
    new = [*measured(1, 3, of=steady), *measured(1.5, 4, of=slower)]
    base += blocks("aten", [NS] * BLOCKS, saved_bytes=50_000)
    new += blocks("aten", [NS] * BLOCKS, saved_bytes=60_000)
    found = doubtful(judge(summarise(base), summarise(new), RULES))
    assert {(v.backend, v.label, v.measure) for v in found} == {
        ("naive", slower.label(), "time"),
        ("aten", case().label(), "saved_bytes"),
    }


def test_cases_in_doubt_together_are_all_measured_again():
    cases = tuple(case(seq_len=steps) for steps in (1, 2, 3))
    plan = Plan(("naive", "aten"), cases, 8, "cpu", skips={}, absent={})
    together = Verdict("naive", ALL_CASES, {}, Kind.INCONCLUSIVE, cases=3)
    assert in_doubt(plan, [together]).cases == cases
    assert in_doubt(plan, [together]).backends == ("naive",)
    alone = Verdict("naive", cases[1].label(), {}, Kind.INCONCLUSIVE)
    assert in_doubt(plan, [alone]).cases == cases[1:2]


def test_case_that_was_measured_once_keeps_its_verdict():
    verdicts = judge(summarise(measured(1, 1)), summarise(measured(1.5, 2)), RULES)
    assert confirmed(verdicts, [], verdicts) == verdicts
