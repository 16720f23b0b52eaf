"""Who learns fastest and who learns otherwise, from curves that are made up."""

import math
import random
from dataclasses import replace

import pytest
from made_up_training import REFUSED, WORKLOAD, first_losses, learnt, race

from lstm_harness.analysis.courses import course
from lstm_harness.analysis.openings import GROWTH, MEDIAN, ROUNDING
from lstm_harness.analysis.training import agreements, baseline, contestants, ratio
from lstm_harness.model.training import End
from lstm_harness.model.workloads import Goal

CRASHED = End("crashed", "it ended")


def standing(curves, workload=WORKLOAD):
    return {one.backend: one for one in contestants(curves, workload)}


def alone(*curves):
    (one,) = contestants(curves, WORKLOAD)
    return one


def test_seconds_and_steps_to_the_goal_are_of_the_first_point_that_is_as_good():
    one = alone(
        learnt("naive", 0, 0.5, 0.01, 0.2, pace=2),
        learnt("naive", 1, 0.009, pace=3),
        learnt("naive", 2, 0.5, 0.5, 0.5, 0.001, pace=5),
        learnt("naive", 3, 0.5, 0.011, pace=1),
    )
    assert (one.asked, one.done, len(one.reached)) == (4, 4, 3)
    assert vars(one.seconds_to_goal) == {"median": 4, "least": 3, "most": 20}
    assert vars(one.steps_to_goal) == {"median": 200, "least": 100, "most": 400}


def test_a_goal_may_be_one_to_rise_to():
    rising = replace(WORKLOAD, goal=Goal("accuracy", 0.95, higher_is_better=True))
    (one,) = contestants([learnt("naive", 0, 0.5, 0.96, metric="accuracy")], rising)
    assert one.reached[0].step == 200


def test_last_values_are_told_as_their_mean_and_deviation_over_seeds():
    one = alone(learnt("naive", 0, 0.9, 0.1), learnt("naive", 1, 0.3), learnt("naive", 2, 0.2))
    assert one.value == pytest.approx((0.2, 0.1))
    assert one.loss == 0.2
    assert one.predictions_per_second == 5000
    assert alone(learnt("naive", 0, 0.3)).value == (0.3, None)


def test_a_value_that_is_not_finite_leaves_the_mean_unknown_and_is_no_goal():
    one = alone(learnt("naive", 0, 0.3, None), learnt("naive", 1, 0.3, 0.2))
    assert one.value is None
    assert one.loss is None
    assert one.reached == {}


def test_what_was_refused_or_failed_is_no_curve_and_what_goes_on_is_one():
    curves = [
        learnt("aten", 0, end=REFUSED),
        learnt("naive", 0, 0.5, 0.001, end=CRASHED),
        learnt("naive", 1, 0.5, end=False),
        learnt("naive", 2, 0.5, end=End("out_of_time", "60 s are over")),
    ]
    one = alone(*curves)
    assert (one.backend, one.asked, one.done, len(one.curves)) == ("naive", 3, 1, 2)
    assert one.reached == {}


def test_the_most_seeds_at_the_goal_come_first_then_the_least_seconds():
    curves = race({"slow": 9, "fast": 2, "often": 5})
    curves = [each for each in curves if each.curve.seed < 2 or each.curve.backend != "fast"]
    found = contestants([*curves, learnt("fast", 2, 0.5), learnt("never", 0, 0.5)], WORKLOAD)
    assert [(one.backend, one.rank) for one in found] == [
        *(("often", 1), ("slow", 2), ("fast", 3)),
        ("never", None),
    ]


def test_each_cell_has_ranks_of_its_own():
    curves = [*race({"naive": 2, "aten": 1}), *race({"naive": 3, "aten": 4}, cell="gru")]
    found = [(one.cell, one.backend, one.rank) for one in contestants(curves, WORKLOAD)]
    assert found == [
        *(("lstm", "aten", 1), ("lstm", "naive", 2)),
        *(("gru", "naive", 1), ("gru", "aten", 2)),
    ]


def test_ratios_are_paired_by_seed():
    curves = [
        *(learnt("naive", seed, 0.001, pace=pace) for seed, pace in enumerate((4, 60, 900))),
        *(learnt("aten", seed, 0.001, pace=pace) for seed, pace in enumerate((2, 20, 200))),
        learnt("aten", 3, 0.001, pace=1e6),
    ]
    found = standing(curves)
    times = ratio(found["naive"], found["aten"])
    assert times.value == pytest.approx((2 * 3 * 4.5) ** (1 / 3))
    assert 1 < times.low < times.value < times.high
    assert ratio(found["aten"], found["naive"]).value == pytest.approx(1 / times.value)


