"""Verdicts on synthetic runs with known truth, and on runs that no honest machine makes."""

import math
import random

import numpy as np
import pytest
from synthetic_runs import blocks, case, record

from lstm_harness.analysis.summary import summarise
from lstm_harness.judge.verdict import Kind, Rules, judge

NS = 1_000_000
PAIRED = Rules(paired=True)


def verdicts(base, new, rules=PAIRED, **more):
    return judge(summarise(base), summarise(new), rules, **more)


def only(base, new, rules=PAIRED, **more):
    (found,) = verdicts(base, new, rules, **more)
    return found


def side(factors, spread=0.005, seed=0, **fields):
    rng = random.Random(seed)
    medians = [int(NS * factor * rng.lognormvariate(0, spread)) for factor in factors]
    return blocks("naive", medians, **fields)


class TestTimes:
    @pytest.mark.parametrize("rules", [PAIRED, Rules()])
    @pytest.mark.parametrize(
        ("factor", "kind"),
        [
            (1.0, Kind.SAME),
            (1.02, Kind.SAME),
            (1.1, Kind.REGRESSION),
            (2.0, Kind.REGRESSION),
            (0.9, Kind.IMPROVEMENT),
            (0.3, Kind.IMPROVEMENT),
        ],
    )
    def test_quiet_blocks_tell_what_is_true(self, rules, factor, kind):
        found = only(side([1] * 8), side([factor] * 8, seed=1), rules)
        assert found.kind == kind
        assert found.low < factor < found.high
        assert found.ratio == pytest.approx(factor, rel=0.01)

    def test_exactly_at_the_margin_nobody_can_tell(self):
        found = only(side([1] * 8), side([1.05] * 8, seed=1))
        assert found.kind == Kind.INCONCLUSIVE
        assert "too noisy" in found.reason

    def test_few_noisy_blocks_say_how_many_more_would_settle_it(self):
        few = only(side([1] * 5, 0.06), side([1.15] * 5, 0.06, seed=7))
        assert few.kind == Kind.INCONCLUSIVE
        many = 5 + few.more_blocks
        settled = [
            only(side([1] * many, 0.06, seed), side([1.15] * many, 0.06, seed + 100)).kind
            for seed in range(20)
        ]
        assert settled.count(Kind.REGRESSION) >= 10

    def test_pairs_cancel_a_drift_that_hits_both_sides(self):
        drift = [1 + 0.2 * block for block in range(8)]
        slower = [1.15 * factor for factor in drift]
        assert only(side(drift), side(slower, seed=1)).kind == Kind.REGRESSION
        unpaired = only(side(drift), side(slower, seed=1), Rules())
        assert unpaired.kind == Kind.INCONCLUSIVE

    def test_only_blocks_that_both_sides_have_are_paired(self):
        base = side([1] * 6)
        new = [record("naive", (int(1.2 * NS),) * 3, block=block) for block in (2, 3, 4, 5, 9)]
        found = only(base, new)
        assert (found.base_blocks, found.new_blocks) == (4, 4)

    def test_difference_below_the_absolute_floor_is_not_worth_a_word(self):
        base, new = blocks("naive", [2_000] * 8), blocks("naive", [2_600] * 8)
        assert only(base, new).kind == Kind.SAME
        assert only(base, new, Rules(paired=True, floor_ns=100)).kind == Kind.REGRESSION

    def test_this_machines_own_noise_widens_the_margin(self):
        base, new = side([1] * 8), side([1.1] * 8, seed=1)
        first = only(base, new)
        key = ("naive", *first.case.values())
        assert only(base, new, noise={key: 0.2}).kind == Kind.SAME
        assert only(base, new, noise={key: 0.2}).margin == 0.2
        assert only(base, new, noise={key: 0.2}).reason == (
            "this machine's own noise for the case is 20.0%"
        )
        assert only(base, base, noise={key: 0.2}).reason == ""
        assert only(base, new, noise={key: 0.01}).margin == 0.05
        assert only(base, new, noise={key: 0.2}).margin_from == "noise"
        assert only(base, new, noise={key: math.nan}).margin_from == "asked"

    def test_disturbed_samples_prove_nothing(self):
        calm = side([1] * 8)
        disturbed = side([1.3] * 8, seed=1, marked=(0, 1))
        found = only(calm, disturbed)
        assert found.kind == Kind.INCONCLUSIVE
        assert "67% of the samples disturbed or throttled (new)" in found.reason
        same = only(disturbed, side([1.3] * 8, seed=1, marked=(0, 1)))
        assert same.kind == Kind.INCONCLUSIVE

    @pytest.mark.parametrize("slower_first", [False, True])
    def test_time_that_no_cpu_was_spent_on_is_the_neighbours_where_there_are_any(
        self, slower_first
    ):
        spent = {"cpu_ns": (NS,) * 3}
        quick, slow = side([1] * 8, **spent), side([1.3] * 8, seed=1, **spent, marked=(2,))
        found = only(slow, quick) if slower_first else only(quick, slow)
        assert found.kind == Kind.INCONCLUSIVE
        assert (
            found.reason == "estimators disagree: CPU time is the same, and 33% of the samples "
            "disturbed"
        )
        longer = {"cpu_ns": (int(1.3 * NS),) * 3, "marked": (2,)}
        assert only(quick, side([1.3] * 8, **longer)).kind == Kind.REGRESSION

    def test_a_backend_that_waits_or_has_lost_a_thread_is_slower(self):
        """Its CPU time is what it was, and nobody disturbed it."""
        spent = {"cpu_ns": (NS,) * 3}
        quick, slow = side([1] * 8, **spent), side([1.3] * 8, seed=1, **spent)
        assert only(quick, slow).kind == Kind.REGRESSION
        assert only(slow, quick).kind == Kind.IMPROVEMENT

    def test_clock_that_fell_is_not_the_kernels_fault(self):
        of = case(device="cuda")
        found = only(
            side([1] * 8, sm_clock_mhz=1800.0, of=of),
            side([1.2] * 8, seed=1, sm_clock_mhz=1500.0, of=of),
        )
        assert found.kind == Kind.INCONCLUSIVE
        assert "estimators disagree: in clock cycles" in found.reason

    @pytest.mark.parametrize("rules", [PAIRED, Rules()])
    def test_the_change_told_is_that_of_the_times_told(self, rules):
        """Of wild blocks the medians would say otherwise."""
        wild = side([1, 1.01, 0.99, 3, 0.98, 1.02], seed=1)
        found = only(side([1] * 6), wild, rules)
        assert found.new / found.base == pytest.approx(found.ratio)
        assert found.base == pytest.approx(NS, rel=0.01)


