"""pytest-benchmark's JSON as a run: the same cases and times, nothing believed unseen."""

import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator
from synthetic_runs import HOSTILE, blocks, case, grid, record
from synthetic_store import environment, put

from lstm_harness.analysis.correctness import correctness_by_backend
from lstm_harness.analysis.summary import plain_rows, summarise
from lstm_harness.history import index, series
from lstm_harness.interop import benchmark_json
from lstm_harness.store import run_folder


def validator(name):
    text = (files("lstm_harness.model") / "schemas" / f"{name}.schema.json").read_text()
    return Draft202012Validator(json.loads(text))


RECORD, RUN = validator("record"), validator("run")


def benchmark(data=(1e-3, 1.1e-3, 1.2e-3), backend="naive", of=None, **info):
    """One entry as tests/perf/test_backends.py makes it."""
    who = benchmark_json.extra_info(backend, of or case(), **info)
    name = f"tests/perf/test_backends.py::test_backend[{backend}]"
    return {"fullname": name, "extra_info": who, "stats": {"data": list(data), "iterations": 1}}


def written(path, *benchmarks, measured_on=None, commit="c" * 40, **fields):
    """A file as pytest-benchmark writes it."""
    facts = benchmark_json.machine_facts(measured_on or environment(), "0123")
    document = {
        "machine_info": {"node": "bench-host", "lstm_bench": facts},
        "commit_info": {"id": commit, "dirty": False},
        "benchmarks": list(benchmarks),
        "datetime": "2026-02-01T10:00:00+00:00",
        "version": "5.3.1",
    }
    path.write_text(json.dumps(document | fields))
    return path


@pytest.fixture
def imported(command, here):
    """Import files; returns the run and what was said on stderr."""

    def go(*files):
        code, out, err = command("import", *files, "-o", "run")
        assert code == 0, err
        assert out == "run\n"
        return run_folder.load(here / "run"), err

    return go


def cells(run):
    summary = summarise(run.records)
    names = ["backend", "label", "status", "median_ns", "block_medians_ns", "marked_share"]
    return {tuple(str(row[name]) for name in names) for row in plain_rows(summary)}


def test_there_and_back_has_the_same_cases_blocks_and_medians(command, imported, here):
    records = [
        *grid(block_count=3, seq_len=(32,), batch=(1, 4), passes=("forward", "train")),
        *blocks("numba_cpu", [10, 20, 31], of=case("inference"), marked=(1,)),
        *blocks("cudnn", [7, 8], of=case(device="cuda", launch="graph", cache="cold")),
    ]
    put(here / "first", records, plan={"device": "cuda"})
    command("export", "first", "--format", "pytest-benchmark", "-o", "x.json")
    run, _ = imported("x.json")
    assert cells(run) == cells(run_folder.load(here / "first"))
    assert run.manifest["environment"]["torch"] == "2.13.0"
    assert run.manifest["plan"]["device"] == "cuda"
    for each in run.records:
        RECORD.validate(json.loads(json.dumps(each.to_dict())))
    RUN.validate(run.manifest)


def test_failures_come_back_as_they_went(command, imported, here):
    failed = [record("naive", block=0), record("naive", block=1, status="timed_out")]
    put(here / "first", [*blocks("aten", [5, 6]), *failed])
    command("export", "first", "--format", "pytest-benchmark", "-o", "x.json")
    run, _ = imported("x.json")
    assert cells(run) == cells(run_folder.load(here / "first"))


def test_nothing_that_comes_from_elsewhere_counts_as_checked(command, imported, here):
    put(here / "first", blocks("naive", [5, 6, 7]))
    command("export", "first", "--format", "pytest-benchmark", "-o", "x.json")
    boasting = json.loads((here / "x.json").read_text())
    for block in boasting["benchmarks"][0]["extra_info"]["blocks"]:
        block |= {"errors": {"y": 0.0}, "tolerance": 1.0}
    (here / "x.json").write_text(json.dumps(boasting))
    run, _ = imported("x.json")
    assert {(len(r.errors), r.tolerance) for r in run.records} == {(0, None)}
    (row,) = plain_rows(correctness_by_backend(summarise(run.records)))
    assert row["verdict"] == "not checked"
    code, out, _ = command("report", "run")
    assert code == 0
    assert "not checked" in (here / out.strip()).read_text()


