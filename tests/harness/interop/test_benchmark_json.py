"""Our runs in pytest-benchmark's own format: its figures, its tools."""

import json
import random
import subprocess
import sys

import pytest
from pytest_benchmark.stats import Stats
from synthetic_runs import HOSTILE, blocks, case, grid, record, run

from lstm_harness.interop import benchmark_json


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 13, 50, 51, 53])
def test_figures_are_those_pytest_benchmark_derives(count):
    rng = random.Random(count)
    data = [rng.lognormvariate(-7, 1) for _ in range(count)]
    theirs = Stats()
    theirs.data = data
    ours = benchmark_json.stats(data)
    assert set(ours) == set(Stats.fields)
    for name, value in theirs.as_dict().items():
        exact = isinstance(value, str | int)
        assert ours[name] == (value if exact else pytest.approx(value, rel=1e-12)), name


def test_every_sample_is_there_in_seconds_and_in_order_of_blocks():
    of = case()
    records = [
        record("naive", (3_000, 4_000), block=1, of=of),
        record("naive", (1_000, 2_000), block=0, of=of),
    ]
    (one,) = benchmark_json.document(run(records))["benchmarks"]
    assert one["stats"]["data"] == [1e-6, 2e-6, 3e-6, 4e-6]
    assert [block["samples"] for block in one["extra_info"]["blocks"]] == [2, 2]
    assert one["extra_info"]["backend"] == "naive"
    assert one["extra_info"]["problem"] == of.problem.to_dict()


def test_a_cell_without_a_time_is_kept_apart_with_all_its_blocks():
    records = [*blocks("aten", [5, 6]), record("naive", block=0)]
    records += [record("naive", block=1, status="crashed")]
    document = benchmark_json.document(run(records))
    assert [one["extra_info"]["backend"] for one in document["benchmarks"]] == ["aten"]
    assert [r["status"] for r in document["lstm_bench"]["failed"]] == ["ok", "crashed"]


def compare(folder, *files):
    return subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *map(str, files)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_exports_compare_in_pytest_benchmark_itself(tmp_path):
    names = ["naive", "aten", *(name for name in HOSTILE if len(name) < 100)]
    for number in (1, 2):
        records = grid(names, block_count=2, seq_len=(32,), batch=(1,), seed=number)
        content = benchmark_json.as_bytes(run(records))
        (tmp_path / f"{number}.json").write_bytes(content)
    done = compare(tmp_path, "1.json", "2.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("naive lstm T32 B1 H128 float32 forward") == 2
    assert f"benchmark 'lstm T32 B1 H128 float32 forward': {2 * len(names)} tests" in done.stdout


def test_what_pytest_benchmark_cannot_load_it_says(tmp_path):
    (tmp_path / "bad.json").write_text(json.dumps({"benchmarks": [{}]}))
    done = compare(tmp_path, "bad.json")
    assert "Failed to load" in done.stdout + done.stderr
