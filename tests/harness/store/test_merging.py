"""Parts of one plan become one run; what does not belong together is refused in one line."""

import json
from importlib.resources import files
from itertools import product

import jsonschema
import pytest
from saved_runs import save
from synthetic_runs import case, environment, manifest, record

from lstm_harness.history import run_digest
from lstm_harness.judge.comparison import compare_runs, is_paired, side_of_run
from lstm_harness.judge.verdict import Kind
from lstm_harness.model.errors import UserError
from lstm_harness.model.part import Part
from lstm_harness.model.plan import Plan
from lstm_harness.report.page import notes
from lstm_harness.report.tables import plan_facts
from lstm_harness.store import run_folder
from lstm_harness.store.merging import merged

BACKENDS = ("naive", "aten")
CASES = tuple(case(seq_len=steps) for steps in (8, 16, 32))
PLAN = Plan(BACKENDS, CASES, blocks=4, device="cpu", skips={}, absent={})
HALVES = (Part((0, 1, 2), (0, 1)), Part((0, 1, 2), (2, 3)))
SHARDS = (Part((0,), (0, 1, 2, 3)), Part((1, 2), (0, 1, 2, 3)))


def records_of(part, machine="one", plan=PLAN):
    """What a machine measures of a part; it takes the same time for the same cell and block."""
    cells = product(part.blocks, part.cases, BACKENDS)
    return [
        record(
            name,
            (10_000 * (place + 1) + block,) * 3,
            block=block,
            of=plan.cases[place],
            machine=machine,
        )
        for block, place, name in cells
    ]


def saved(folder, part, machine="one", records=None, plan=PLAN, **fields):
    """A run of a part, as a machine of the class would have left it."""
    made = records_of(part, machine, plan) if records is None else records
    facts = {"environment": environment() | {"host": machine}} | fields
    stored = plan.to_dict() | {"planned_records": plan.records_of(part)}
    return save(folder, made, plan=stored, part=part.to_dict(), **facts)


@pytest.mark.parametrize("parts", [HALVES, SHARDS])
def test_parts_of_several_machines_become_an_ordinary_run(tmp_path, parts):
    places = [
        saved(tmp_path / name, part, name, start=f"2026-01-0{day}T00:00:00+00:00")
        for day, (name, part) in enumerate(zip(("one", "two"), parts, strict=True), start=1)
    ]
    whole = run_folder.load(merged(places[::-1], tmp_path / "whole"))
    everything = {r.identity: r.samples_ns for part in parts for r in records_of(part)}
    assert {r.identity: r.samples_ns for r in whole.records} == everything
    assert len(whole.records) == len(everything) == PLAN.planned_records
    assert [r.order for r in whole.records] == list(range(PLAN.planned_records))
    assert [r.machine for r in whole.records][:2] == ["one", "one"]
    assert whole.machines == ("one", "two")
    assert not whole.edited
    told = whole.manifest
    assert (told["id"], told["start"][:10]) == ("whole", "2026-01-01")
    assert told["end"] is not None
    assert "part" not in told
    assert Plan.from_dict(told["plan"]) == PLAN
    assert told["plan"]["planned_records"] == PLAN.planned_records
    assert told["environment"]["host"] == "one, two"
    assert [part["machines"] for part in told["parts"]] == [["one"], ["two"]]
    assert [part["part"] for part in told["parts"]] == [part.to_dict() for part in parts]
    text = (files("lstm_harness.model") / "schemas" / "run.schema.json").read_text()
    jsonschema.validate(told, json.loads(text))
    assert run_digest.quick(tmp_path / "whole").lacks == 0
    assert any("Measured on 2 machines" in said for said in notes(whole))
    assert dict(plan_facts(whole, "whole"))["Machines"].startswith("one (")
    assert side_of_run(whole).notes == (f"{told['label']} was measured on 2 machines",)
    kinds = {v.kind for v in compare_runs(whole, whole).verdicts if v.measure == "time"}
    assert kinds == ({Kind.INCONCLUSIVE} if parts == HALVES else {Kind.SAME})


def test_what_is_lost_is_said_and_can_be_merged_later(tmp_path):
    half = saved(tmp_path / "half", HALVES[0])
    torn = run_folder.load(merged([half], tmp_path / "torn"))
    assert (len(torn.records), torn.manifest["end"]) == (12, None)
    assert torn.manifest["plan"]["planned_records"] == 24
    assert any("Incomplete: 12 of 24" in said for said in notes(torn))
    again = saved(tmp_path / "again", HALVES[1], "two")
    whole = run_folder.load(merged([tmp_path / "torn", again, half], tmp_path / "whole"))
    assert len(whole.records) == 24
    assert whole.manifest["end"] is not None


def test_a_part_that_was_killed_gives_what_it_has(tmp_path):
    records = records_of(HALVES[0])[:5]
    killed = saved(tmp_path / "killed", HALVES[0], records=records, end=None)
    with (killed / run_folder.RECORDS).open("ab") as file:
        file.write(b'{"schema": 1, "torn')
    whole = run_folder.load(merged([killed], tmp_path / "whole"))
    assert [r.identity for r in whole.records] == [r.identity for r in records]