def test_a_file_is_a_block_and_fewer_than_three_prove_nothing(imported, here, command):
    files = [written(here / f"{n}.json", benchmark([1e-3 * n] * 3)) for n in (1, 2, 3)]
    run, said = imported(*files)
    assert [(r.block, r.samples_ns[0]) for r in run.records] == [
        (0, 10**6),
        (1, 2 * 10**6),
        (2, 3 * 10**6),
    ]
    assert said == ""
    _, _, said = command("import", files[0], "-o", "one")
    assert said.startswith("1 of the 3 blocks that a verdict needs")
    assert said.count("\n") == 1


def test_an_imported_run_has_a_history(imported, here):
    imported(written(here / "x.json", benchmark()))
    (one,) = series.gather(index.refresh(here)).series
    assert one.times_ns == (1_100_000.0,)


def test_what_a_file_does_not_say_is_unknown(imported, here):
    plain = {"machine_info": {"node": "n", "cpu": {"brand_raw": "C"}, "python_version": "3.12.1"}}
    run, _ = imported(written(here / "x.json", benchmark(), **plain))
    facts = run.manifest["environment"]
    assert (facts["host"], facts["cpu"], facts["python"]) == ("n", {"model": "C"}, "3.12.1")
    assert facts["torch"] is None
    assert facts["git"] == {"commit": "c" * 40, "dirty": False}
    RUN.validate(run.manifest)


def test_strangers_in_a_file_are_left_out_and_told(imported, here):
    foreign = {"fullname": "test_sort", "extra_info": {}, "stats": {"data": [1.0]}}
    run, said = imported(
        written(here / "x.json", foreign, benchmark(), foreign | {"extra_info": None})
    )
    assert len(run.records) == 1
    why = "because their extra_info names no backend and problem"
    assert f"2 benchmarks left out, {why}: test_sort" in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"benchmarks": []}, "none of its 0 benchmarks says what it measured"),
        ({"benchmarks": [{"stats": {}}]}, "expected extra_info with backend and problem"),
        ({"benchmarks": None}, "is not the JSON of pytest-benchmark"),
        ({"benchmarks": [7]}, "is not the JSON of pytest-benchmark"),
        ({"benchmarks": [benchmark([])]}, "has no samples; write the file with --benchmark-json"),
        ({"benchmarks": [benchmark([0.0])]}, "one or more above 0 ns"),
        ({"benchmarks": [benchmark([-1.0])]}, "one or more above 0 ns"),
        ({"benchmarks": [benchmark([1e999])]}, "is not the JSON of pytest-benchmark"),
        ({"benchmarks": [benchmark(["fast"])]}, "stats.data[0] is 'fast'; expected float"),
        ({"benchmarks": [benchmark(), benchmark()]}, "appears twice"),
        ({"benchmarks": [benchmark(problem={"cell": "lstm"})]}, "is not as expected"),
        ({"benchmarks": [benchmark(problem=None)]}, "is not as expected"),
        ({"benchmarks": [benchmark(**{"pass": "sideways"})]}, "pass 'sideways'; expected one of"),
        ({"benchmarks": [benchmark(device="tpu")]}, "device 'tpu'; expected one of cpu, cuda"),
        ({"benchmarks": [benchmark(device="cuda", launch=[])]}, "is not as expected"),
        ({"benchmarks": [benchmark(blocks=[{"block": 0, "samples": 2}])]}, "do not add up"),
        ({"benchmarks": [benchmark(blocks=[{"block": -1, "samples": 3}])]}, "block -1"),
        ({"benchmarks": [benchmark(blocks=[{"samples": 3}])]}, "is not as expected"),
        ({"lstm_bench": {"failed": [{}]}}, "'status' is missing"),
        ({"lstm_bench": {"failed": [7]}}, "lstm_bench.failed[0] is 7; expected an object"),
        ({"machine_info": {"lstm_bench": {"environment": [1]}}}, "is not the JSON"),
        ({"machine_info": {"lstm_bench": {"environment": {"git": "HEAD"}}}}, "is not the JSON"),
        ({"machine_info": []}, "is not the JSON of pytest-benchmark"),
        ({"datetime": None}, "is not the JSON of pytest-benchmark"),
        ({"datetime": "today"}, "is not the JSON of pytest-benchmark"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_file_that_says_too_little_is_refused_in_one_line(refused, here, change, says):
    fields = {"benchmarks": [benchmark()]} | change
    written(here / "x.json", **fields)
    assert says in refused("import", "x.json", "-o", "run")
    assert not (here / "run").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "[" * 100_000, '{"benchmarks": [NaN]}'])
