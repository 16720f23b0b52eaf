"""What is said of trainings that are made up."""

import json
from importlib.resources import files

import jsonschema
import pytest
from made_up_training import MANIFEST, REFUSED, WORKLOAD, first_losses, learnt, race

from lstm_harness.analysis.training import contestants
from lstm_harness.console import training as told
from lstm_harness.console import workloads
from lstm_harness.model.training import End
from lstm_harness.model.workloads import WORKLOADS

CHEATS = [
    learnt("cheat", seed, 0.17, 0.16, pace=0.1, opening=first_losses(seed, 3, 0.01))
    for seed in range(3)
]
TIMES = "\N{MULTIPLICATION SIGN}"
GOAL = "the goal, mean squared error at most 0.01"


def sentence(*curves):
    return told.sentence(WORKLOAD, curves)


def document(*curves):
    text = (files("lstm_harness.model") / "schemas" / "train.schema.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads(json.dumps(told.document(WORKLOAD, curves, MANIFEST), allow_nan=False))
    jsonschema.Draft202012Validator(schema).validate(found)
    return found


def test_the_sentence_tells_who_is_first_by_how_much_and_that_all_agree():
    assert sentence(*race({"naive": 30, "aten": 6, "numba_cpu": 2})) == (
        f"With lstm, numba_cpu is first at {GOAL}, after 6.00 s of training (median of 3 seeds); "
        f"aten takes 3.00{TIMES} as long; naive takes 15.0{TIMES} as long. "
        "With lstm, numba_cpu, aten and naive agree within the spread of seeds: at step 300, the "
        "last that they all came to, their means lie 0 apart, and seeds explain 3.7e-04."
    )


def test_a_cheat_is_named_and_is_not_first():
    said = sentence(*race({"naive": 30, "aten": 6}), *CHEATS)
    assert said.startswith("With lstm, aten is first")
    assert (
        "cheat learns otherwise with lstm, and has no rank: at step 4 its loss parts from naive's "
        "by 1.0e-02, where rounding explains 1.7e-05; it ends at 0.160."
    ) in said
    assert "With lstm, aten and naive agree" in said


def test_backends_that_end_apart_do_not_agree():
    curves = [learnt("naive", seed, 0.1 + seed / 100) for seed in range(3)]
    curves += [learnt("aten", seed, 0.2 + seed / 100) for seed in range(3)]
    assert "naive and aten do not agree within the spread of seeds: at step 100" in sentence(
        *curves
    )


@pytest.mark.parametrize(
    ("curves", "says"),
    [
        ([], "Nothing could be trained."),
        ([learnt("aten", 0, end=REFUSED)], "Nothing could be trained."),
        (
            [learnt("naive", 0, 0.2), learnt("naive", 1, 0.4)],
            f"With lstm, nobody comes to {GOAL}: the best end is naive's, 0.300. "
            "Only naive trained: nobody to hold it against.",
        ),
        (
            [learnt("naive", 0, 0.2), learnt("aten", 0, 0.1)],
            f"With lstm, nobody comes to {GOAL}: the best end is aten's, 0.100. "
            "With lstm, naive and aten have one seed, which tells no spread: at step 100, the "
            "last that they all came to, their means lie 0.10 apart.",
        ),
        (
            [learnt("naive", 0, None), learnt("aten", 0, None)],
            f"With lstm, nobody comes to {GOAL}. With lstm, naive and aten do not agree: at step "
            "100, the last that they all came to, not every mean is finite.",
        ),
        (
            [learnt("aten", 0, 0.001, pace=2), learnt("aten", 1, 0.5)],
            f"With lstm, aten comes to {GOAL}, after 2.00 s of training (from 1 of 2 seeds). "
            "Only aten trained: nobody to hold it against.",
        ),
        (
            [learnt("aten", 0, 0.001), learnt("naive", 1, 0.001)],
            f"With lstm, aten is first at {GOAL}, after 1.00 s of training (1 seed); "
            "naive comes there from other seeds. "
            "With lstm, aten and naive have no step of one seed in common.",
        ),
        (
            [learnt("aten", 0, 0.001), learnt("naive", 0, 0.001, cell="gru")],
            f"With lstm, aten comes to {GOAL}, after 1.00 s of training (1 seed). "
            f"With gru, naive comes to {GOAL}, after 1.00 s of training (1 seed). "
            "With lstm, aten has nobody to agree with. With gru, naive has nobody to agree with.",
        ),
    ],
)
def test_what_is_not_known_is_said(curves, says):
    assert sentence(*curves) == says


def test_who_does_not_come_to_the_goal_or_not_from_every_seed_is_told():
    lost = learnt("naive", 2).curve
    curves = [each for each in race({"naive": 30, "aten": 6}) if each.curve != lost]
    said = sentence(*curves, learnt("naive", 2, 0.5), *(learnt("late", s, 0.5) for s in range(3)))
    told_last = "as long, from 2 of 3 seeds; late does not come there."
    assert f"naive takes 5.00{TIMES} {told_last}" in said


def test_a_lead_that_seeds_do_not_bear_out_is_none():
    paces = {"naive": (1.1, 1.0, 1.05), "aten": (1.0, 1.1, 1.0)}
    curves = [
        learnt(name, seed, 0.001, pace=pace)
        for name, own in paces.items()
        for seed, pace in enumerate(own)
    ]
    assert "; naive ties with it (1.0" in sentence(*curves)


def test_a_row_a_contestant_then_who_did_not_end_and_why(capsys):
    curves = [*race({"naive": 30, "aten": 6}), *CHEATS, learnt("cudnn", 0, end=REFUSED)]
    curves += [learnt("late", s, 0.5, end=End("out_of_time", "60 s are over")) for s in (0, 1)]
    told.write(WORKLOAD, curves)
    answer, *rows = capsys.readouterr().out.splitlines()
    assert answer == sentence(*curves)
    rows = [row for row in rows if not row.startswith(" ")]
    assert rows[1].split()[:8] == ["1", "aten", "lstm", "3", "3", "18.0", "300", "0.00910"]
    assert rows[-2:] == [
        "cudnn, lstm, seed 0: unsupported: not this one",
        "late, lstm, seeds 0, 1: out_of_time: 60 s are over",
    ]


def test_a_contestants_row_tells_its_spread():
    paces = enumerate((2.0, 3.0, 7.0))
    curves = [learnt("aten", seed, 0.001 * (seed + 1), pace=pace) for seed, pace in paces]
    (one,) = contestants([*curves, learnt("aten", 3, 0.494, end=False)], WORKLOAD)
    assert told.cells(one) == [
        *("1", "aten", "lstm", "3 of 4", "3 of 4", "3.00 (2.00 to 7.00)", "100"),
        *("0.125 ± 0.25", "0.00250", "2.08 k", ""),
    ]
    assert len(told.columns(WORKLOAD)) == len(told.cells(one))


def test_the_document_has_every_point_and_what_came_of_them():
    curves = [*race({"naive": 30, "aten": 6}), *CHEATS, learnt("cudnn", 0, end=REFUSED)]
    found = document(*curves)
    assert found["sentence"] == sentence(*curves)
    by_name = {one["backend"]: one for one in found["contestants"]}
    assert list(by_name) == ["aten", "naive", "cheat"]
    assert by_name["naive"]["ratio_to_first"] == pytest.approx(5)
    assert by_name["naive"]["ratio_interval"] == pytest.approx([5, 5])
    assert by_name["cheat"]["rank"] is by_name["cheat"]["ratio_to_first"] is None
    assert by_name["cheat"]["learns_otherwise"]
    (agreement,) = found["agreements"]
    assert agreement["holds"]
    assert len(found["curves"]) == len(curves)
    assert [point["held_out"] for point in found["curves"][0]["points"]] == [
        dict(point.held_out) for point in curves[0].points
    ]


@pytest.mark.parametrize(
    "curves",
    [
        [],
        [learnt("naive", 0, None, end=False)],
        [learnt("naive", 0, 0.1), learnt("aten", 0, 0.1, opening=(None,))],
        [learnt("naive", 0, 0.001), learnt("aten", 0, 0.001)],
    ],
    ids=["nothing", "not finite", "parts from the first", "one seed"],
)
def test_a_document_of_what_is_not_known_is_one_too(curves):
    document(*curves)


def test_the_list_tells_of_each_workload_what_it_needs_and_when_it_is_learnt(capsys):
    workloads.list_workloads()
    said = " ".join(capsys.readouterr().out.split())
    for each in WORKLOADS.values():
        assert each.name in said
        assert " ".join(each.source.split()[:3]) in said
        assert f"goal {each.goal}" in said
        assert each.licence in said
    assert [each["name"] for each in workloads.listed()] == list(WORKLOADS)
    json.dumps(workloads.listed(), allow_nan=False)