def test_below_three_seeds_a_ratio_has_no_interval_and_without_a_shared_one_there_is_none():
    found = standing(race({"naive": 6, "aten": 2}, seeds=(0, 1)))
    assert ratio(found["naive"], found["aten"]).value == pytest.approx(3)
    assert math.isnan(ratio(found["naive"], found["aten"]).low)
    found = standing([learnt("naive", 0, 0.001), learnt("aten", 1, 0.001)])
    assert ratio(found["naive"], found["aten"]) is None


def test_a_cheat_that_parts_at_step_3_has_no_rank_however_fast():
    cheats = [
        learnt("cheat", seed, 0.001, pace=0.1, opening=first_losses(seed, 3, 0.01))
        for seed in range(3)
    ]
    found = standing([*race({"naive": 9, "aten": 3}), *cheats])
    assert found["cheat"].learns_otherwise
    assert found["cheat"].parting.apart == pytest.approx(0.01)
    assert found["cheat"].parting.step == 4
    assert found["cheat"].parting.held_against == "naive"
    assert [found[name].rank for name in ("cheat", "aten", "naive")] == [None, 1, 2]


@pytest.mark.parametrize(("by", "otherwise"), [(0.5, False), (2, True)])
@pytest.mark.parametrize("step", [0, 5, 19])
def test_rounding_is_no_cheat_and_grows_with_every_step(step, by, otherwise):
    off = list(first_losses())
    off[step] *= 1 + by * ROUNDING * GROWTH**step
    found = standing([learnt("naive", 0, 0.1), learnt("aten", 0, 0.1, opening=tuple(off))])
    assert found["aten"].learns_otherwise == otherwise
    assert found["aten"].parting.step == step + 1
    assert found["aten"].parting.share == pytest.approx(by, rel=1e-3)
    assert found["naive"].parting is None


def test_one_seed_that_parts_is_enough():
    curves = race({"naive": 9, "aten": 3}, seeds=(0, 1))
    curves += [
        learnt("aten", 2, 0.001, opening=first_losses(2, 3, 1e-3)),
        learnt("naive", 2, 0.001),
    ]
    assert standing(curves)["aten"].parting.apart == pytest.approx(1e-3)


def test_curves_are_held_against_those_of_the_same_seed_and_cell_alone():
    other = first_losses(0, 0, 0.5)
    curves = [
        learnt("naive", 0, 0.1),
        learnt("aten", 1, 0.1),
        learnt("aten", 0, 0.1, cell="gru", opening=other),
        learnt("naive", 0, 0.1, cell="gru", opening=other),
    ]
    found = contestants(curves, WORKLOAD)
    assert [one.parting is None for one in found] == [True, True, False, True]
    assert found[2].parting.apart == 0


def test_without_naive_it_is_aten_and_without_both_the_median():
    curves = [learnt(name, 0, 0.1) for name in ("a", "b")]
    cheat = learnt("cheat", 0, 0.1, opening=first_losses(0, 3, 0.01))
    found = standing([*curves, cheat])
    assert {one.parting.held_against for one in found.values()} == {MEDIAN}
    assert [one.backend for one in found.values() if one.learns_otherwise] == ["cheat"]
    found = standing([*curves, cheat, learnt("aten", 0, 0.1)])
    assert found["cheat"].parting.held_against == "aten"
    crashed = learnt("naive", 0, 0.1, end=CRASHED)
    assert standing([*curves, cheat, crashed])["cheat"].parting.held_against == MEDIAN


@pytest.mark.parametrize(
    ("opening", "parting"), [((1.0, None), math.inf), ((1.0, 0.5), 0.0), ((1.0,), 0.0)]
)
def test_a_loss_that_is_not_finite_parts_and_what_is_shorter_does_not(opening, parting):
    found = standing(
        [
            learnt("naive", 0, 0.1, opening=(1.0, 0.5)),
            learnt("aten", 0, 0.1, opening=opening),
        ]
    )
    assert found["aten"].parting.apart == parting


def agreement(*curves):
    (found,) = agreements(contestants(curves, WORKLOAD), WORKLOAD.goal)
    return found