def test_what_is_no_such_json_is_refused_in_one_line(refused, here, content):
    (here / "x.json").write_text(content)
    assert "is not the JSON of pytest-benchmark" in refused("import", "x.json", "-o", "run")


def test_a_number_that_no_run_can_hold_is_refused(refused, here):
    text = written(here / "x.json", benchmark()).read_text()
    (here / "x.json").write_text(text.replace('"ram_bytes": 25000000000', '"ram_bytes": 1e999'))
    assert "ram_bytes is inf; expected int" in refused("import", "x.json", "-o", "run")
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"measured_on": environment(torch="3.0")}, "torch 2.13.0 -> 3.0"),
        ({"measured_on": environment(cpu={"model": "B"})}, "cpu.model A CPU -> B"),
        ({"measured_on": environment(git={"commit": "d" * 40})}, "commit"),
    ],
)
def test_blocks_of_two_machines_or_revisions_are_no_run(refused, here, other, says):
    written(here / "a.json", benchmark())
    written(here / "b.json", benchmark(), **other)
    said = refused("import", "a.json", "b.json", "-o", "run")
    assert "b.json is not another block of a.json" in said
    assert says in said


def test_files_of_several_machines_of_one_class_are_one_run(imported, here):
    names = ("a", "b", "c", "a")
    for number, host in enumerate(names):
        data = [1e-3 + 1e-5 * number] * 3
        written(here / f"{number}.json", benchmark(data), measured_on=environment(host=host))
    run, _ = imported(*(f"{number}.json" for number in range(4)))
    assert [(r.block, r.machine) for r in run.records] == list(enumerate(names))
    assert run.machines == ("a", "b", "c")
    assert run.manifest["environment"]["host"] == "a, b, c"
    RUN.validate(run.manifest)


def test_mistakes_with_places_are_told_in_one_line(refused, here):
    written(here / "x.json", benchmark())
    put(here / "run", [])
    assert "already used" in refused("import", "x.json", "-o", "run")
    assert "; give what pytest" in refused("import", "nowhere.json", "-o", "new")


def test_without_a_place_a_run_goes_where_runs_go(command, here):
    written(here / "x.json", benchmark())
    code, out, _ = command("import", "x.json")
    assert code == 0
    assert out.startswith("results/runs/")
    assert out.endswith("-imported\n")


def test_hostile_names_come_in_as_they_are(imported, here):
    entries = [benchmark(backend=name) for name in HOSTILE]
    run, _ = imported(written(here / "x.json", *entries))
    assert {r.backend for r in run.records} == set(HOSTILE)


def test_two_imported_runs_are_compared(command, here):
    for name, slower in (("base", 1.0), ("new", 1.5)):
        files = [
            written(here / f"{name}{n}.json", benchmark([1e-3 * slower * (1 + n / 1000)] * 3))
            for n in range(3)
        ]
        assert command("import", *files, "-o", name)[0] == 0
    code, out, err = command("compare", "base", "new", "--json")
    assert code == 0, err
    (verdict,) = json.loads(out)["verdicts"]
    assert verdict["kind"] == "REGRESSION"
    assert verdict["ratio"] == pytest.approx(1.5)


def test_one_block_each_proves_nothing(command, here):
    for name in ("base", "new"):
        written(here / f"{name}.json", benchmark())
        command("import", f"{name}.json", "-o", name)
    _, out, _ = command("compare", "base", "new", "--json")
    assert [verdict["kind"] for verdict in json.loads(out)["verdicts"]] == ["INCONCLUSIVE"]


def test_a_file_given_twice_is_no_second_block(refused, here):
    one = written(here / "one.json", benchmark())
    copy = written(here / "copy.json", benchmark(), datetime="2026-02-02T10:00:00+00:00")
    line = refused("import", one, copy, "-o", "run")
    assert "copy.json has the same samples as" in line
    assert not (here / "run").exists()
