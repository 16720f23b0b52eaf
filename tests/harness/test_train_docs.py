"""The table of docs/train.md is what the committed trainings show."""

import re

import pytest
from places import ROOT

from lstm_harness.analysis.training import agreements, baseline, contestants
from lstm_harness.model.text import significant
from lstm_harness.model.workloads import WORKLOADS
from lstm_harness.store import training_folder

TRAININGS = ROOT / "results" / "amd-epyc-zen3-2core" / "train"
# By workload: the baseline, what the first to the goal ends at, seconds to it of three backends.
ROWS = {
    name: [cell.strip() for cell in rest.split("|")]
    for name, rest in re.findall(
        r"^\| \[`(\S+)`\]\(\S+\) \| (.*) \|$",
        (ROOT / "docs" / "train.md").read_text(),
        re.MULTILINE,
    )
}


def trained(name):
    found = training_folder.load(TRAININGS / name)
    assert not found.edited
    assert found.manifest.end is not None
    return found


def test_every_workload_is_there():
    assert list(ROWS) == list(WORKLOADS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_its_training_shows(name):
    found, workload = trained(name), WORKLOADS[name]
    assert found.manifest.spec.seeds == (0, 1, 2)
    standing = {one.backend: one for one in contestants(found.curves, workload)}
    assert all(len(one.reached) == 3 and not one.learns_otherwise for one in standing.values())
    seconds = [
        significant(standing[each].seconds_to_goal.median, 3) if each in standing else ""
        for each in ("numba_cpu", "aten", "naive")
    ]
    ends, _ = standing["numba_cpu"].value
    known = [significant(baseline(found.curves), 3), significant(ends, 3)]
    assert [*known, *seconds] == ROWS[name]
    agreed = agreements(list(standing.values()), workload.goal)
    assert agreed
    assert all(each.holds for each in agreed)


def test_a_plain_rnn_does_not_learn_to_add_where_others_do():
    found = trained("adding-cells")
    standing = {one.cell: one for one in contestants(found.curves, WORKLOADS["adding"])}
    assert {cell: len(one.reached) for cell, one in standing.items()} == {
        **{"rnn_tanh": 0, "gru": 3, "lstm": 3},
    }
    least = min(
        point.held_out["mean squared error"]
        for one in standing["rnn_tanh"].curves
        for point in one.points
    )
    assert least > 0.1