class TestOddTimes:
    def test_two_modes_are_never_called_the_same(self):
        modes = [1.0, 1.4] * 4
        found = only(side(modes), side(modes[::-1], seed=1))
        assert found.kind == Kind.INCONCLUSIVE

    def test_one_wild_block_is_never_called_the_same_nor_flagged(self):
        wild = side([1, 1, 1, 8, 1, 1, 1, 1], seed=1)
        assert only(side([1] * 8), wild).kind == Kind.INCONCLUSIVE

    def test_drift_on_one_side_alone_is_not_the_same(self):
        drifting = side([1 + 0.02 * block for block in range(8)], seed=1)
        assert only(side([1] * 8), drifting).kind == Kind.INCONCLUSIVE

    def test_ties_are_judged_by_their_value(self):
        tied = blocks("naive", [NS] * 5)
        assert only(tied, tied).kind == Kind.SAME
        assert only(tied, blocks("naive", [2 * NS] * 5)).kind == Kind.REGRESSION
        assert only(tied, blocks("naive", [NS // 2] * 5)).kind == Kind.IMPROVEMENT

    @pytest.mark.parametrize("rules", [PAIRED, Rules()])
    @pytest.mark.parametrize("count", [1, 2])
    def test_too_few_blocks_tell_nothing(self, rules, count):
        found = only(side([1] * count), side([3] * count), rules)
        assert found.kind == Kind.INCONCLUSIVE
        assert "too few blocks" in found.reason
        assert math.isnan(found.ratio)
        assert found.more_blocks == 3 - count

    @pytest.mark.parametrize("time", [math.nan, math.inf, 0.0, -5.0])
    def test_what_is_not_a_time_is_said_to_be_none(self, time):
        base, new = summarise(side([1] * 5)), summarise(side([1] * 5))
        new.at[0, "block_medians_ns"] = (*new.at[0, "block_medians_ns"][:4], time)
        (found,) = judge(base, new, PAIRED)
        assert found.kind == Kind.INCONCLUSIVE
        assert "is not a time (new)" in found.reason

    @pytest.mark.parametrize("rules", [PAIRED, Rules()])
    @pytest.mark.parametrize("time", [math.nan, 0.0, -5.0])
    def test_baseline_of_nothing_but_no_times_crashes_nothing(self, rules, time):
        base, new = summarise(side([1] * 5)), summarise(side([1] * 5))
        base.at[0, "block_medians_ns"] = (time,) * 5
        base.at[0, "median_ns"] = time
        (found,) = judge(base, new, rules)
        assert found.kind == Kind.INCONCLUSIVE
        assert "is not a time (base)" in found.reason

    @pytest.mark.parametrize("rules", [PAIRED, Rules()])
    def test_one_sample_a_block_is_judged_as_any_other(self, rules):
        def single(factor):
            return [record("naive", (int(NS * factor),), block=b) for b in range(5)]

        assert only(single(1), single(1), rules).kind == Kind.SAME
        assert only(single(1), single(1.2), rules).kind == Kind.REGRESSION

    def test_times_that_span_all_floats_give_an_interval_without_end(self):
        base, new = summarise(side([1] * 3)), summarise(side([1] * 3))
        new.at[0, "block_medians_ns"] = (1e-300, 1e300, 1.0)
        (found,) = judge(base, new, PAIRED)
        assert found.kind == Kind.INCONCLUSIVE
        assert found.high == math.inf

    def test_other_cases_on_each_side_are_missing_and_new(self):
        found = verdicts(side([1] * 5, of=case(seq_len=1)), side([1] * 5, of=case(seq_len=2)))
        assert [v.kind for v in found] == [Kind.MISSING, Kind.NEW]

    def test_nothing_against_nothing_is_nothing(self):
        assert verdicts([], []) == []


class TestStanding:
    def test_wrong_answer_outranks_any_time(self):
        wrong = [record("naive", status="incorrect", block=b) for b in range(3)]
        found = only(side([1] * 3), wrong)
        assert found.kind == Kind.INCORRECT
        assert found.reason == "incorrect on purpose"

    def test_what_is_gone_is_missing_and_what_came_is_new(self):
        (gone,) = verdicts(side([1] * 3), [])
        assert gone.kind == Kind.MISSING
        (came,) = verdicts([], side([1] * 3))
        assert came.kind == Kind.NEW

    def test_what_no_longer_runs_is_missing(self):
        crashed = [record("naive", status="crashed", block=b) for b in range(3)]
        found = only(side([1] * 3), crashed)
        assert found.kind == Kind.MISSING
        assert found.reason == "now crashed: crashed on purpose"

    def test_what_never_ran_is_skipped(self):
        never = [record("naive", status="unsupported", block=b) for b in range(3)]
        assert only(never, never).kind == Kind.SKIPPED
        assert only(never, side([1] * 3)).kind == Kind.NEW

    def test_base_that_failed_in_a_block_of_the_same_go_hides_nothing(self):
        """In `ab` it is a measurement that failed, in a stored baseline a fact."""
        crashed = [*side([1] * 7), record("naive", status="crashed", block=7)]
        found = only(crashed, side([3] * 8))
        assert (found.kind, found.status) == (Kind.INCONCLUSIVE, "crashed")
        assert found.reason == "in the baseline crashed: crashed on purpose"
        stored = only(crashed, side([3] * 8), Rules())
        assert (stored.kind, stored.status) == (Kind.NEW, "ok")

    def test_another_precision_is_another_problem(self):
        base = side([1] * 5, of=case(precision="tf32"))
        kinds = {found.kind for found in verdicts(base, side([1] * 5))}
        assert kinds == {Kind.INCOMPARABLE}
        assert {found.reason for found in verdicts(base, side([1] * 5))} == {
            "precision tf32 in the base, ieee in the new"
        }

    def test_precision_dropped_beside_one_that_stayed_is_missing(self):
        both = [*side([1] * 5), *side([1] * 5, of=case(precision="tf32"))]
        kinds = {v.case["precision"]: v.kind for v in verdicts(both, side([1] * 5))}
        assert kinds == {"tf32": Kind.MISSING, "ieee": Kind.SAME}
        kinds = {v.case["precision"]: v.kind for v in verdicts(side([1] * 5), both)}
        assert kinds == {"tf32": Kind.NEW, "ieee": Kind.SAME}

    def test_precision_that_took_the_place_of_one_of_two_is_new_and_the_other_missing(self):
        half = case(dtype="bfloat16")
        base = [*side([1] * 5), *side([1] * 5, of=case(precision="tf32"))]
        new = [*side([1] * 5), *side([1] * 5, of=half)]
        kinds = {(v.case["dtype"], v.case["precision"]): v.kind for v in verdicts(base, new)}
        assert kinds == {
            ("float32", "ieee"): Kind.SAME,
            ("float32", "tf32"): Kind.MISSING,
            ("bfloat16", "ieee"): Kind.NEW,
        }
        other = [*side([1] * 5, of=case(precision="tf32")), *side([1] * 5, of=half)]
        kinds = [v.kind for v in verdicts(other, side([1] * 5))]
        assert kinds == [Kind.MISSING, Kind.MISSING, Kind.NEW]

    def test_another_call_is_never_compared(self):
        plain, swapped = side([1] * 5), side([3] * 5, of=case(batch_first=True))
        assert [v.kind for v in verdicts(plain, swapped)] == [Kind.MISSING, Kind.NEW]
        two, dropped = (side([1] * 5, of=case(num_layers=2, dropout=p)) for p in (0.0, 0.3))
        assert [v.kind for v in verdicts(two, dropped)] == [Kind.MISSING, Kind.NEW]
        found = verdicts(plain, side([3] * 5, of=case(autocast="bfloat16")))
        assert {v.kind for v in found} == {Kind.INCOMPARABLE}
        assert {v.reason for v in found} == {"autocast none in the base, bfloat16 in the new"}
        both = [*plain, *swapped]
        kinds = {v.case["batch_first"]: v.kind for v in verdicts(both, both)}
        assert kinds == {False: Kind.SAME, True: Kind.SAME}

    def test_what_another_machine_lacks_is_not_missing(self):
        (found,) = verdicts(side([1] * 5), [], differences=["gpu A in the base, none in the new"])
        assert found.kind == Kind.INCOMPARABLE

    def test_the_new_sides_status_is_kept(self):
        crashed = [record("naive", status="crashed", block=b) for b in range(3)]
        assert only(side([1] * 3), crashed).status == "crashed"
        assert only(side([1] * 3), side([1] * 3)).status == "ok"
        (gone,) = verdicts(side([1] * 3), [])
        assert gone.status == ""

    def test_another_machine_compares_nothing_but_answers(self):
        wrong = [record("aten", status="incorrect", block=b) for b in range(5)]
        base = [*side([1] * 5), *blocks("aten", [NS] * 5)]
        found = verdicts(
            base, [*side([2] * 5), *wrong], differences=["cpu A in the base, B in the new"]
        )
        assert [v.kind for v in found] == [Kind.INCORRECT, Kind.INCOMPARABLE]
        assert found[1].reason == "cpu A in the base, B in the new"


class TestMemory:
    GPU = case(device="cuda")

    EXACT = Rules(paired=True, memory_margin=0.0)

    def test_memory_is_judged_apart(self):
        base = side([1] * 5, peak_bytes=1000, saved_bytes=500, of=self.GPU)
        new = side([1] * 5, seed=1, peak_bytes=1001, saved_bytes=499, of=self.GPU)
        found = {v.measure: v for v in verdicts(base, new, self.EXACT)}
        assert found["time"].kind == Kind.SAME
        assert found["peak_bytes"].kind == Kind.REGRESSION
        assert (found["peak_bytes"].base, found["peak_bytes"].new) == (1000, 1001)
        assert found["saved_bytes"].kind == Kind.IMPROVEMENT

    @pytest.mark.parametrize(
        ("before", "after", "kind"),
        [
            # Of little memory 4 KiB, of much 1%.
            (1000, 1000 + 4096, None),
            (1000, 1000 + 4097, Kind.REGRESSION),
            (1000 + 4096, 1000, None),
            (1000 + 4097, 1000, Kind.IMPROVEMENT),
            (1_000_000, 1_010_000, None),
            (1_000_000, 1_010_001, Kind.REGRESSION),
            (1_010_000, 1_000_000, None),
            (1_010_001, 1_000_000, Kind.IMPROVEMENT),
            (0, 4096, None),
            (0, 4097, Kind.REGRESSION),
        ],
    )
    @pytest.mark.parametrize("measure", ["peak_bytes", "saved_bytes"])
    def test_memory_has_a_margin_of_its_own(self, measure, before, after, kind):
        base, new = (side([1] * 5, of=self.GPU, **{measure: size}) for size in (before, after))
        found = [v for v in verdicts(base, new) if v.measure == measure]
        assert [v.kind for v in found] == ([kind] if kind else [])
        assert all((v.margin, v.margin_from) == (0.01, "memory") for v in found)

    @pytest.mark.parametrize(
        ("peak", "kind"),
        [
            (1_049_000, None),
            (1_051_000, Kind.REGRESSION),
            (953_000, None),
            (951_000, Kind.IMPROVEMENT),
        ],
    )
    @pytest.mark.parametrize("rules", [PAIRED, EXACT])
    def test_a_cpus_peak_is_judged_by_the_margin_of_times(self, rules, peak, kind):
        of = {"peak_bytes": 1_000_000}, {"peak_bytes": peak}
        found = verdicts(*(side([1] * 5, **each) for each in of), rules)
        assert [v.kind for v in found if v.measure == "peak_bytes"] == ([kind] if kind else [])

    def test_a_cpus_peak_is_judged_by_the_margin_of_memory_where_that_is_wider(self):
        wide = Rules(paired=True, memory_margin=0.2)
        sides = side([1] * 5, peak_bytes=1_000_000), side([1] * 5, peak_bytes=1_190_000)
        assert [v.measure for v in verdicts(*sides, wide)] == ["time"]

    def test_blocks_that_disagree_must_all_be_beyond_the_other_sides(self):
        def varying(*peaks):
            of = self.GPU
            return [record("naive", block=b, peak_bytes=p, of=of) for b, p in enumerate(peaks)]

        before, same, above = (900, 1000, 950), (1000, 1100, 1200), (1001, 1100, 1200)
        assert len(verdicts(varying(*before), varying(*same), self.EXACT)) == 1
        found = verdicts(varying(*before), varying(*above), self.EXACT)[0]
        assert (found.kind, found.base, found.new) == (Kind.REGRESSION, 1000, 1200)
        assert found.low == pytest.approx(1.001)

    def test_memory_out_of_nothing_comes_first(self):
        base = [*side([1] * 5, saved_bytes=0), *blocks("aten", [NS] * 5)]
        new = [*side([1] * 5, saved_bytes=8), *blocks("aten", [2 * NS] * 5)]
        found = verdicts(base, new, self.EXACT)
        assert (found[0].measure, found[0].ratio) == ("saved_bytes", math.inf)

    def test_same_or_unknown_memory_is_not_spoken_of(self):
        assert len(verdicts(side([1] * 5, peak_bytes=9), side([1] * 5, peak_bytes=9))) == 1
        assert len(verdicts(side([1] * 5), side([1] * 5, peak_bytes=9))) == 1


class TestGrids:
    def test_worst_comes_first(self):
        names = ("same", "slow", "slower", "fast")
        base = [r for name in names for r in blocks(name, [NS] * 5)]
        factors = (1.0, 1.5, 2.0, 0.5)
        new = [
            r
            for name, f in zip(names, factors, strict=True)
            for r in blocks(name, [int(f * NS)] * 5)
        ]
        order = [(v.backend, v.kind) for v in verdicts(base, new)]
        assert order == [
            ("slower", Kind.REGRESSION),
            ("slow", Kind.REGRESSION),
            ("fast", Kind.IMPROVEMENT),
            ("same", Kind.SAME),
        ]

    def test_one_lucky_case_among_many_is_not_flagged(self):
        """Alone it would be: its p is just below 0.05."""
        rng = np.random.default_rng(1)
        cases = [case(seq_len=steps) for steps in range(1, 101)]
        lucky = np.log(1.05) + np.array([0.045, 0.05, 0.01, 0.025, 0.0])
        alone = only(_records(cases[:1], [np.zeros(5)]), _records(cases[:1], [lucky]))
        assert alone.kind == Kind.REGRESSION
        base = [rng.normal(0, 0.01, 5) for _ in cases]
        new = [base[0] + lucky, *(logs + rng.normal(0, 0.01, 5) for logs in base[1:])]
        found = verdicts(_records(cases, base), _records(cases, new))
        assert Kind.REGRESSION not in {v.kind for v in found}
        (unproven,) = (v for v in found if v.case["seq_len"] == 1)
        assert unproven.reason.startswith(("beyond the margin by itself", "too noisy"))
        assert unproven.more_blocks > 0

    def test_cases_in_doubt_help_no_other_to_be_flagged(self):
        """Disturbed and far slower: they are not believed, and so must not pay for others."""
        cases = [case(seq_len=steps) for steps in range(1, 101)]
        edge = np.log(1.05) + np.array([0.045, 0.05, 0.01, 0.06, 0.015])
        still = [np.zeros(5) for _ in cases]
        new = _records(cases[:50], [edge, *still[:49]])
        calm = _records(cases[50:], still[:50])
        wild = _records(
            cases[50:], [np.full(5, np.log(2)) + 0.01 * np.arange(5)] * 50, marked=(0, 1)
        )
        for rest in (calm, wild):
            found = verdicts(_records(cases, still), [*new, *rest])
            assert Kind.REGRESSION not in {v.kind for v in found}
        assert sum(math.isnan(v.q) for v in found) == 50

    def test_a_backends_cases_are_judged_together_where_blocks_are_paired(self):
        """Each case is a tenth slower in noise of its own, which their mean does not have."""
        rng = np.random.default_rng(3)
        cases = [case(seq_len=steps) for steps in range(1, 31)]
        still = [rng.normal(0, 0.1, 6) for _ in cases]
        slow = [rng.normal(np.log(1.12), 0.1, 6) for _ in cases]
        sides_ = _records(cases, still), _records(cases, slow)
        (found,) = (v for v in verdicts(*sides_) if v.cases > 1)
        assert (found.kind, found.cases) == (Kind.REGRESSION, 30)
        assert found.ratio == pytest.approx(1.12, rel=0.03)
        assert (found.case["seq_len"], found.case["cell"]) == (None, "lstm")
        assert all(v.cases == 1 for v in verdicts(*sides_, Rules()))
        assert all(
            v.cases == 1 for v in verdicts(*(_records(cases[:2], s[:2]) for s in (still, slow)))
        )

    def test_cases_in_doubt_are_no_part_of_all_together(self):
        cases = [case(seq_len=steps) for steps in range(1, 7)]
        still = [np.zeros(5) + 0.001 * np.arange(5)] * 6
        wild = _records(cases[4:], [np.full(5, 1.0)] * 2, marked=(0, 1))
        new = [*_records(cases[:4], still[:4]), *wild]
        (found,) = (v for v in verdicts(_records(cases, still), new) if v.cases > 1)
        assert (found.kind, found.cases) == (Kind.SAME, 4)
        most = [*_records(cases[:2], still[:2]), *_records(cases[2:], still[:4], marked=(0, 1))]
        assert all(v.cases == 1 for v in verdicts(_records(cases, still), most))

    def test_proof_that_the_correction_took_is_said_to_be_lacking(self):
        """Beyond the margin with all of its interval, and yet one of 100."""
        cases = [case(seq_len=steps) for steps in range(1, 101)]
        clear = np.log(1.05) + np.array([0.045, 0.05, 0.03, 0.06, 0.035])
        still = [np.zeros(5) for _ in cases]
        found = verdicts(_records(cases, still), _records(cases, [clear, *still[1:]]))
        assert found[0].kind == Kind.INCONCLUSIVE
        assert found[0].low > 1.05
        assert "not proven among 100 cases" in found[0].reason


def _records(cases, logs, **fields):
    return [
        r
        for one, of_case in zip(cases, logs, strict=True)
        for r in blocks("naive", [int(NS * math.exp(x)) for x in of_case], of=one, **fields)
    ]
