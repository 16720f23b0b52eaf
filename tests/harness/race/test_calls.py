"""A race of layers that are called in several ways, from the command line to the page."""

import json
from pathlib import Path

import pytest

from lstm_harness.model.case import CALL_FIELDS, PLAIN, Call
from lstm_harness.store import run_folder

SMALL = "--seq-len 3 --batch 2 --hidden 4 --threads 1 --device cpu"
CALLS = "--batch-first true,false --autocast none,bfloat16,float16"
HALF = """
from lstm_kernels import Backend
from lstm_kernels.backends import naive

class Wide:
    layer = staticmethod(naive.layer)

    @staticmethod
    def unsupported(problem, device):
        return "no float16" if problem.dtype == "float16" else None

class Neither(Wide):
    @staticmethod
    def unsupported(problem, device):
        return f"no {problem.dtype}" if problem.dtype in ("float16", "float32") else None

BACKENDS = [
    Backend("wide", __name__ + ":Wide", "no float16", ("cpu",)),
    Backend("neither", __name__ + ":Neither", "neither float16 nor float32", ("cpu",)),
]
"""


@pytest.fixture(scope="module")
def raced(bench_in, tmp_path_factory):
    """A run of every call, and its folder."""
    folder = tmp_path_factory.mktemp("calls")
    how = "--backend naive,aten --pass inference,train --blocks 1 --time-budget 2 --quiet"
    done = bench_in(f"run {SMALL} {CALLS} {how} --out race", folder)
    assert done.returncode == 0, done.stderr
    return done, folder / "race"


def test_every_call_is_raced_and_recorded(raced):
    _, folder = raced
    records = run_folder.load(folder).records
    assert len(records) == 2 * 2 * 3 * 2
    assert {(record.status, record.reason) for record in records} == {("ok", "")}
    assert {record.case.call for record in records} == {
        Call(first, to) for first in (True, False) for to in ("none", "bfloat16", "float16")
    }
    bounds = {record.case.call.autocast: record.tolerance for record in records}
    assert bounds == {"none": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}
    for record in records:
        assert 0 < max(record.errors.values()) < record.tolerance
        assert record.case.problem.dtype == "float32"


def test_a_plain_call_is_stored_as_before_there_were_others(raced):
    _, folder = raced
    stored = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    told = [{name: each[name] for name in CALL_FIELDS if name in each} for each in stored]
    assert told.count({}) == 4
    assert {"batch_first": True, "autocast": "float16"} in told


def test_tables_and_pages_name_the_call(raced, command):
    done, folder = raced
    assert "batch-first autocast-bfloat16" in done.stdout
    code, out, err = command("report", str(folder), "-o", "page.html")
    assert (code, out) == (0, "page.html\n"), err
    page = Path("page.html").read_text()
    assert "Batch first" in page
    assert "Autocast" in page


def test_who_refuses_autocasts_dtype_computes_in_float32_and_who_refuses_both_is_out(
    here, document
):
    (here / "half.py").write_text(HALF)
    given = f"--plugin half.py --backend wide,neither {SMALL} {CALLS} --pass inference"
    planned = document("plan", *given.split(), "--json")
    skipped = {(skip["backend"], skip["reason"]) for skip in planned["skips"]}
    assert skipped == {("neither", "no float32")}
    calls = [Call.from_dict(planned["cases"][skip["case"]]).autocast for skip in planned["skips"]]
    assert sorted(calls) == ["float16", "float16", "none", "none"]
    checked = document("verify", *given.split(), "--json", "--quiet")
    wide = [row for row in checked if row["backend"] == "wide"]
    assert {row["status"] for row in wide} == {"ok"}
    assert sum(Call.from_dict(row) == PLAIN for row in wide) == 1


def test_dropout_is_raced_in_training_alone(bench_in, tmp_path):
    how = "--layers 2 --dropout 0,0.3 --pass inference,train --backend naive,aten --blocks 1"
    done = bench_in(f"run {SMALL} {how} --time-budget 1 --quiet --out race", tmp_path)
    assert done.returncode == 0, done.stderr
    records = run_folder.load(tmp_path / "race").records
    assert {(record.status, record.reason) for record in records} == {("ok", "")}
    told = sorted((record.case.pass_name, record.case.call.dropout) for record in records)
    assert told == 2 * [("inference", 0.0)] + 2 * [("train", 0.0)] + 2 * [("train", 0.3)]
    assert "dropout-0.3" in done.stdout
