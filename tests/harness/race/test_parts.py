"""A part of a plan is measured by itself: its cells and no other, on any device of the class."""

import socket

import pytest
from bench import manifest_of, records_of

from lstm_harness.model.errors import UserError
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.model.spec import build
from lstm_harness.race import runs
from lstm_harness.race.runs import Watch, run_part
from lstm_harness.store import run_folder

AXES = {"seq-len": "2,3,4", "batch": "1", "hidden": "4", "pass": "inference"}
HOW = {"blocks": 3, "threads": 1, "min_samples": 3, "time_budget_s": 9.0}
PART = Part(cases=(0, 2), blocks=(1,))


@pytest.fixture
def whole(here, forked):
    """The manifest of a run of three cases in three blocks, of which nothing was measured."""
    spec = build(None, AXES, HOW | {"backends": ("aten", "naive")})
    survey, plan = runs.make(spec)
    return runs.manifest_of(here / "whole", spec, plan, survey)


def elsewhere(manifest, **facts):
    """The manifest as another machine would have made it."""
    return manifest | {"environment": manifest["environment"] | facts}


def identities(folder):
    return [record.identity for record in run_folder.load(folder).records]


def test_a_part_is_measured_and_goes_on_where_it_was_killed(whole, here):
    told = []
    watch = Watch(planned=lambda total, done: told.append((total, done)))
    assert run_part(elsewhere(whole, host="another"), PART, here / "part", watch) == here / "part"
    plan = Plan.from_dict(whole["plan"])
    wanted = {(1, name, plan.cases[place]) for name in plan.backends for place in (0, 2)}
    assert set(identities(here / "part")) == wanted
    assert len(identities(here / "part")) == 4
    assert [record["order"] for record in records_of(here / "part")] == [0, 1, 2, 3]
    assert {record["machine"] for record in records_of(here / "part")} == {socket.gethostname()}
    stored = manifest_of(here / "part")
    assert (stored["id"], stored["part"]) == ("part", PART.to_dict())
    assert stored["plan"]["planned_records"] == 4
    assert stored["environment"]["host"] == socket.gethostname()
    assert Plan.from_dict(stored["plan"]) == plan

    lines = (here / "part" / "records.jsonl").read_text().splitlines(keepends=True)
    (here / "part" / "records.jsonl").write_text("".join(lines[:3]))
    runs.resume(here / "part", watch)
    assert set(identities(here / "part")) == wanted
    assert told == [(4, 0), (4, 3)]


def test_a_device_of_another_class_or_with_other_software_is_refused(whole, here):
    for facts in ({"torch": "1.0"}, {"cpu": {"model": "another"}}):
        with pytest.raises(UserError, match=f"started with another {next(iter(facts))};"):
            run_part(elsewhere(whole, **facts), PART, here / "part", Watch())
    with pytest.raises(UserError, match="the kernels' sources"):
        run_part(whole | {"kernels_digest": "0" * 64}, PART, here / "part", Watch())
    with pytest.raises(ValueError, match="the plan has 3 cases"):
        run_part(whole, Part((3,), (0,)), here / "part", Watch())
    assert not (here / "part").exists()


def test_a_record_outside_the_part_is_another_runs(whole, here):
    run_part(whole, PART, here / "part", Watch())
    manifest = manifest_of(here / "part")
    run_folder.write_manifest(here / "part", manifest | {"part": {"cases": [0], "blocks": [1]}})
    with pytest.raises(UserError, match="block 1, is not in the run's plan"):
        run_folder.load(here / "part")
