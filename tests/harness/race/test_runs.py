"""The main job end to end: what one command leaves, and that a seed repeats it."""

import json
from pathlib import Path

import pytest
from bench import bench, manifest_of, records_of
from jsonschema import Draft202012Validator
from told_noise import but_noise

import lstm_harness
from lstm_harness.model.plan import Plan
from lstm_harness.store import run_folder
from lstm_harness.store.kept_limits import NONE_KEPT

SCHEMAS = Path(lstm_harness.__file__).parent / "model" / "schemas"
GRID = "--seq-len 16:64:x2 --batch 1,8 --pass inference,forward,backward"
OUTPUTS = {"y", "h_n", "c_n"}
GRADIENTS = {"d_x", "d_h0", "d_c0", "d_w_ih", "d_w_hh", "d_b_ih", "d_b_hh"}

pytestmark = pytest.mark.xdist_group("the run of 72")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    how = "--hidden 8 --blocks 2 --threads 1 --time-budget 2 --seed 3 --label mine --out race"
    return bench(f"run --backend naive,aten {GRID} {how}", folder), folder / "race"


@pytest.fixture(scope="module")
def records(done):
    return records_of(done[1])


def validator(name):
    return Draft202012Validator(json.loads((SCHEMAS / name).read_text()))


def test_it_ends_well_and_names_the_report_last(done):
    process, folder = done
    assert process.returncode == 0, process.stderr
    assert but_noise(process.stderr) == [NONE_KEPT]
    assert process.stdout.splitlines()[-1] == "race/report.html"
    assert (folder / "report.html").stat().st_size > 100_000


def test_nothing_but_the_run_is_left(done):
    folder = done[1]
    assert {p.name for p in folder.iterdir()} == {"run.json", "records.jsonl", "report.html"}
    assert [p.name.endswith(".lock") for p in (folder.parent / "tmp").iterdir()] == [True]


def test_every_cell_has_its_records_and_none_twice(records):
    cells = {(r["block"], r["backend"], r["pass"], json.dumps(r["problem"])) for r in records}
    assert len(records) == len(cells) == 72
    assert {r["status"] for r in records} == {"ok"}


def test_records_and_manifest_follow_the_schemas_we_ship(done, records):
    check = validator("record.schema.json")
    for record in records:
        check.validate(record)
    validator("run.schema.json").validate(manifest_of(done[1]))


def test_schema_refuses_a_time_on_what_is_not_ok(records):
    check = validator("record.schema.json")
    assert not check.is_valid(records[0] | {"status": "incorrect", "reason": "y wrong"})
    assert not check.is_valid({k: v for k, v in records[0].items() if k != "samples_ns"})


def test_each_has_ten_samples_or_more_and_evidence_beside_each(records):
    for record in records:
        count = len(record["samples_ns"])
        assert count >= 10
        for beside in ("cpu_ns", "steal_ms", "involuntary_switches"):
            assert len(record[beside]) == count
        assert set(record["marked"]) <= set(range(count))
        assert record["stopped_by"] in ("rel_ci", "budget")


def test_every_tensor_is_compared_with_float64(records):
    for record in records:
        assert set(record["errors"]) >= OUTPUTS
        if record["pass"] == "backward":
            assert set(record["errors"]) >= GRADIENTS
        assert max(record["errors"].values()) <= record["tolerance"] == 1e-5


def test_records_stand_in_the_order_the_seed_gives(done, records):
    plan = Plan.from_dict(manifest_of(done[1])["plan"])
    planned = [cell for block in range(2) for cell in plan.block_order(3, block)]
    assert [r["order"] for r in records] == [cell.order for cell in planned] == list(range(72))
    written = [(r.block, r.backend, r.case) for r in run_folder.load(done[1]).records]
    assert written == [(cell.block, cell.backend, cell.case) for cell in planned]
    others = [
        (c.block, c.backend, c.case) for block in range(2) for c in plan.block_order(4, block)
    ]
    assert written != others


def test_manifest_tells_what_ran_and_where(done):
    manifest = manifest_of(done[1])
    assert (manifest["seed"], manifest["label"], manifest["id"]) == (3, "mine", "race")
    assert manifest["end"] >= manifest["start"]
    assert manifest["environment"]["cpu"]["threads"] == 1
    assert len(manifest["kernels_digest"]) == 64
    assert manifest["plan"]["planned_records"] == 72


def test_report_can_be_made_again_elsewhere(done, command):
    code, out, _ = command("report", done[1], done[1], "-o", "both.html")
    assert (code, out) == (0, "both.html\n")
    assert Path("both.html").stat().st_size > 100_000


def test_json_is_one_document(document):
    small = "--backend aten --seq-len 2 --batch 1 --hidden 4 --pass inference"
    how = "--blocks 1 --threads 1 --min-samples 3 --time-budget 1"
    found = document("run", *small.split(), *how.split(), "--json")
    assert found["statuses"] == {"ok": 1}
    assert found["records"] == 1
    assert [row["backend"] for row in found["fastest"]] == ["aten"]
    assert Path(found["report"]).parent == Path(found["run"])
    assert Path(found["run"]).parent == Path("results/runs")