def test_backends_agree_where_their_means_differ_by_less_than_seeds_do():
    near = [learnt("naive", seed, 0.1 + seed / 100) for seed in range(3)]
    found = agreement(*near, *(learnt("aten", seed, 0.11 + seed / 100) for seed in range(3)))
    assert found.spread == pytest.approx(0.01)
    assert found.gap == pytest.approx(0.01)
    assert found.holds
    # Student's t of 4 degrees of freedom, 0.5% on either side: 4.604.
    assert found.explained == pytest.approx(4.604 * 0.01 * (2 / 3) ** 0.5, rel=1e-3)
    found = agreement(*near, *(learnt("aten", seed, 0.14 + seed / 100) for seed in range(3)))
    assert found.means == pytest.approx({"naive": 0.11, "aten": 0.15})
    assert not found.holds


def test_of_backends_that_learn_the_same_few_are_told_not_to_agree():
    chance = random.Random(0)
    drawn = [
        agreement(*(learnt(name, s, chance.gauss(0.5, 0.1)) for name in "abc" for s in range(4)))
        for _ in range(300)
    ]
    assert 0 < sum(not each.holds for each in drawn) <= 9


def test_they_are_compared_at_the_last_step_and_the_seeds_that_all_have():
    slow = [learnt("naive", seed, 0.5, 0.4, pace=9) for seed in range(2)]
    fast = [learnt("aten", seed, 0.5, 0.4, 0.2, 0.001) for seed in range(3)]
    found = agreement(*slow, *fast)
    assert (found.step, found.seeds, found.gap) == (200, (0, 1), 0)


def test_those_that_came_to_an_end_are_compared_by_themselves_first():
    late = End("out_of_time", "60 s are over")
    slow = [learnt("naive", seed, 0.5, 0.4, end=late) for seed in range(2)]
    fast = [learnt(name, s, 0.5, 0.4, 0.1 + s, 0.001) for name in ("aten", "fast") for s in (0, 1)]
    curves = contestants([*slow, *fast], WORKLOAD)
    found = agreements(curves, WORKLOAD.goal)
    assert [(each.step, list(each.means)) for each in found] == [
        (400, ["aten", "fast"]),
        (200, ["aten", "fast", "naive"]),
    ]


def test_of_one_seed_no_spread_is_known():
    found = agreement(learnt("naive", 0, 0.1), learnt("aten", 0, 0.2))
    assert (found.gap, found.spread, found.holds) == (0.1, None, None)


def test_a_mean_that_is_not_finite_agrees_with_nothing():
    curves = race({"naive": 1, "aten": 1}, seeds=(0, 1))
    found = agreement(*curves[:3], learnt("aten", 1, 0.11, 0.05, None))
    assert found.means["aten"] is None
    assert found.holds is False


def test_who_learns_otherwise_does_not_count_and_nobody_agrees_alone():
    cheat = learnt("cheat", 0, 0.9, opening=first_losses(0, 3, 0.01))
    found = agreement(learnt("naive", 0, 0.1), cheat, learnt("aten", 0, 0.1))
    assert list(found.means) == ["naive", "aten"]
    assert agreements(contestants([learnt("naive", 0, 0.1), cheat], WORKLOAD), WORKLOAD.goal) == []


def test_a_course_is_the_median_as_far_as_all_seeds_came_and_single_ones_beyond():
    one = alone(
        learnt("naive", 0, 0.9, 0.5, pace=1),
        learnt("naive", 1, 0.8, 0.4, 0.3, 0.1, pace=2),
        learnt("naive", 2, 0.7, 0.6, 0.2, pace=4),
    )
    found = course(one, lambda point: point.loss)
    assert found.steps == (100, 200)
    assert found.seconds == (2, 4)
    assert (found.low, found.median, found.high) == ((0.7, 0.4), (0.8, 0.5), (0.9, 0.6))
    assert [(way.steps, way.seconds, way.values) for way in found.beyond] == [
        ((200, 300, 400), (4, 6, 8), (0.4, 0.3, 0.1)),
        ((200, 300), (8, 12), (0.6, 0.2)),
    ]


def test_a_course_is_unknown_where_a_seed_is_not_finite():
    one = alone(learnt("naive", 0, 0.9, None), learnt("naive", 1, 0.8, 0.4))
    assert course(one, lambda point: point.loss).median == (pytest.approx(0.85), None)


def test_the_baseline_is_the_median_of_those_that_are_told():
    curves = [learnt("naive", seed, 0.1, baseline=seed / 10) for seed in (1, 2, 4)]
    curves += [learnt("naive", 5, 0.1, baseline=None), learnt("naive", 6, 0.1, end=False)]
    assert baseline(curves) == 0.2
    assert baseline([learnt("naive", 0, end=REFUSED)]) is None