def test_cases_that_got_more_blocks_keep_them(tmp_path):
    grown = PLAN.with_blocks([(1, 4), (1, 5)])
    first = saved(tmp_path / "first", Part((0, 1, 2), (0, 1, 2, 3)))
    more = saved(tmp_path / "more", Part((1,), (4, 5)), plan=grown)
    whole = run_folder.load(merged([first, more], tmp_path / "whole"))
    assert Plan.from_dict(whole.manifest["plan"]) == grown
    assert len(whole.records) == grown.planned_records == 28
    assert whole.manifest["end"] is not None


def test_both_sides_of_pairs_stay_a_pair(tmp_path):
    sides = []
    for side in ("base", "new"):
        places = [
            saved(tmp_path / f"{side}-{number}", part, f"m{number}", pair=f"p{number}")
            for number, part in enumerate(HALVES)
        ]
        sides.append(side_of_run(run_folder.load(merged(places, tmp_path / side))))
    assert is_paired(*sides)
    alone = saved(tmp_path / "alone", HALVES[1])
    with pytest.raises(UserError, match="other pair;"):
        merged([tmp_path / "base-0", alone], tmp_path / "mixed")


OTHER = environment()
REFUSED = [
    ({"seed": 2}, "seed"),
    ({"spec": manifest()["spec"] | {"min_samples": 99}}, "spec"),
    ({"plan": PLAN.only(("naive",), {c.label() for c in CASES})}, "plan"),
    ({"kernels_digest": "other"}, "the kernels' sources"),
    ({"environment": OTHER | {"torch": "1.0"}}, "torch"),
    ({"environment": OTHER | {"cpu": {"model": "another"}}}, "cpu"),
    ({"environment": OTHER | {"gpu": {"name": "A GPU", "uuid": "1"}}}, "gpu"),
    ({"environment": OTHER | {"settings": {"mkl": False}}}, "settings"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_is_not_of_the_same_run_is_refused(tmp_path, fields, says):
    first = saved(tmp_path / "first", HALVES[0])
    if says == "plan":
        records = [r for r in records_of(HALVES[1]) if r.backend == "naive"]
        other = saved(tmp_path / "other", HALVES[1], records=records, **fields)
    else:
        other = saved(tmp_path / "other", HALVES[1], **fields)
    with pytest.raises(UserError, match=f"{other} is not a part .* as {first}: other {says};"):
        merged([first, other], tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_tuned_parameters_must_be_the_same(tmp_path):
    first, other = (
        saved(
            tmp_path / digest,
            part,
            environment=environment()
            | {"tuned": {"aten": {"used": {"digest": digest, "date": "2026-01-01"}}}},
        )
        for digest, part in zip("ab", HALVES, strict=True)
    )
    with pytest.raises(UserError, match="other tuned parameters;"):
        merged([first, other], tmp_path / "whole")


def test_a_record_twice_must_be_the_same(tmp_path):
    first = saved(tmp_path / "first", HALVES[0])
    same = saved(tmp_path / "same", HALVES[0])
    assert len(run_folder.load(merged([first, same], tmp_path / "once")).records) == 12
    slower = records_of(HALVES[0])
    slower[3] = record("aten", (99_999,) * 3, block=0, of=CASES[1], machine="one")
    other = saved(tmp_path / "other", HALVES[0], records=slower)
    with pytest.raises(UserError, match=r"both have aten on .*T16.*, block 0, and not the same"):
        merged([first, other], tmp_path / "whole")


def test_an_edited_run_and_an_empty_one_are_refused(tmp_path):
    edited = saved(tmp_path / "edited", HALVES[0], records_sha256="0" * 64)
    with pytest.raises(UserError, match="not those that the run wrote"):
        merged([edited], tmp_path / "whole")
    empty = saved(tmp_path / "empty", HALVES[0], records=[])
    with pytest.raises(UserError, match="has no records"):
        merged([empty], tmp_path / "whole")
    used = saved(tmp_path / "used", HALVES[0])
    with pytest.raises(UserError, match="already used"):
        merged([used], used)


def test_a_plan_that_is_given_numbers_the_cases_of_the_parts(tmp_path):
    whole = PLAN.of_cases([2, 0, 1])
    half = saved(tmp_path / "half", Part((0, 2), (1,)), plan=PLAN)
    found = run_folder.load(merged([half], tmp_path / "whole", plan=whole)).manifest
    assert Plan.from_dict(found["plan"]) == whole
    assert [part["part"] for part in found["parts"]] == [{"cases": [1, 0], "blocks": [1]}]
    with pytest.raises(UserError, match=f"{half} is not a part of the plan;"):
        merged([half], tmp_path / "other", plan=PLAN.of_cases([0, 1]))


def test_many_machines_are_named_by_a_digest(tmp_path):
    places = [
        saved(
            tmp_path / f"m{block}",
            Part((0,), (block,)),
            f"m{block}",
            plan=PLAN.with_blocks([(0, 5)]),
        )
        for block in range(6)
    ]
    host = run_folder.load(merged(places, tmp_path / "whole")).manifest["environment"]["host"]
    assert host.startswith("6 of them, ")
